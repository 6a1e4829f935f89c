"""REST face of models and their versions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from everline.access.unit_of_work import UnitOfWork
from everline.models import aliases, card, oms_signing, registry, service
from everline.models.types import AliasMove, Lineage, Model, ModelCard, ModelVersion, OpenSignature, PackageCheck
from everline.releases import deletion, following
from everline.runs.filters import page_offset, page_token
from everline.server.http import Page, Request, Routes, begin, decode

routes = Routes(tag="models")


class RegisterVersion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A package that is kept in the blob store, by the digest of its manifest."""

    package: str
    run: str | None = None
    description: str = ""
    tags: dict[str, str] = {}


class SetAlias(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an alias shall point."""

    alias: str
    version: int


class FollowEndpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The endpoint whose champion an alias shall name."""

    endpoint: str


@routes.get("/models", returns=Page[Model])
def list_models(request: Request) -> Page[Model]:
    """List models by name; `?filter=` searches."""
    with begin(request) as uow:
        found, after = registry.search_models(
            uow,
            request.project,
            filter=request.query("filter", str, ""),
            limit=request.limit,
            offset=page_offset(request.query("cursor", str, None)),
        )
    return Page(items=found, next=None if after is None else page_token(after))


@routes.get("/models/{model}", returns=Model)
def get_model(request: Request) -> Model:
    """Return a model."""
    with begin(request) as uow:
        return registry.get_model(uow, request.project, request.path["model"])


@routes.get("/models/{model}/versions", returns=Page[ModelVersion])
def list_versions(request: Request) -> Page[ModelVersion]:
    """List a model's versions, the newest first."""
    with begin(request) as uow:
        name = registry.get_model(uow, request.project, request.path["model"]).name
        quoted = name.replace("'", "''")
        found, after = registry.search_versions(
            uow,
            request.project,
            filter=f"name = '{quoted}'",
            order_by=["version_number DESC"],
            limit=request.limit,
            offset=page_offset(request.query("cursor", str, None)),
        )
    versions: list[ModelVersion] = [*found]
    return Page(items=versions, next=None if after is None else page_token(after))


@routes.post("/models/{model}/versions", body=RegisterVersion, returns=ModelVersion, status=201)
def register(request: Request) -> ModelVersion:
    """Register a package as the next version; the server verifies every byte and signs it."""
    body = decode(RegisterVersion, request)
    with begin(request) as uow:
        return service.register(
            uow,
            project=request.project,
            model=request.path["model"],
            package=body.package,
            run=body.run,
            description=body.description,
            tags=body.tags,
        )


@routes.get("/models/{model}/versions/{version}", returns=ModelVersion)
def get_version(request: Request) -> ModelVersion:
    """Return a version: by number, `latest` or `@alias`."""
    with begin(request) as uow:
        return service.get_version(uow, request.project, request.path["model"], request.path["version"])


@routes.get("/models/{model}/versions/{version}/manifest", returns=dict[str, Any])
def get_manifest(request: Request) -> dict[str, Any]:
    """Return the manifest of a version's package."""
    with begin(request) as uow:
        return service.get_manifest(uow, request.project, request.path["model"], request.path["version"])


@routes.get("/models/{model}/versions/{version}/lineage", returns=Lineage)
def lineage(request: Request) -> Lineage:
    """Return what a version was made of, as a graph."""
    with begin(request) as uow:
        return service.lineage(uow, _uid(uow, request))


@routes.post("/models/{model}/versions/{version}/verify", returns=PackageCheck)
def verify(request: Request) -> PackageCheck:
    """Hash every byte of a version again and check its signature; the finding becomes evidence."""
    with begin(request) as uow:
        return service.verify(uow, _uid(uow, request))


@routes.get("/models/{model}/versions/{version}/signature", returns=OpenSignature)
def get_signature(request: Request) -> OpenSignature:
    """Sign a version's package in the OpenSSF model-signing format, after every byte of it was checked."""
    with begin(request) as uow:
        return oms_signing.sign_version(uow, request.project, request.path["model"], request.path["version"])


@routes.get("/models/{model}/versions/{version}/card", returns=ModelCard)
def show_card(request: Request) -> ModelCard:
    """Write the model card from the facts of today."""
    with begin(request) as uow:
        return card.show_card(uow, _uid(uow, request))


@routes.post("/models/{model}/versions/{version}/card", returns=ModelCard, status=201)
def make_card(request: Request) -> ModelCard:
    """Write the model card and attach it as evidence."""
    with begin(request) as uow:
        return card.make_card(uow, _uid(uow, request))


@routes.delete("/models/{model}")
def delete_model(request: Request) -> None:
    """Take a model and its versions off the shelf; refused while an endpoint needs one of them."""
    with begin(request) as uow:
        deletion.delete_model(uow, request.project, request.path["model"])


@routes.delete("/models/{model}/versions/{version}")
def delete_version(request: Request) -> None:
    """Take a version off the shelf; refused while an endpoint needs it."""
    with begin(request) as uow:
        deletion.delete_version(uow, request.project, request.path["model"], request.path["version"])


@routes.put("/models/{model}/aliases", body=SetAlias)
def set_alias(request: Request) -> None:
    """Point an alias at a version."""
    body = decode(SetAlias, request)
    with begin(request) as uow:
        aliases.set_alias(uow, request.project, request.path["model"], alias=body.alias, version=body.version)


@routes.get("/models/{model}/aliases/{alias}", returns=AliasMove)
def alias_at(request: Request) -> AliasMove:
    """Where an alias points, or pointed `?at=` a moment, since when, and who put it there."""
    at = request.query("at", datetime, None)
    with begin(request) as uow:
        return aliases.alias_at(uow, request.project, request.path["model"], alias=request.path["alias"], at=at)


@routes.get("/models/{model}/aliases/{alias}/moves", returns=Page[AliasMove])
def list_moves(request: Request) -> Page[AliasMove]:
    """List the moves of an alias, the newest first."""
    name, alias = request.path["model"], request.path["alias"]
    with begin(request) as uow:
        return Page(items=aliases.list_moves(uow, request.project, name, alias=alias, limit=request.limit))


@routes.delete("/models/{model}/aliases/{alias}")
def delete_alias(request: Request) -> None:
    """Remove an alias."""
    with begin(request) as uow:
        aliases.delete_alias(uow, request.project, request.path["model"], alias=request.path["alias"])


@routes.put("/models/{model}/aliases/{alias}/endpoint", body=FollowEndpoint, returns=Model)
def follow(request: Request) -> Model:
    """Let an alias follow an endpoint: from now on it names what answers there."""
    body = decode(FollowEndpoint, request)
    name, alias = request.path["model"], request.path["alias"]
    with begin(request) as uow:
        return following.follow(uow, request.project, name, alias=alias, endpoint=body.endpoint)


@routes.delete("/models/{model}/aliases/{alias}/endpoint")
def unfollow(request: Request) -> None:
    """Free an alias: it stays where it points, and people move it again."""
    with begin(request) as uow:
        aliases.stop_following(uow, request.project, request.path["model"], alias=request.path["alias"])


def _uid(uow: UnitOfWork, request: Request) -> str:
    return service.get_version(uow, request.project, request.path["model"], request.path["version"]).uid
