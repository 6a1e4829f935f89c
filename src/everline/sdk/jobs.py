"""Durable jobs through the client: how a worker outside the control plane takes work."""

from __future__ import annotations

from typing import Any

from everline.jobs.types import Job
from everline.sdk.client import Client


class JobsApi:
    """Queues of work."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, *, queue: str | None = None, limit: int = 100) -> list[Job]:
        """The newest jobs."""
        return self._client.list_all("/jobs", kind=Job, query={"queue": queue}, limit=limit)

    def claim(self, queue: str, *, worker: str) -> Job | None:
        """Lease the oldest due job of a queue, if there is one."""
        body = {"queue": queue, "worker": worker}
        answer = self._client.call("POST", "/jobs/claim", body=body, returns=dict[str, Job | None])
        return answer["job"]

    def renew(self, uid: str, *, worker: str) -> Job:
        """Say that the worker is alive and at it."""
        return self._report(uid, {"worker": worker})

    def complete(self, uid: str, *, worker: str, result: dict[str, Any]) -> Job:
        """End a job well."""
        return self._report(uid, {"worker": worker, "result": result})

    def fail(self, uid: str, *, worker: str, error: str) -> Job:
        """Report a failed try; it is due again after a growing pause."""
        return self._report(uid, {"worker": worker, "error": error})

    def _report(self, uid: str, body: dict[str, Any]) -> Job:
        return self._client.call("POST", f"/jobs/{uid}/report", body=body, returns=Job)
