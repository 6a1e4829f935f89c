"""Between rows and values: loading runs and experiments whole, in a fixed number of queries.

These helpers ask for no permission; the service functions that call them do.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, bindparam, select

from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import EverlineError, InvalidInputError, NotFoundError
from everline.runs.limits import check_run_uid
from everline.runs.tables import (
    experiment,
    experiment_tag,
    latest_metric,
    metric_key,
    run,
    run_input,
    run_output,
    run_param,
    run_tag,
)
from everline.runs.types import Experiment, Metric, RunInput, RunOutput, RunStatus, TrackedRun, from_ms

_IDS_PER_QUERY = 500

Row = Mapping[Any, Any]
T = TypeVar("T")

_BY_UIDS = select(run).where(run.c.uid.in_(bindparam("uids", expanding=True)))


def by_uid(uid: str) -> Select[Any]:
    """The query of a run's row, in whatever project."""
    return select(run).where(run.c.uid == uid)


def find_run(uow: UnitOfWork, project: str, uid: str) -> Row:
    """The row of a run in a project.

    Raises:
        NotFoundError: there is none with this uid in the project.
    """
    check_run_uid(uid)
    row = uow.conn.execute(by_uid(uid)).mappings().first()
    if row is None or row["project"] != project:
        raise no_run(uid)
    return dict(row)


def no_run(uid: str) -> EverlineError:
    """What to say of a run that is not there, or that could not be a run."""
    try:
        check_run_uid(uid)
    except InvalidInputError as error:
        return error
    return NotFoundError(
        f"Run with id={uid} not found", hint="`everline runs list` shows the runs of a project.", field="run_id"
    )


def find_runs(uow: UnitOfWork, project: str, uids: Collection[str]) -> dict[str, Row]:
    """The rows of runs in a project by uid; those that are not there are left out."""
    found: dict[str, Row] = {}
    for part in _parts(list(uids)):
        for row in uow.conn.execute(_BY_UIDS, {"uids": part}).mappings():
            if row["project"] == project:
                found[row["uid"]] = row
    return found


def writable_run(uow: UnitOfWork, project: str, uid: str) -> Row:
    """The row of a run that may be written to: the actor may, and it is not deleted."""
    uow.require(Permission.RUN_WRITE, project)
    return writable(find_run(uow, project, uid), uid)


def writable(row: Row | None, uid: str) -> Row:
    """A run's row, if there is one and the run takes what is logged to it."""
    if row is None:
        raise no_run(uid)
    if row["deleted"]:
        raise InvalidInputError(
            f"The run {uid} must be in the 'active' state. Current state is deleted.",
            hint="Restore it first.",
            field="run_id",
        )
    return row


def load_runs(conn: Connection, found: Sequence[Row]) -> list[TrackedRun]:
    """Whole runs for rows of `run`, in the same order."""
    ids = [row["id"] for row in found]
    names = _experiment_names(conn, {row["experiment"] for row in found})
    metrics: dict[int, list[Metric]] = defaultdict(list)
    for part in _parts(ids):
        statement = (
            select(latest_metric, metric_key.c.name)
            .join(metric_key, metric_key.c.id == latest_metric.c.key)
            .where(latest_metric.c.run.in_(part))
            .order_by(metric_key.c.name)
        )
        for row in conn.execute(statement).mappings():
            value = float("nan") if row["is_nan"] else row["value"]
            metrics[row["run"]].append(Metric(key=row["name"], value=value, at_ms=row["at_ms"], step=row["step"]))
    params, tags = _pairs(conn, run_param, "run", ids), _pairs(conn, run_tag, "run", ids)
    inputs, outputs = _inputs(conn, ids), _outputs(conn, ids)
    return [
        TrackedRun(
            run=row["uid"],
            experiment=names[row["experiment"]],
            experiment_id=str(row["experiment"]),
            project=row["project"],
            name=row["name"],
            status=RunStatus(row["status"]),
            started_at=from_ms(row["started_ms"]),
            ended_at=None if row["ended_ms"] is None else from_ms(row["ended_ms"]),
            pipeline=row["pipeline"],
            author=row["author"],
            user=row["user_name"],
            artifact_uri=row["artifact_uri"],
            deleted=row["deleted"],
            record=row["record"],
            summary=row["summary"] or {},
            params=params[row["id"]],
            metrics={point.key: None if math.isnan(point.value) else point.value for point in metrics[row["id"]]},
            tags=tags[row["id"]],
            inputs=inputs[row["id"]],
            outputs=outputs[row["id"]],
            started_ms=row["started_ms"],
            ended_ms=row["ended_ms"],
            latest=metrics[row["id"]],
        )
        for row in found
    ]


def load_experiments(conn: Connection, found: Sequence[Row]) -> list[Experiment]:
    """Whole experiments for rows of `experiment`, in the same order."""
    tags = _pairs(conn, experiment_tag, "experiment", [row["id"] for row in found])
    return [
        Experiment(
            experiment=str(row["id"]),
            name=row["name"],
            project=row["project"],
            artifact_location=row["artifact_location"],
            deleted=row["deleted"],
            created_at=from_ms(row["created_ms"]),
            updated_at=from_ms(row["updated_ms"]),
            tags=tags[row["id"]],
        )
        for row in found
    ]


def _experiment_names(conn: Connection, ids: set[int]) -> dict[int, str]:
    names: dict[int, str] = {}
    for part in _parts(sorted(ids)):
        statement = select(experiment.c.id, experiment.c.name).where(experiment.c.id.in_(part))
        names |= {row.id: row.name for row in conn.execute(statement)}
    return names


def _pairs(conn: Connection, table: Any, owner: str, ids: Sequence[int]) -> dict[int, dict[str, str]]:
    pairs: dict[int, dict[str, str]] = defaultdict(dict)
    for part in _parts(ids):
        statement = select(table).where(table.c[owner].in_(part)).order_by(table.c[owner], table.c.key)
        for row in conn.execute(statement).mappings():
            pairs[row[owner]][row["key"]] = row["value"]
    return pairs


def _inputs(conn: Connection, ids: Sequence[int]) -> dict[int, list[RunInput]]:
    inputs: dict[int, list[RunInput]] = defaultdict(list)
    for part in _parts(ids):
        statement = select(run_input).where(run_input.c.run.in_(part)).order_by(run_input.c.name, run_input.c.digest)
        for row in conn.execute(statement).mappings():
            inputs[row["run"]].append(
                RunInput(
                    name=row["name"],
                    digest=row["digest"],
                    version=row["version"],
                    context=row["context"],
                    source_type=row["source_type"],
                    source=row["source"],
                    schema=row["schema"],
                    profile=row["profile"],
                    tags=row["tags"] or {},
                )
            )
    return inputs


def _outputs(conn: Connection, ids: Sequence[int]) -> dict[int, list[RunOutput]]:
    outputs: dict[int, list[RunOutput]] = defaultdict(list)
    for part in _parts(ids):
        statement = select(run_output).where(run_output.c.run.in_(part)).order_by(run_output.c.name)
        for row in conn.execute(statement).mappings():
            outputs[row["run"]].append(
                RunOutput(name=row["name"], kind=row["kind"], digest=row["digest"], facts=row["facts"] or {})
            )
    return outputs


def _parts(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    """Slices that stay below the databases' limits of bound values."""
    for start in range(0, len(ids), _IDS_PER_QUERY):
        yield ids[start : start + _IDS_PER_QUERY]
