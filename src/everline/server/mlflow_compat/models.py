"""MLflow's face of the model registry."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError, NotFoundError
from everline.models import aliases, files, registry, service
from everline.models import tags as model_tags
from everline.models.logged import service as logged_models
from everline.models.types import TrackedVersion
from everline.models.words import check_alias
from everline.releases import deletion
from everline.runs.filters import page_offset, page_token
from everline.server.gathering import Step
from everline.server.http import Request, begin
from everline.server.mlflow_compat.sources import resolve
from everline.server.mlflow_compat.together import ACTS, READS
from everline.server.mlflow_compat.values import listed_version_message, model_message, version_message
from everline.server.mlflow_compat.wire import Fields, ProtocolError, answer, new_routes, project_of

routes = new_routes()


@routes.post("/mlflow/registered-models/create")
def create_model(request: Request) -> Response:
    """Create a model."""
    fields = Fields.of(request)
    name, description, tags = fields.required("name"), fields.text("description"), fields.pairs("tags")
    _refuse_prompts(tags)
    with begin(request) as uow:
        made = registry.create_model(uow, project_of(request), name, description=description, tags=tags)
    return answer({"registered_model": model_message(made, [])})


@routes.get("/mlflow/registered-models/get")
def get_model(request: Request) -> Response:
    """Return a model."""
    fields = Fields.of(request)
    with begin(request) as uow:
        return answer({"registered_model": _model(uow, project_of(request), fields.required("name"))})


@routes.post("/mlflow/registered-models/rename")
def rename_model(request: Request) -> Response:
    """Rename a model."""
    fields = Fields.of(request)
    name, new_name, project = fields.required("name"), fields.required("new_name"), project_of(request)
    with begin(request) as uow:
        registry.update_model(uow, project, name, new_name=new_name)
        return answer({"registered_model": _model(uow, project, new_name)})


@routes.patch("/mlflow/registered-models/update")
def update_model(request: Request) -> Response:
    """Describe a model."""
    fields = Fields.of(request)
    name, project = fields.required("name"), project_of(request)
    with begin(request) as uow:
        registry.update_model(uow, project, name, description=fields.text("description"))
        return answer({"registered_model": _model(uow, project, name)})


@routes.delete("/mlflow/registered-models/delete")
def delete_model(request: Request) -> Response:
    """Take a model off the shelf."""
    fields = Fields.of(request)
    with begin(request) as uow:
        deletion.delete_model(uow, project_of(request), fields.required("name"))
    return answer({})


@routes.get("/mlflow/registered-models/search")
def search_models(request: Request) -> Response:
    """Search models; a page and the token of the next one."""
    fields, project = Fields.of(request), project_of(request)
    with begin(request) as uow:
        found, after = registry.search_models(
            uow,
            project,
            filter=fields.text("filter"),
            order_by=fields.texts("order_by"),
            limit=fields.integer("max_results", 100),
            offset=page_offset(fields.text("page_token")),
        )
        latest = registry.latest_versions(uow, project, [model.name for model in found])
    messages = [model_message(model, latest[model.name]) for model in found]
    return answer({"registered_models": messages, "next_page_token": None if after is None else page_token(after)})


@routes.get("/mlflow/registered-models/get-latest-versions")
@routes.post("/mlflow/registered-models/get-latest-versions")
def get_latest_versions(request: Request) -> Response:
    """Return the newest version of each stage."""
    fields = Fields.of(request)
    name = fields.required("name")
    with begin(request) as uow:
        latest = registry.latest_versions(uow, project_of(request), [name], stages=fields.texts("stages"))
    return answer({"model_versions": [version_message(version) for version in latest[name]]})


@routes.post("/mlflow/registered-models/set-tag")
def set_model_tag(request: Request) -> Response:
    """Set a tag of a model."""
    fields = Fields.of(request)
    name, key, value = fields.required("name"), fields.required("key"), fields.text("value")
    with begin(request) as uow:
        model_tags.set_model_tag(uow, project_of(request), name, key=key, value=value)
    return answer({})


@routes.delete("/mlflow/registered-models/delete-tag")
def delete_model_tag(request: Request) -> Response:
    """Remove a tag of a model."""
    fields = Fields.of(request)
    name, key = fields.required("name"), fields.required("key")
    with begin(request) as uow:
        model_tags.delete_model_tag(uow, project_of(request), name, key=key)
    return answer({})


@routes.post("/mlflow/registered-models/alias")
def set_alias(request: Request) -> Response:
    """Point an alias at a version."""
    fields = Fields.of(request)
    name, alias, version = fields.required("name"), fields.required("alias"), fields.required("version")
    with begin(request) as uow:
        aliases.set_alias(uow, project_of(request), name, alias=alias, version=version)
    return answer({})


@routes.delete("/mlflow/registered-models/alias")
def delete_alias(request: Request) -> Response:
    """Remove an alias."""
    fields = Fields.of(request)
    name, alias = fields.required("name"), fields.required("alias")
    with begin(request) as uow:
        aliases.delete_alias(uow, project_of(request), name, alias=alias)
    return answer({})


@routes.get("/mlflow/registered-models/alias")
def get_version_by_alias(request: Request) -> Response:
    """Return the version that an alias points at."""
    fields, project = Fields.of(request), project_of(request)
    name, alias = fields.required("name"), check_alias(fields.required("alias"), reserved=True)
    with begin(request) as uow:
        try:
            found = service.get_version(uow, project, name, f"@{alias}")
        except NotFoundError as error:
            if error.field == "alias":  # MLflow's code for this one
                raise InvalidInputError(error.message, field="alias") from error
            raise
    return answer({"model_version": version_message(found)})


@routes.post("/mlflow/model-versions/create", gather=ACTS)
def create_version(request: Request) -> Step:
    """Add a version from a folder of artifacts or a logged model, or as a copy of another version."""
    fields, project = Fields.of(request), project_of(request)
    name, source = fields.required("name"), fields.required("source")
    tags, description, run_link = fields.pairs("tags"), fields.text("description"), fields.text("run_link")
    _refuse_prompts(tags)
    run = fields.text("run_id") if fields.has("run_id") else None
    logged = fields.text("model_id") if fields.has("model_id") else None

    def create(uow: UnitOfWork) -> Response:
        found = resolve(uow, project, source, run=run, logged=logged)
        if found.package is not None:
            registry.get_model(uow, project, name)
            made = service.register(
                uow,
                project=project,
                model=name,
                package=found.package,
                source=found.source,
                run=found.run,
                description=description,
                tags=tags,
            )
        else:
            made = registry.create_version_from_source(
                uow,
                project,
                name,
                source=found.source,
                storage=found.storage,
                run=found.run,
                run_link=run_link,
                logged_model=found.logged,
                description=description,
                tags=tags,
            )
        if found.logged is not None:
            logged_models.note_version(uow, project, found.logged, version=made)
        return answer({"model_version": version_message(made)})

    return create


@routes.get("/mlflow/model-versions/get", gather=READS)
def get_version(request: Request) -> Step:
    """Return a version."""
    project, fields = project_of(request), Fields.of(request)
    name, number = fields.required("name"), _number(fields)
    return lambda uow: answer({"model_version": version_message(service.get_version(uow, project, name, number))})


@routes.patch("/mlflow/model-versions/update")
def update_version(request: Request) -> Response:
    """Describe a version."""
    fields = Fields.of(request)
    name, version = fields.required("name"), _number(fields)
    with begin(request) as uow:
        changed = registry.describe_version(
            uow, project_of(request), name, version, description=fields.text("description")
        )
    return answer({"model_version": version_message(changed)})


@routes.post("/mlflow/model-versions/transition-stage")
def transition_stage(request: Request) -> Response:
    """Put a version on one of MLflow's old stages; no release follows from it."""
    fields, project = Fields.of(request), project_of(request)
    name, version, stage = fields.required("name"), _number(fields), fields.required("stage")
    with begin(request) as uow:
        archive = fields.boolean("archive_existing_versions")
        changed = registry.set_stage(uow, project, name, version, stage=stage, archive_others=archive)
    return answer({"model_version": version_message(changed)})


