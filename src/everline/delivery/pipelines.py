"""Pipelines under names: what `[pipelines.NAME]` declares, run on demand by its name."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Row, delete, select

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.delivery import tables
from everline.delivery.types import Pipeline
from everline.errors import InvalidInputError, NotFoundError
from everline.ids import check_name
from everline.pipelines import service
from everline.storage.db import upsert


@read
def get_pipeline(uow: UnitOfWork, name: str, *, project: str) -> Pipeline:
    """A pipeline by name.

    Raises:
        NotFoundError: none is declared under that name.
    """
    uow.require(Permission.PIPELINE_READ, project)
    column = tables.pipeline.c
    query = select(tables.pipeline).where(column.project == project, column.name == check_name(name))
    row = uow.conn.execute(query).first()
    if row is None:
        raise NotFoundError(
            f"No pipeline is declared as {name!r}.",
            hint="everline.toml declares them, under [pipelines].",
            field="name",
        )
    return _pipeline(row)


@read
def list_pipelines(uow: UnitOfWork, *, project: str) -> list[Pipeline]:
    """The declared pipelines by name, at most `page_items_max`."""
    uow.require(Permission.PIPELINE_READ, project)
    query = select(tables.pipeline).where(tables.pipeline.c.project == project).order_by(tables.pipeline.c.name)
    return [_pipeline(row) for row in uow.conn.execute(query.limit(uow.settings.page_items_max))]


@act
def put_pipeline(uow: UnitOfWork, pipeline: Pipeline, *, project: str) -> Pipeline:
    """Keep a pipeline under its name; the same again is no change.

    Raises:
        InvalidInputError: its address is not `module:pipeline`.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    check_name(pipeline.name)
    if pipeline.pipeline.count(":") != 1 or len(pipeline.pipeline) > 500:
        raise InvalidInputError(
            f"{pipeline.pipeline[:80]!r} is no address of a pipeline.", hint="Write module:pipeline.", field="pipeline"
        )
    row = msgspec.to_builtins(pipeline) | {"project": project}
    column = tables.pipeline.c
    kept = uow.conn.execute(
        select(tables.pipeline).where(column.project == project, column.name == pipeline.name)
    ).first()
    if kept is not None and _pipeline(kept) == pipeline:
        uow.unchanged()
        return pipeline
    changes = [name for name in row if name not in ("project", "name")]
    upsert(uow.conn, tables.pipeline, [row], keys=["project", "name"], update=changes)
    uow.record(
        "pipeline.declare", subject=f"pipeline:{pipeline.name}", project=project, pipeline=pipeline.pipeline,
        directory=pipeline.directory[:500], created=kept is None,
    )  # fmt: skip
    return pipeline


@act
def delete_pipeline(uow: UnitOfWork, name: str, *, project: str) -> None:
    """Forget a pipeline's name; its runs stay.

    Raises:
        NotFoundError: none is declared under that name.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    get_pipeline(uow, name, project=project)
    column = tables.pipeline.c
    uow.conn.execute(delete(tables.pipeline).where(column.project == project, column.name == name))
    uow.record("pipeline.undeclare", subject=f"pipeline:{name}", project=project)


@act
def run_pipeline(uow: UnitOfWork, name: str, *, project: str, params: dict[str, Any], reason: str = "") -> str:
    """Leave a run of a declared pipeline to the next `everline worker`; return the job's uid.

    Args:
        params: replace those that are declared, by name.
    """
    uow.require(Permission.PIPELINE_WRITE, project)
    found = get_pipeline(uow, name, project=project)
    made = service.trigger(
        uow, project, pipeline=found.pipeline, directory=found.directory, parameters=found.params | params,
        reason=reason or f"asked for by {uow.actor.name}",
    )  # fmt: skip
    return str(made)


def _pipeline(row: Row[Any]) -> Pipeline:
    return Pipeline(**{name: getattr(row, name) for name in Pipeline.__struct_fields__})
