"""Questions that runs ask people, through the client."""

from __future__ import annotations

from everline.pipelines.types import ApprovalRecord
from everline.sdk.client import Client


class ApprovalsApi:
    """What waits for an answer, and answers."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, *, run: str | None = None, open_only: bool = False, limit: int = 100) -> list[ApprovalRecord]:
        """The newest questions first."""
        query = {"run": run, "open": open_only or None}
        return self._client.list_all("/pipelines/approvals", kind=ApprovalRecord, query=query, limit=limit)

    def answer(self, run: str, step: str, *, approved: bool, reason: str = "") -> ApprovalRecord:
        """Answer a question; an answer is final.

        Raises:
            ForbiddenError: another role is asked for, or somebody else than who started the run.
            ConflictError: it is answered.
        """
        body = {"step": step, "approved": approved, "reason": reason}
        return self._client.call("POST", f"/pipelines/runs/{run}/answers", body=body, returns=ApprovalRecord)
