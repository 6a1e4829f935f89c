"""Endpoints through the client."""

from __future__ import annotations

from everline.sdk.client import Client
from everline.serving.types import Endpoint, Guard, Health, HealthSample, Revision


class EndpointsApi:
    """Endpoints, their traffic and the data planes behind them."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, name: str, *, guard: Guard | str = Guard.REJECT) -> Endpoint:
        """Create an endpoint before its first release."""
        body = {"name": name, "guard": guard}
        return self._client.call("POST", "/endpoints", body=body, returns=Endpoint)

    def get(self, name: str) -> Endpoint:
        """One endpoint."""
        return self._client.call("GET", f"/endpoints/{name}", returns=Endpoint)

    def traffic(self, name: str, *, limit: int = 100) -> list[Revision]:
        """Who answered which share when, newest first."""
        return self._client.list_all(f"/endpoints/{name}/traffic", kind=Revision, limit=limit)

    def health(self, name: str, *, limit: int = 1000) -> list[HealthSample]:
        """The last hour's samples of requests, errors and latency per revision and replica."""
        return self._client.list_all(f"/endpoints/{name}/health", kind=HealthSample, limit=limit)

    def replicas(self) -> list[Health]:
        """The latest word of each data plane."""
        return self._client.list_all("/replicas", kind=Health, limit=1000)

    def address(self, name: str) -> str | None:
        """Base URL of a data plane that answers for the endpoint, if one said so lately."""
        return self._client.call("GET", f"/endpoints/{name}/address", returns=dict[str, str | None])["address"]

    def list(self) -> list[Endpoint]:
        """The project's endpoints with the revisions that answer now."""
        return self._client.list_all("/endpoints", kind=Endpoint, limit=10_000)
