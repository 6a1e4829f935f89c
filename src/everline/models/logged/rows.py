"""Between rows and values of logged models; these functions ask for no permission, their callers do."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, select

from everline.access.unit_of_work import UnitOfWork
from everline.errors import NotFoundError
from everline.models.tables import logged_model, logged_model_metric, logged_model_param, logged_model_tag
from everline.models.types import LoggedMetric, LoggedModel, LoggedModelStatus
from everline.runs.tables import metric_key, run
from everline.runs.types import from_ms

_KEYS_PER_QUERY = 500

Row = Mapping[Any, Any]


def find(uow: UnitOfWork, project: str, uid: str, *, deleted: bool = True) -> Row:
    """The row of a logged model in a project.

    Args:
        deleted: whether one that is deleted is found too.

    Raises:
        NotFoundError: there is none with this uid in the project.
    """
    row = uow.conn.execute(select(logged_model).where(logged_model.c.uid == uid)).mappings().first()
    if row is None or row["project"] != project or (row["deleted"] and not deleted):
        raise not_found(uid)
    return dict(row)


def not_found(uid: str) -> NotFoundError:
    """What to say of a uid that names nothing."""
    return NotFoundError(
        f"Logged model with ID '{uid[:80]}' not found.",
        hint="`everline models logged list` shows those of a project.",
        field="model_id",
    )


def numbers(uow: UnitOfWork, project: str, uids: Sequence[str]) -> dict[str, int]:
    """The internal number of each logged model of a project that is there, deleted ones included."""
    found: dict[str, int] = {}
    for part in _parts(uids):
        statement = select(logged_model.c.uid, logged_model.c.id).where(
            logged_model.c.uid.in_(part), logged_model.c.project == project
        )
        found |= {row.uid: row.id for row in uow.conn.execute(statement)}
    return found


def load(conn: Connection, found: Sequence[Row]) -> list[LoggedModel]:
    """Whole logged models for rows of `logged_model`, in the same order."""
    ids = [row["id"] for row in found]
    params, tags = _pairs(conn, logged_model_param, ids), _pairs(conn, logged_model_tag, ids)
    metrics = _metrics(conn, {row["id"]: row["uid"] for row in found})
    return [
        LoggedModel(
            uid=row["uid"],
            name=row["name"],
            project=row["project"],
            experiment=str(row["experiment"]),
            status=LoggedModelStatus(row["status"]),
            model_type=row["model_type"],
            source_run=row["source_run"],
            artifact_uri=row["artifact_uri"],
            created_at=from_ms(row["created_ms"]),
            updated_at=from_ms(row["updated_ms"]),
            deleted=row["deleted"],
            params=params[row["id"]],
            tags=tags[row["id"]],
            metrics=metrics[row["id"]],
        )
        for row in found
    ]


def _pairs(conn: Connection, table: Table, ids: Sequence[int]) -> dict[int, dict[str, str]]:
    pairs: dict[int, dict[str, str]] = defaultdict(dict)
    for part in _parts(ids):
        statement = select(table).where(table.c.logged_model.in_(part)).order_by(table.c.logged_model, table.c.key)
        for row in conn.execute(statement).mappings():
            pairs[row["logged_model"]][row["key"]] = row["value"]
    return pairs


def _metrics(conn: Connection, uids: Mapping[int, str]) -> dict[int, list[LoggedMetric]]:
    points = logged_model_metric.c
    found: dict[int, list[LoggedMetric]] = defaultdict(list)
    for part in _parts(list(uids)):
        statement = (
            select(logged_model_metric, metric_key.c.name.label("name"), run.c.uid.label("run_uid"))
            .join(metric_key, metric_key.c.id == points.key)
            .join(run, run.c.id == points.run)
            .where(points.logged_model.in_(part))
            .order_by(points.logged_model, metric_key.c.name, points.step, points.at_ms, points.run)
        )
        for row in conn.execute(statement).mappings():
            found[row["logged_model"]].append(
                LoggedMetric(
                    key=row["name"],
                    value=math.nan if row["is_nan"] else row["value"],
                    at_ms=row["at_ms"],
                    step=row["step"],
                    model_id=uids[row["logged_model"]],
                    dataset_name=row["dataset_name"],
                    dataset_digest=row["dataset_digest"],
                    run=row["run_uid"],
                )
            )
    return found


def _parts(keys: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Slices that stay below the databases' limits of bound values."""
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        yield keys[start : start + _KEYS_PER_QUERY]
