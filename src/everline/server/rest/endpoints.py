"""REST face of endpoints, their traffic and the data planes behind them."""

from __future__ import annotations

from datetime import datetime

import msgspec

from everline.clock import parse_rfc3339
from everline.releases import experiments, shadows
from everline.releases.types import Experiment, ShadowComparison
from everline.server.http import Page, Request, Routes, begin, decode
from everline.serving import health, keys, options, service
from everline.serving.types import (
    ChangeEndpoint,
    CreateEndpoint,
    CreateEndpointKey,
    Endpoint,
    EndpointKey,
    Health,
    HealthSample,
    NewEndpointKey,
    Revision,
)

routes = Routes(tag="endpoints")


class Address(msgspec.Struct, frozen=True):
    """Where an endpoint answers; null while no data plane says that it does."""

    address: str | None


@routes.post("/endpoints", body=CreateEndpoint, returns=Endpoint, status=201)
def create_endpoint(request: Request) -> Endpoint:
    """Create an endpoint before its first release."""
    body = decode(CreateEndpoint, request)
    with begin(request) as uow:
        return service.create_endpoint(uow, body.name, project=request.project, guard=body.guard)


@routes.get("/endpoints", returns=Page[Endpoint])
def list_endpoints(request: Request) -> Page[Endpoint]:
    """List the project's endpoints with the revisions that answer now."""
    with begin(request) as uow:
        return Page(items=service.list_endpoints(uow, project=request.project))


@routes.get("/endpoints/{name}", returns=Endpoint)
def get_endpoint(request: Request) -> Endpoint:
    """Show an endpoint with the revisions that answer now."""
    with begin(request) as uow:
        return service.get_endpoint(uow, request.path["name"], project=request.project)


@routes.patch("/endpoints/{name}", body=ChangeEndpoint, returns=Endpoint)
def change_endpoint(request: Request) -> Endpoint:
    """Change an endpoint's guard, access, log or durability."""
    body = decode(ChangeEndpoint, request)
    with begin(request) as uow:
        return options.change_endpoint(uow, request.path["name"], body, project=request.project)


@routes.post("/endpoints/{name}/keys", body=CreateEndpointKey, returns=NewEndpointKey, status=201)
def create_key(request: Request) -> NewEndpointKey:
    """Make an API key of an endpoint; its secret is shown this once."""
    body = decode(CreateEndpointKey, request)
    with begin(request) as uow:
        return keys.create_key(uow, request.path["name"], body, project=request.project)


@routes.get("/endpoints/{name}/keys", returns=Page[EndpointKey])
def list_keys(request: Request) -> Page[EndpointKey]:
    """List an endpoint's API keys, newest first, without their secrets."""
    with begin(request) as uow:
        return Page(items=keys.list_keys(uow, request.path["name"], project=request.project))


@routes.delete("/endpoints/{name}/keys/{key}", returns=EndpointKey)
def revoke_key(request: Request) -> EndpointKey:
    """End an API key of an endpoint."""
    with begin(request) as uow:
        return keys.revoke_key(uow, request.path["name"], request.path["key"], project=request.project)


@routes.get("/endpoints/{name}/compare", returns=Experiment)
def compare_revisions(request: Request) -> Experiment:
    """Compare the canary with the primary on a `metric`: outcome, loss, or an output."""
    with begin(request) as uow:
        name, metric = request.path["name"], request.query("metric", str, "outcome")
        return experiments.compare_revisions(uow, name, project=request.project, metric=metric, since=_since(request))


@routes.get("/endpoints/{name}/compare/shadow", returns=ShadowComparison)
def compare_shadow(request: Request) -> ShadowComparison:
    """Compare what the shadow said with what was answered, row by row."""
    with begin(request) as uow:
        return shadows.compare_shadow(uow, request.path["name"], project=request.project, since=_since(request))


def _since(request: Request) -> datetime | None:
    text = request.query("since", str, None)
    return parse_rfc3339(text, field="since") if text else None


@routes.get("/endpoints/{name}/traffic", returns=Page[Revision])
def list_traffic(request: Request) -> Page[Revision]:
    """List who answered which share when, newest first."""
    with begin(request) as uow:
        name, project = request.path["name"], request.project
        return Page(items=service.traffic_history(uow, name, project=project, limit=request.limit))


@routes.get("/endpoints/{name}/health", returns=Page[HealthSample])
def list_health(request: Request) -> Page[HealthSample]:
    """List the last hour's samples of the endpoint's revisions, oldest first."""
    with begin(request) as uow:
        name, project = request.path["name"], request.project
        return Page(items=health.list_samples(uow, name, project=project, limit=request.limit))


@routes.get("/endpoints/{name}/address", returns=Address)
def get_address(request: Request) -> Address:
    """Say where a data plane answers for the endpoint."""
    with begin(request) as uow:
        return Address(health.dataplane_address(uow, request.path["name"], project=request.project))


@routes.get("/replicas", returns=Page[Health])
def list_replicas(request: Request) -> Page[Health]:
    """List the latest word of each data plane."""
    with begin(request) as uow:
        return Page(items=health.list_replicas(uow, project=request.project))
