"""Webhook deliveries: threads that take due jobs, post them outside of any transaction, and write down the answer."""

from __future__ import annotations

import logging
import os
import socket
import threading

from everline.access.types import SYSTEM
from everline.errors import EverlineError, ForbiddenError, IntegrityError, InvalidInputError
from everline.jobs import queue
from everline.jobs.types import Job
from everline.loader import load
from everline.server.application import Application
from everline.webhooks import service
from everline.webhooks.outbox import QUEUE
from everline.webhooks.types import Target

log = logging.getLogger("everline.webhooks")

_FINAL = (ForbiddenError, IntegrityError, InvalidInputError)
"""What another try would not mend."""


class Deliveries:
    """Makes deliveries until stopped, a few at once, so that one slow receiver does not hold up the others."""

    def __init__(self, application: Application) -> None:
        self._app = application
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin, in threads of its own."""
        for number in range(self._app.settings.webhook_senders):
            thread = threading.Thread(target=self._run, name=f"everline-webhooks-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End after the deliveries at hand; a receiver that hangs is left to its time-out."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                while not self._stop.is_set() and self.run_one():
                    pass
            except Exception:
                log.exception("deliveries stumbled; they go on after a pause")
            self._stop.wait(self._app.settings.poll_s)

    def run_one(self) -> bool:
        """Make one due delivery, if there is any; one that fails is due again after a growing pause."""
        with self._app.begin(SYSTEM, read_only=True) as uow:
            if not queue.is_due(uow, queue=QUEUE):
                return False
        with self._app.begin(SYSTEM) as uow:
            job = queue.take(uow, queue=QUEUE, worker=f"{self._name}:{threading.get_ident()}")
        if job is None:
            return False
        try:
            with self._app.begin(SYSTEM, read_only=True) as uow:
                target = service.target_of(uow, job)
            self._deliver(job, target)
        except EverlineError as error:
            with self._app.begin(SYSTEM) as uow:
                fail = queue.abandon if isinstance(error, _FINAL) else queue.retry
                fail(uow, job, error=f"{type(error).__name__}: {error.message}")
        return True

    def _deliver(self, job: Job, target: Target | None) -> None:
        if target is None:
            with self._app.begin(SYSTEM) as uow:
                queue.end(uow, job, result={"dropped": "the webhook was deleted or disabled"})
            return
        sending = load("everline.webhooks.sending")
        answer = sending.send(target, delivery=job.uid, body=job.payload["body"], settings=self._app.settings)
        said = f"The receiver answered {answer.status}: {answer.body[:500]}"
        with self._app.begin(SYSTEM) as uow:
            if answer.is_taken:
                queue.end(uow, job, result={"status": answer.status})
            elif answer.status in sending.RETRIED:
                queue.retry(uow, job, error=said)
            else:
                queue.abandon(uow, job, error=said, result={"status": answer.status})