@routes.delete("/mlflow/model-versions/delete")
def delete_version(request: Request) -> Response:
    """Take a version off the shelf."""
    fields = Fields.of(request)
    name, version = fields.required("name"), _number(fields)
    with begin(request) as uow:
        deletion.delete_version(uow, project_of(request), name, version)
    return answer({})


@routes.get("/mlflow/model-versions/get-download-uri")
def get_download_uri(request: Request) -> Response:
    """Say where the files of a version are."""
    fields = Fields.of(request)
    with begin(request) as uow:
        return answer({"artifact_uri": files.place_of(uow, _version(uow, request, fields))})


@routes.get("/mlflow/model-versions/search")
def search_versions(request: Request) -> Response:
    """Search versions; a page and the token of the next one."""
    fields = Fields.of(request)
    with begin(request) as uow:
        found, after = registry.search_versions(
            uow,
            project_of(request),
            filter=fields.text("filter"),
            order_by=fields.texts("order_by"),
            limit=fields.integer("max_results", registry.VERSIONS_PER_SEARCH_MAX),
            offset=page_offset(fields.text("page_token")),
        )
    messages = [listed_version_message(version) for version in found]
    return answer({"model_versions": messages, "next_page_token": None if after is None else page_token(after)})


@routes.post("/mlflow/model-versions/set-tag")
def set_version_tag(request: Request) -> Response:
    """Set a tag of a version."""
    fields = Fields.of(request)
    name, version, key = fields.required("name"), _number(fields), fields.required("key")
    with begin(request) as uow:
        model_tags.set_version_tag(uow, project_of(request), name, version, key=key, value=fields.text("value"))
    return answer({})


@routes.delete("/mlflow/model-versions/delete-tag")
def delete_version_tag(request: Request) -> Response:
    """Remove a tag of a version."""
    fields = Fields.of(request)
    name, version, key = fields.required("name"), _number(fields), fields.required("key")
    with begin(request) as uow:
        model_tags.delete_version_tag(uow, project_of(request), name, version, key=key)
    return answer({})


def _model(uow: UnitOfWork, project: str, name: str) -> dict[str, Any]:
    found = registry.get_model(uow, project, name)
    return model_message(found, registry.latest_versions(uow, project, [name])[name])


def _version(uow: UnitOfWork, request: Request, fields: Fields) -> TrackedVersion:
    return service.get_version(uow, project_of(request), fields.required("name"), _number(fields))


def _number(fields: Fields) -> str:
    """A version's number as text; `latest` and aliases are no numbers here."""
    version = fields.required("version")
    if not version.isascii() or not version.strip().lstrip("+-").isdigit():
        raise InvalidInputError(f"Parameter 'version' must be an integer, got '{version[:80]}'.", field="version")
    return version


def _refuse_prompts(tags: dict[str, str]) -> None:
    if tags.get("mlflow.prompt.is_prompt", "false").lower() == "true":
        raise ProtocolError("Prompts are not supported by this server.", error_code="NOT_IMPLEMENTED", status=501)
