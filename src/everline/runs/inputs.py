"""What runs have read, over whole experiments."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.runs.tables import run, run_input
from everline.runs.types import RunInput

INPUTS_PER_LIST_MAX = 1_000


@read
def list_inputs(
    uow: UnitOfWork, project: str, *, experiments: Sequence[int], without: str = ""
) -> list[tuple[int, RunInput]]:
    """The different inputs of the runs of some experiments, with the experiment's number, by experiment and name.

    Args:
        without: a source type that is left out.

    Returns:
        At most 1,000 pairs; of each input only its name, digest, context and source type.
    """
    uow.require(Permission.RUN_READ, project)
    item = run_input.c
    statement = (
        select(run.c.experiment, item.name, item.digest, item.context, item.source_type)
        .join(run_input, item.run == run.c.id)
        .where(run.c.project == project, run.c.experiment.in_(list(experiments)), item.source_type != without)
        .distinct()
        .order_by(run.c.experiment, item.name, item.digest, item.context)
        .limit(INPUTS_PER_LIST_MAX)
    )
    return [
        (row.experiment, RunInput(name=row.name, digest=row.digest, context=row.context, source_type=row.source_type))
        for row in uow.conn.execute(statement)
    ]
