"""A job: work that is done once, whoever dies."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Work in a queue. Status: queued, running, done or failed."""

    uid: str
    project: str
    queue: str
    kind: str
    payload: dict[str, Any]
    result: dict[str, Any] | None
    status: str
    attempts: int
    created_at: datetime
    due_at: datetime
    lease_until: datetime | None
    lease: str | None
    ended_at: datetime | None
    error: str | None
