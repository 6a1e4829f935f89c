"""Endpoints through the client."""

from __future__ import annotations

from datetime import datetime

from everline.clock import rfc3339
from everline.releases.types import Experiment, ShadowComparison
from everline.sdk.client import Client
from everline.serving.types import (
    DurabilitySpec,
    Endpoint,
    EndpointAccess,
    EndpointKey,
    Guard,
    Health,
    HealthSample,
    LogSpec,
    NewEndpointKey,
    Revision,
)


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

    def change(
        self,
        name: str,
        *,
        guard: Guard | str | None = None,
        access: EndpointAccess | str | None = None,
        log: LogSpec | None = None,
        durability: DurabilitySpec | None = None,
    ) -> Endpoint:
        """Change an endpoint; what is not given stays.

        Args:
            guard: `reject` or `flag`.
            access: `open`, or `key`: only who has an API key may ask.
            log: `full`, or the share of the requests that are logged.
            durability: `every`, or for how many seconds logged rows may be in memory only.
        """
        body = {"guard": guard, "access": access, "log": log, "durability": durability}
        return self._client.call("PATCH", f"/endpoints/{name}", body=body, returns=Endpoint)

    def create_key(
        self,
        name: str,
        key: str,
        *,
        requests_per_s: float | None = None,
        requests_per_day: int | None = None,
        days: int | None = None,
    ) -> NewEndpointKey:
        """Make an API key named `key`; its secret is shown this once. Quotas hold for each data plane."""
        body = {"name": key, "requests_per_s": requests_per_s, "requests_per_day": requests_per_day, "days": days}
        return self._client.call("POST", f"/endpoints/{name}/keys", body=body, returns=NewEndpointKey)

    def keys(self, name: str) -> list[EndpointKey]:
        """An endpoint's API keys, newest first."""
        return self._client.list_all(f"/endpoints/{name}/keys", kind=EndpointKey, limit=1000)

    def revoke_key(self, name: str, key: str) -> EndpointKey:
        """End an API key, by its uid."""
        return self._client.call("DELETE", f"/endpoints/{name}/keys/{key}", returns=EndpointKey)

    def compare(self, name: str, *, metric: str = "outcome", since: datetime | None = None) -> Experiment:
        """The canary beside the primary, with an interval and a check of how units were divided.

        Args:
            metric: `outcome`, `loss`, or an output's name.
            since: not before this; at the earliest when the shares became what they are.
        """
        query = {"metric": metric, "since": None if since is None else rfc3339(since)}
        return self._client.call("GET", f"/endpoints/{name}/compare", query=query, returns=Experiment)

    def compare_shadow(self, name: str, *, since: datetime | None = None) -> ShadowComparison:
        """What the shadow said beside what was answered, row by row."""
        query = {"since": None if since is None else rfc3339(since)}
        return self._client.call("GET", f"/endpoints/{name}/compare/shadow", query=query, returns=ShadowComparison)

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
