"""`everline worker`: run the pipelines that incidents, schedules and people have asked for."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from everline.cli.output import client_options, emit
from everline.errors import EverlineError
from everline.loader import load
from everline.pipelines.types import RunEndedError, RunWaitingError

QUEUE = "pipelines"
_RENEW_S = 15.0


@click.command("worker", help=__doc__)
@click.option("--once", is_flag=True, help="Run what is due now, then end. [run until SIGTERM]")
@click.option("--poll-s", type=float, default=1.0, show_default=True, help="Pause between looks, in seconds.")
@client_options
def command(once: bool, poll_s: float, client: Any, as_json: bool) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    name = f"{socket.gethostname()}:{os.getpid()}"
    done: list[dict[str, Any]] = []
    while not stop.is_set():
        result = run_one(client, worker=name)
        if result is not None:
            done.append(result)
            if not once:
                click.echo(f"job {result['job']}: run {result['run']} {result['status']}")
        elif once:
            break
        else:
            stop.wait(poll_s)
    emit(done, as_json=as_json, human=lambda: click.echo(f"{len(done)} pipeline runs done"))
    return 1 if any(result["status"] == "failed" for result in done) else 0


def run_one(client: Any, *, worker: str) -> dict[str, Any] | None:
    """Claim one job, run its pipeline and report; None if nothing is due.

    A step that fails is an answer, not a fault of the worker: the job is done, its result says `failed`, and
    the run holds the reason. Anything else is reported as a failed try and is due again later.
    """
    job = client.jobs.claim(QUEUE, worker=worker)
    if job is None:
        return None
    payload = job.payload
    directory = Path(payload["directory"]) if payload.get("directory") else None
    with _kept_alive(client, job.uid, worker):
        try:
            if directory is not None:
                load("everline.sdk.pipeline_modules").forget_project(directory)
            ran = client.pipelines.run(
                payload["pipeline"], params=payload.get("parameters"), reason=payload.get("reason", ""),
                directory=directory, resume=payload.get("resume"),
            )  # fmt: skip
            result = {"run": ran.run, "status": "succeeded", "candidate": ran.value}
        except RunWaitingError as error:
            result = {"run": error.result.run if error.result else None, "status": "waiting", "for": error.steps}
        except RunEndedError as error:
            run = error.result.run if error.result else None
            result = {"run": run, "status": "failed", "error": error.message}
        except Exception as error:
            message = error.message if isinstance(error, EverlineError) else f"{type(error).__name__}: {error}"
            client.jobs.fail(job.uid, worker=worker, error=message)
            return {"job": job.uid, "run": None, "status": "failed", "error": message}
        finally:
            if directory is not None:
                load("everline.sdk.pipeline_modules").forget_project(directory)
    client.jobs.complete(job.uid, worker=worker, result=msgspec.to_builtins(result))
    return {"job": job.uid, **result}


@contextlib.contextmanager
def _kept_alive(client: Any, job: str, worker: str) -> Iterator[None]:
    """Renew the lease while the pipeline runs, so that nobody else takes the job."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(_RENEW_S):
            with contextlib.suppress(EverlineError):
                client.jobs.renew(job, worker=worker)

    thread = threading.Thread(target=renew, name="everline-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)
