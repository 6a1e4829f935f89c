"""Between rows and values: loading runs and experiments whole, in a fixed number of queries.

These helpers ask for no permission; the service functions that call them do.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, bindparam, select

from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import EverlineError, InvalidInputError, NotFoundError
from everline.runs.limits import is_run_uid
from everline.runs.tables import run
from everline.runs.types import Experiment, Metric, RunInput, RunOutput, RunStatus, TrackedRun, from_ms
from everline.storage.db import select_by_ids, select_rows

_IDS_PER_QUERY = 500

Row = Mapping[Any, Any]
T = TypeVar("T")

_EXPERIMENT_NAMES = "SELECT id, name FROM experiment WHERE id {ids}"
_LATEST = """
    SELECT m.run, k.name, m.value, m.at_ms, m.step, m.is_nan FROM latest_metric m JOIN metric_key k ON k.id = m.key
    WHERE m.run {ids} ORDER BY m.run, k.name
"""
_INPUT_FACTS = ("name", "digest", "version", "context", "source_type", "source", "schema", "profile")
_INPUTS = f"""
    SELECT run, tags, {", ".join(_INPUT_FACTS)} FROM run_input WHERE run {{ids}} ORDER BY run, name, digest
"""  # noqa: S608
_OUTPUTS = "SELECT run, name, kind, digest, facts FROM run_output WHERE run {ids} ORDER BY run, name"
_TARGETS = "SELECT id, uid, deleted, project FROM run WHERE uid {ids}"
_BY_UIDS = select(run).where(run.c.uid.in_(bindparam("uids", expanding=True)))


_BY_UID = select(run).where(run.c.uid == bindparam("uid"))
_ARTIFACT_URI = "SELECT artifact_uri FROM run WHERE uid = ? AND project = ?"


def by_uid(uow: UnitOfWork, uid: str) -> Row | None:
    """A run's row, in whatever project."""
    return uow.conn.execute(_BY_UID, {"uid": uid}).mappings().first()


def find_run(uow: UnitOfWork, project: str, uid: str) -> Row:
    """The row of a run in a project.

    Raises:
        NotFoundError: there is none with this uid in the project.
    """
    row = by_uid(uow, uid) if is_run_uid(uid) else None
    if row is None or row["project"] != project:
        raise no_run(uid)
    return dict(row)


def artifact_uri(uow: UnitOfWork, project: str, uid: str) -> str:
    """Where the artifacts of a run of a project are.

    Raises:
        NotFoundError: there is none with this uid in the project.
    """
    found = select_rows(uow.conn, _ARTIFACT_URI, (uid, project)) if is_run_uid(uid) else ()
    if not found:
        raise no_run(uid)
    return str(found[0][0])


def no_run(uid: str) -> EverlineError:
    """What to say of a run that is not there, or that could not be a run."""
    return NotFoundError(
        f"Run with id={uid[:300]} not found", hint="`everline runs list` shows the runs of a project.", field="run_id"
    )


def find_runs(uow: UnitOfWork, project: str, uids: Collection[str]) -> dict[str, Row]:
    """The rows of runs in a project by uid; those that are not there are left out."""
    found: dict[str, Row] = {}
    for part in _parts([uid for uid in uids if is_run_uid(uid)]):
        for row in uow.conn.execute(_BY_UIDS, {"uids": part}).mappings():
            if row["project"] == project:
                found[row["uid"]] = row
    return found


def writable_run(uow: UnitOfWork, project: str, uid: str) -> Row:
    """The row of a run that may be written to: the actor may, and it is not deleted."""
    uow.require(Permission.RUN_WRITE, project)
    return writable(find_run(uow, project, uid), uid)


def find_targets(uow: UnitOfWork, project: str, uids: Collection[str]) -> dict[str, Row]:
    """Of runs in a project, by uid, only what logging to them needs: `id`, `uid` and `deleted`."""
    return {
        uid: {"id": number, "uid": uid, "deleted": deleted}
        for number, uid, deleted, owner in select_by_ids(uow.conn, _TARGETS, [uid for uid in uids if is_run_uid(uid)])
        if owner == project
    }


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
    parents = sorted({row["experiment"] for row in found})
    names: dict[int, str] = {one[0]: one[1] for one in select_by_ids(conn, _EXPERIMENT_NAMES, parents)}
    latest: dict[int, list[Metric]] = defaultdict(list)
    for number, key, value, at_ms, step, is_nan in select_by_ids(conn, _LATEST, ids):
        latest[number].append(Metric(key=key, value=math.nan if is_nan else value, at_ms=at_ms, step=step))
    params, tags = _pairs(conn, "run_param", "run", ids), _pairs(conn, "run_tag", "run", ids)
    inputs, outputs = _inputs(conn, ids), _outputs(conn, ids)
    return [
        tracked(
            row,
            experiment=names[row["experiment"]],
            params=params[row["id"]],
            tags=tags[row["id"]],
            latest=latest[row["id"]],
            inputs=inputs[row["id"]],
            outputs=outputs[row["id"]],
        )
        for row in found
    ]


def tracked(
    row: Row,
    *,
    experiment: str,
    params: dict[str, str],
    tags: dict[str, str],
    latest: Sequence[Metric] = (),
    inputs: Sequence[RunInput] = (),
    outputs: Sequence[RunOutput] = (),
) -> TrackedRun:
    """A whole run from its row and what belongs to it; `experiment` is the name of its experiment."""
    return TrackedRun(
        run=row["uid"],
        experiment=experiment,
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
        params=params,
        metrics={point.key: None if math.isnan(point.value) else point.value for point in latest},
        tags=tags,
        inputs=list(inputs),
        outputs=list(outputs),
        started_ms=row["started_ms"],
        ended_ms=row["ended_ms"],
        latest=list(latest),
    )


def load_experiments(conn: Connection, found: Sequence[Row]) -> list[Experiment]:
    """Whole experiments for rows of `experiment`, in the same order."""
    tags = _pairs(conn, "experiment_tag", "experiment", [row["id"] for row in found])
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


def _pairs(conn: Connection, table: str, owner: str, ids: Sequence[int]) -> dict[int, dict[str, str]]:
    pairs: dict[int, dict[str, str]] = defaultdict(dict)
    statement = f'SELECT "{owner}", "key", "value" FROM {table} WHERE "{owner}" {{ids}} ORDER BY "{owner}", "key"'  # noqa: S608
    for number, key, value in select_by_ids(conn, statement, ids):
        pairs[number][key] = value
    return pairs


def _inputs(conn: Connection, ids: Sequence[int]) -> dict[int, list[RunInput]]:
    inputs: dict[int, list[RunInput]] = defaultdict(list)
    for number, tags, *facts in select_by_ids(conn, _INPUTS, ids):
        given = dict(zip(_INPUT_FACTS, facts, strict=True))
        inputs[number].append(RunInput(**given, tags=msgspec.json.decode(tags) if tags else {}))
    return inputs


def _outputs(conn: Connection, ids: Sequence[int]) -> dict[int, list[RunOutput]]:
    outputs: dict[int, list[RunOutput]] = defaultdict(list)
    for number, name, kind, digest, facts in select_by_ids(conn, _OUTPUTS, ids):
        made = RunOutput(name=name, kind=kind, digest=digest, facts=msgspec.json.decode(facts) if facts else {})
        outputs[number].append(made)
    return outputs


def _parts(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    """Slices that stay below the databases' limits of bound values."""
    for start in range(0, len(ids), _IDS_PER_QUERY):
        yield ids[start : start + _IDS_PER_QUERY]
