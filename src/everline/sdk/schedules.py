"""Schedules through the client."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from everline.pipelines.schedules.types import (
    Backfill,
    OnDemand,
    Schedule,
    ScheduleDetail,
    ScheduledRun,
    ScheduleSpec,
    Trigger,
    WebhookSecret,
)
from everline.sdk.client import Client


class SchedulesApi:
    """What sets pipelines going, and when."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(
        self,
        name: str,
        pipeline: str,
        *,
        trigger: Trigger | None = None,
        directory: Path | str | None = None,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Schedule:
        """Create a schedule.

        Args:
            pipeline: `module:pipeline`.
            trigger: such as `Cron(expression="30 2 * * *", zone="Europe/Berlin")`; None: on demand only.
            directory: folder in which the worker finds the module.
            params: by name; texts may hold facts, such as `{slot:%Y-%m-%d}`.
            options: further fields of `ScheduleSpec`, such as `runs_max` or `catch_up`.

        Raises:
            ConflictError: there is one of that name.
            InvalidInputError: something of it could not be carried out.
        """
        given = {"name": name, "pipeline": pipeline, "directory": directory and str(directory), **options}
        given |= {"trigger": msgspec.to_builtins(trigger or OnDemand()), "params": dict(params or {})}
        return self._client.call("POST", "/schedules", body=given, returns=Schedule)

    def put(self, spec: ScheduleSpec) -> Schedule:
        """Create the schedule of that name, or make it as said; the same again is no change."""
        return self._client.call("PUT", _path(spec.name), body=spec, returns=Schedule)

    def update(self, name: str, **changes: Any) -> Schedule:
        """Change fields of `ScheduleSpec`; what is not given stays."""
        return self._client.call("PATCH", _path(name), body=changes, returns=Schedule)

    def list(self, *, limit: int = 1_000) -> list[Schedule]:
        """The project's schedules by name."""
        return self._client.list_all("/schedules", kind=Schedule, limit=limit)

    def show(self, name: str, *, coming: int = 5, limit: int = 20) -> ScheduleDetail:
        """A schedule with its coming slots and its newest runs."""
        return self._client.call("GET", _path(name), query={"coming": coming, "limit": limit}, returns=ScheduleDetail)

    def runs(self, name: str, *, limit: int = 100) -> tuple[ScheduledRun, ...]:
        """What a schedule asked for, the newest first."""
        return tuple(self._client.list_all(f"{_path(name)}/runs", kind=ScheduledRun, limit=limit))

    def pause(self, name: str) -> Schedule:
        """Let nothing but people and backfills set it going."""
        return self._client.call("POST", f"{_path(name)}/pause", returns=Schedule)

    def resume(self, name: str) -> Schedule:
        """Let it go on, from now."""
        return self._client.call("POST", f"{_path(name)}/resume", returns=Schedule)

    def delete(self, name: str, *, reason: str = "") -> None:
        """Start nothing more by it; its history stays in the audit log."""
        self._client.call("DELETE", _path(name), body={"reason": reason})

    def run(
        self, name: str, *, params: Mapping[str, Any] | None = None, reason: str = "", key: str | None = None
    ) -> ScheduledRun:
        """Ask for a run at once.

        Args:
            params: instead of the schedule's own, by name.
            key: the same key again gives the run that it gave before.
        """
        body = {"params": dict(params or {}), "reason": reason, "key": key}
        return self._client.call("POST", f"{_path(name)}/run", body=body, returns=ScheduledRun)

    def backfill(
        self, name: str, *, start: date | datetime | str, end: date | datetime | str, failed: bool = False
    ) -> Backfill:
        """Run each slot of a range that has no run yet: once, however often this is asked.

        Args:
            start, end: both within the range; without an offset on the schedule's own clocks, a date is the whole day.
            failed: also run again the slots whose last run failed.
        """
        body = {"start": _text(start), "end": _text(end), "failed": failed}
        return self._client.call("POST", f"{_path(name)}/backfill", body=body, returns=Backfill)

    def secret(self, name: str) -> WebhookSecret:
        """Give out a new secret for the schedule's address; it is shown this once."""
        return self._client.call("POST", f"{_path(name)}/secret", returns=WebhookSecret)


def _path(name: str) -> str:
    return f"/schedules/{quote(name, safe='')}"


def _text(moment: date | datetime | str) -> str:
    return moment if isinstance(moment, str) else moment.isoformat()
