"""Incidents through the client."""

from __future__ import annotations

from urllib.parse import quote

from everline.monitoring.types import Alert, CloseIncident, Incident, IncidentStatus
from everline.sdk.client import Client


class IncidentsApi:
    """Open problems with their diagnosis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def get(self, uid: str) -> Incident:
        """One incident."""
        return self._client.call("GET", f"/incidents/{quote(uid, safe='')}", returns=Incident)

    def acknowledge(self, uid: str, *, note: str = "") -> Incident:
        """Say that somebody looks after it."""
        body = CloseIncident(note=note)
        return self._client.call("POST", f"/incidents/{quote(uid, safe='')}/acknowledge", body=body, returns=Incident)

    def resolve(self, uid: str, *, note: str = "") -> Incident:
        """Close it."""
        return self._client.call(
            "POST", f"/incidents/{quote(uid, safe='')}/resolve", body=CloseIncident(note=note), returns=Incident
        )

    def alerts(self, *, limit: int = 100) -> list[Alert]:
        """Notifications, the newest first."""
        return self._client.list_all("/alerts", kind=Alert, limit=limit)

    def list(
        self,
        *,
        endpoint: str | None = None,
        monitor: str | None = None,
        status: IncidentStatus | str | None = None,
        limit: int = 100,
    ) -> list[Incident]:
        """Incidents, the newest first."""
        query = {"endpoint": endpoint, "monitor": monitor, "status": status and IncidentStatus(status).value}
        return self._client.list_all("/incidents", kind=Incident, query=query, limit=limit)
