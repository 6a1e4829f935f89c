"""The control plane's background work: one thread that leases due jobs, and the clock that makes them due."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from everline.access.types import SYSTEM
from everline.access.unit_of_work import UnitOfWork
from everline.errors import EverlineError
from everline.governance import audit
from everline.jobs import queue
from everline.jobs.types import Job
from everline.loader import load
from everline.monitoring import schedule, schedules
from everline.pipelines import retention
from everline.pipelines.schedules import firing
from everline.releases import advancing
from everline.runs import uploads
from everline.server import profiling
from everline.server.application import Application

_HOUR_S = 3600
log = logging.getLogger("everline.worker")

Handler = Callable[[UnitOfWork, dict[str, Any]], dict[str, Any]]


def _checkpoint(uow: UnitOfWork, _payload: dict[str, Any]) -> dict[str, Any]:
    made = audit.checkpoint(uow)
    return {"size": made.size if made else None}


def _run_monitor(uow: UnitOfWork, payload: dict[str, Any]) -> dict[str, Any]:
    # Late: the mathematics of drift is heavy, and a process that runs no monitor never needs it.
    done: dict[str, Any] = load("everline.monitoring.watch").run_job(uow, payload)
    return done


def _collect_uploads(uow: UnitOfWork, _payload: dict[str, Any]) -> dict[str, Any]:
    return uploads.collect(uow)


def _forget(uow: UnitOfWork, _payload: dict[str, Any]) -> dict[str, Any]:
    return dict(retention.forget(uow))


HANDLERS: dict[str, Handler] = {
    "artifact.collect-uploads": _collect_uploads,
    "audit.checkpoint": _checkpoint,
    "monitor.run": _run_monitor,
    "pipeline.forget": _forget,
}
"""What each kind of job does; the whole job is one unit of work."""

LONG: dict[str, Callable[[Application, str, dict[str, Any]], dict[str, Any]]] = {"dataset.profile": profiling.run_job}
"""What takes too long for one transaction, given the project; it may be done twice, if a worker dies."""


def _slots(uow: UnitOfWork) -> dict[str, str]:
    """What is due once in each slot of time: the keys of the jobs now, with their kinds."""
    now = uow.clock.now().timestamp()
    slot, hour = int(now // uow.settings.checkpoint_s), int(now // _HOUR_S)
    return {
        f"audit.checkpoint:{slot}": "audit.checkpoint",
        f"artifact.collect-uploads:{hour}": "artifact.collect-uploads",
        f"pipeline.forget:{hour}": "pipeline.forget",
    }


_PARTS: tuple[tuple[Callable[[UnitOfWork], object], Callable[[UnitOfWork], bool]], ...] = (
    (schedule.schedule_due, schedule.is_watching),
    (firing.tick, firing.is_due),
    (schedules.watch_schedules, schedules.is_due),
)
"""What the clock does, and whether there is anything to do: only that takes the database's write lock."""


class Worker:
    """Runs jobs of the queue `server` until stopped."""

    def __init__(self, application: Application) -> None:
        self._app = application
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._made_due: dict[str, str] = {}
        self._making_due: dict[str, str] = {}

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="everline-worker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the job at hand."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.tick()
                while not self._stop.is_set() and self.run_one():
                    pass
            except Exception:
                log.exception("the worker stumbled; it goes on after a pause")
            self._stop.wait(self._app.settings.poll_s)

    def tick(self) -> None:
        """Make due what the clock says; what goes wrong in one part holds up no other."""
        for part, is_due in ((self._make_due, self._is_new_slot), *_PARTS):
            try:
                with self._app.begin(SYSTEM, read_only=True) as uow:
                    due = is_due(uow)
                if due:
                    with self._app.begin(SYSTEM) as uow:
                        part(uow)
                    self._made_due = self._making_due  # it is committed
            except Exception:
                log.exception("the clock stumbled; it goes on after a pause")

        self._look_at_rollouts()

    def _look_at_rollouts(self) -> None:
        """Each rollout in a transaction of its own: what goes wrong with one holds up no other."""
        with self._app.begin(SYSTEM, read_only=True) as uow:
            due = advancing.due(uow)
        for release in due:
            try:
                with self._app.begin(SYSTEM) as uow:
                    advancing.look(uow, release)
            except Exception as error:
                log.exception("the rollout of release %s could not be looked at", release)
                with self._app.begin(SYSTEM) as uow:
                    advancing.stumbled(uow, release, error=f"{type(error).__name__}: {error}")

    def _make_due(self, uow: UnitOfWork) -> None:
        """A key for each slot keeps several replicas from doing it twice, and this one from asking again."""
        slots = _slots(uow)
        for key, kind in slots.items():
            queue.enqueue(uow, kind, {}, project="default", key=key)
        self._making_due = slots

    def _is_new_slot(self, uow: UnitOfWork) -> bool:
        return _slots(uow) != self._made_due

    def run_one(self) -> bool:
        """Run one due job, if there is any; a failing one is due again after a pause."""
        with self._app.begin(SYSTEM, read_only=True) as uow:
            if not queue.is_due(uow, queue="server"):
                return False
        with self._app.begin(SYSTEM) as uow:
            job = queue.take(uow, queue="server", worker=self._name)
        if job is None:
            return False
        try:
            if job.kind in LONG:
                result = LONG[job.kind](self._app, job.project, job.payload)
                with self._app.begin(SYSTEM) as uow:
                    queue.end(uow, job, result=result)
            else:
                with self._app.begin(SYSTEM) as uow:
                    queue.end(uow, job, result=HANDLERS[job.kind](uow, job.payload))
        except Exception as error:
            self._give_back(job, error)
        return True

    def _give_back(self, job: Job, error: Exception) -> None:
        if not isinstance(error, EverlineError):
            log.exception("job %s (%s) failed", job.uid, job.kind, exc_info=error)
        with self._app.begin(SYSTEM) as uow:
            queue.retry(uow, job, error=f"{type(error).__name__}: {error}")
