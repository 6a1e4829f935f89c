"""Lineage as a dataset version sees it: the run that made it, the runs that read it, the models that stand on them."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import false, select

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.datasets import service as datasets
from everline.models.tables import model, model_version
from everline.models.types import DatasetLineage, DatasetUse
from everline.runs.tables import run, run_input
from everline.runs.types import from_ms

USES_MAX = 100


@read
def dataset_lineage(uow: UnitOfWork, project: str, name: str, version: str | None = None) -> DatasetLineage:
    """Where a dataset version comes from, and what stands on it, by its content, under whatever name it was read.

    Runs and models in the bin are left out.

    Raises:
        NotFoundError: there is no such dataset or version.
    """
    for needed in (Permission.DATA_READ, Permission.RUN_READ, Permission.MODEL_READ):
        uow.require(needed, project)
    series = datasets.find_dataset(uow, project, name)
    row = datasets.find_version(uow, series, version)
    columns = (run.c.uid, run.c.name, run.c.status, run.c.started_ms, run_input.c.context)
    readers = (
        select(*columns)
        .join(run_input, run_input.c.run == run.c.id)
        .where(run_input.c.digest == row["digest"], run.c.project == project, run.c.deleted == false())
        .order_by(run.c.started_ms.desc(), run.c.id.desc())
        .limit(USES_MAX + 1)
    )
    # One run may have read the same content under two names.
    found = list({one.uid: one for one in reversed(uow.conn.execute(readers).all())}.values())[::-1]
    made = _made(uow, project, [one.uid for one in found[:USES_MAX]])
    return DatasetLineage(
        dataset=name,
        version=row["number"],
        made_by=row["run"],
        step=row["step"],
        used_by=tuple(
            DatasetUse(
                run=one.uid,
                name=one.name,
                status=one.status,
                started_at=from_ms(one.started_ms),
                context=one.context,
                models=tuple(made[one.uid]),
            )
            for one in found[:USES_MAX]
        ),
        more=len(found) > USES_MAX,
    )


def _made(uow: UnitOfWork, project: str, runs: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    query = (
        select(model_version.c.run, model.c.name, model_version.c.version)
        .join(model, model.c.uid == model_version.c.model)
        .where(model_version.c.project == project, model_version.c.run.in_(runs))
        .where(model_version.c.deleted == false())
        .order_by(model.c.name, model_version.c.version)
    )
    for uid, name, number in uow.conn.execute(query):
        found[uid].append(f"{name}/{number}")
    return found
