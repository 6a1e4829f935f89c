"""Monitors through the client."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

from everline.clock import rfc3339
from everline.monitoring.types import (
    CreateMonitor,
    Monitor,
    MonitorKind,
    MonitorRun,
    Reference,
    Signal,
    Trigger,
    Window,
)
from everline.sdk.client import Client


class MonitorsApi:
    """What is watched on endpoints."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(
        self,
        name: str,
        *,
        endpoint: str,
        kind: MonitorKind | str,
        reference: Reference | str,
        on_incident: Trigger | None = None,
        **options: Any,
    ) -> Monitor:
        """Create a monitor.

        Args:
            kind: "drift", "prediction_drift" or "quality".
            reference: a dataset, such as "flight-delay-reference" (cut by its column `day`), or a `Reference`.
            options: the other fields of `CreateMonitor`: window, offset_s, start, delay_s, target, …
        """
        if isinstance(reference, str):
            reference = Reference(dataset=reference)
        body = CreateMonitor(
            name=name,
            endpoint=endpoint,
            kind=MonitorKind(kind),
            reference=reference,
            on_incident=on_incident,
            **options,
        )
        return self._client.call("POST", "/monitors", body=body, returns=Monitor)

    def delete(self, name: str) -> None:
        """Stop watching; windows and incidents stay."""
        self._client.call("DELETE", f"/monitors/{quote(name, safe='')}")

    def get(self, name: str) -> Monitor:
        """One monitor."""
        return self._client.call("GET", f"/monitors/{quote(name, safe='')}", returns=Monitor)

    def run(self, name: str, *, until: datetime | None = None) -> MonitorRun:
        """Close the complete windows now; `until` says how far event time has come, if not as far as the log."""
        body = {"until": None if until is None else rfc3339(until)}
        return self._client.call("POST", f"/monitors/{quote(name, safe='')}/run", body=body, returns=MonitorRun)

    def windows(self, name: str, *, limit: int = 100) -> list[Window]:
        """The closed windows, the newest first."""
        return self._client.list_all(f"/monitors/{quote(name, safe='')}/windows", kind=Window, limit=limit)

    def signals(
        self, name: str, *, feature: str | None = None, since: datetime | None = None, limit: int = 1000
    ) -> list[Signal]:
        """The signals, the newest window first."""
        query = {"feature": feature, "since": None if since is None else rfc3339(since)}
        return self._client.list_all(f"/monitors/{quote(name, safe='')}/signals", kind=Signal, query=query, limit=limit)

    def list(self, *, endpoint: str | None = None) -> list[Monitor]:
        """The project's monitors by name."""
        return self._client.list_all("/monitors", kind=Monitor, query={"endpoint": endpoint}, limit=1000)
