"""REST face of durable jobs, for workers outside the control plane."""

from __future__ import annotations

from typing import Any

import msgspec

from everline.jobs import queue
from everline.jobs.types import Job
from everline.server.http import Page, Request, Routes, begin, decode

routes = Routes(tag="jobs")


class Claim(msgspec.Struct, forbid_unknown_fields=True):
    """A worker that looks for work."""

    queue: str
    worker: str


class Claimed(msgspec.Struct, frozen=True):
    """The leased job, or null."""

    job: Job | None


class Report(msgspec.Struct, forbid_unknown_fields=True):
    """What a worker says of its job: alive, done with a result, or failed with an error."""

    worker: str
    result: dict[str, Any] | None = None
    error: str | None = None


@routes.get("/jobs", returns=Page[Job])
def list_jobs(request: Request) -> Page[Job]:
    """List the newest jobs."""
    with begin(request) as uow:
        wanted = request.query("queue", str, None)
        return Page(items=queue.list_jobs(uow, project=request.project, queue=wanted, limit=request.limit))


@routes.post("/jobs/claim", body=Claim, returns=Claimed)
def claim(request: Request) -> Claimed:
    """Lease the oldest due job of a queue."""
    body = decode(Claim, request)
    with begin(request) as uow:
        return Claimed(queue.claim(uow, queue=body.queue, worker=body.worker, project=request.project))


@routes.post("/jobs/{uid}/report", body=Report, returns=Job)
def report(request: Request) -> Job:
    """Renew a lease, or end the job with a result or an error."""
    body, uid = decode(Report, request), request.path["uid"]
    with begin(request) as uow:
        if body.error is not None:
            return queue.fail(uow, uid, worker=body.worker, error=body.error)
        if body.result is not None:
            return queue.complete(uow, uid, worker=body.worker, result=body.result)
        return queue.renew(uow, uid, worker=body.worker)
