"""REST face of models and their versions."""

from __future__ import annotations

from typing import Any

import msgspec

from everline.access.unit_of_work import UnitOfWork
from everline.models import card, registry, service
from everline.models.types import Lineage, Model, ModelCard, ModelVersion, PackageCheck
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


@routes.put("/models/{model}/aliases", body=SetAlias)
def set_alias(request: Request) -> None:
    """Point an alias at a version."""
    body = decode(SetAlias, request)
    with begin(request) as uow:
        registry.set_alias(uow, request.project, request.path["model"], alias=body.alias, version=body.version)


def _uid(uow: UnitOfWork, request: Request) -> str:
    return service.get_version(uow, request.project, request.path["model"], request.path["version"]).uid
