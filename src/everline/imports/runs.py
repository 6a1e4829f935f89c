"""Experiments and runs of another system, written as they were: their uids, times, authors' names and deletions.

An experiment is the one of the same name here, else a new one with its old number where that is free. A run keeps
its uid. What is here already is never changed: only what is missing is added, so that an import may be repeated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Table, func, insert, select, text, update

from everline.access.declare import stream
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.imports.source import Point, Row
from everline.imports.types import ImportReport
from everline.runs import experiments, tracking
from everline.runs.tables import experiment, experiment_tag, metric, run, run_input, run_output, run_param, run_tag
from everline.runs.types import LOGGED_MODEL, RunStatus, to_ms
from everline.storage.db import upsert

REMOTE_SCHEMES = (
    "s3:",
    "gs:",
    "wasbs:",
    "abfss:",
    "azure:",
    "hdfs:",
    "dbfs:",
    "ftp:",
    "sftp:",
    "http:",
    "https:",
    "r2:",
)
_STATUSES = {status.name: status.value for status in RunStatus}


class Home(msgspec.Struct, frozen=True, kw_only=True):
    """Where an experiment of the source is here."""

    number: int
    location: str


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run of the source is here: its internal number, its artifact root, and whether it is new."""

    number: int
    artifact_uri: str
    is_new: bool


def is_remote(uri: str | None) -> bool:
    """Whether artifacts of this root are kept where clients reach them without a server."""
    return (uri or "").startswith(REMOTE_SCHEMES)


@stream
def put_experiments(uow: UnitOfWork, project: str, found: Sequence[Row], *, report: ImportReport) -> dict[Any, Home]:
    """Find or make the home of each experiment; return it by the source's number."""
    uow.require(Permission.RUN_WRITE, project)
    homes: dict[Any, Home] = {}
    for row in found:
        home, is_new = _home_of(uow, project, row)
        homes[row["experiment_id"]] = home
        report.count("experiments", source=1, imported=int(is_new), here=1)
        if str(home.number) != str(row["experiment_id"]):
            report.renumbered[str(row["experiment_id"])] = str(home.number)
        tags = [{"experiment": home.number, "key": key, "value": value} for key, value in row["tags"].items()]
        upsert(uow.conn, experiment_tag, tags, keys=["experiment", "key"])
    if uow.conn.dialect.name == "postgresql":
        # Numbers that were given by hand are unknown to the sequence, which would give them out again.
        uow.conn.execute(
            text("SELECT setval(pg_get_serial_sequence('experiment', 'id'), greatest(max(id), 1)) FROM experiment")
        )
    return homes


@stream
def put_runs(
    uow: UnitOfWork, project: str, page: Sequence[Row], *, homes: Mapping[Any, Home], report: ImportReport
) -> dict[str, Placed]:
    """Write runs with their parameters, tags, inputs and outputs; metrics follow with `put_metrics`."""
    uow.require(Permission.RUN_WRITE, project)
    known = _known(uow, [row["run_uuid"] for row in page])
    mine = []
    for row in page:
        taken = known.get(row["run_uuid"])
        if taken is not None and taken["project"] != project:
            report.problem(f"run {row['run_uuid']}: it is in the project {taken['project']!r} already")
        else:
            mine.append(row)
    fresh = [_values(uow, project, row, homes[row["experiment_id"]]) for row in mine if row["run_uuid"] not in known]
    if fresh:
        uow.conn.execute(insert(run), fresh)
    placed = {}
    for uid, row in _known(uow, [row["run_uuid"] for row in mine]).items():
        placed[uid] = Placed(number=row["id"], artifact_uri=row["artifact_uri"], is_new=uid not in known)
    _end(uow, [(placed[row["run_uuid"]], row) for row in mine if row["run_uuid"] in known])
    report.count("runs", source=len(page), imported=len(fresh), here=len(placed))
    _put_details(uow, mine, placed, report)
    return placed


@stream
def put_metrics(uow: UnitOfWork, project: str, points: Sequence[Point], *, placed: Mapping[str, Placed]) -> None:
    """Add points of runs that were placed; a point that is here already stays the one point that it is."""
    uow.require(Permission.RUN_WRITE, project)
    keys = tracking.key_numbers(uow, {key for _, key, *_ in points})
    rows = []
    for uid, key, at_ms, step, value, is_nan in points:
        if is_nan or value is None or math.isnan(value):
            rows.append((placed[uid].number, keys[key], at_ms, step or 0, 0.0, True))
        else:
            kept = max(-tracking.DOUBLE_MAX, min(tracking.DOUBLE_MAX, value))
            rows.append((placed[uid].number, keys[key], at_ms, step or 0, kept, False))
    tracking.put_points(uow, rows)


def count_points(uow: UnitOfWork, numbers: Sequence[int]) -> dict[int, int]:
    """How many points each run has; asks for no permission."""
    return _counts(uow, metric, numbers)


def _home_of(uow: UnitOfWork, project: str, row: Row) -> tuple[Home, bool]:
    name, number = row["name"], int(row["experiment_id"])
    found = experiments.find_by_name(uow, project, name)
    if found is not None and not found["created_ms"]:  # the default one, which nobody has used yet
        found = experiments.default_experiment(uow, project)
    if found is not None:
        return Home(number=found["id"], location=found["artifact_location"]), False
    # Number 0 is the default experiment of the project `default`, whatever it is called.
    is_free = number != 0 or project == experiments.DEFAULT_PROJECT
    is_free = is_free and uow.conn.execute(select(experiment.c.id).where(experiment.c.id == number)).first() is None
    now = to_ms(uow.clock.now())
    values = {
        "project": project, "name": name, "artifact_location": "", "deleted": row["lifecycle_stage"] == "deleted",
        "created_ms": row["creation_time"] or now, "updated_ms": row["last_update_time"] or now,
    }  # fmt: skip
    if is_free:
        values["id"] = number
    made = uow.conn.execute(insert(experiment).values(**values).returning(experiment.c.id)).scalar_one()
    location = row["artifact_location"] if is_remote(row["artifact_location"]) else None
    location = location or f"{experiments.ARTIFACT_SCHEME}/{made}"
    uow.conn.execute(update(experiment).where(experiment.c.id == made).values(artifact_location=location))
    return Home(number=made, location=location), True


def _values(uow: UnitOfWork, project: str, row: Row, home: Home) -> dict[str, Any]:
    uid, uri = row["run_uuid"], row["artifact_uri"]
    root = home.location if not is_remote(home.location) else f"{experiments.ARTIFACT_SCHEME}/{home.number}"
    return {
        "uid": uid,
        "experiment": home.number,
        "project": project,
        "name": row["name"] or row["tags"].get(tracking.RUN_NAME_TAG) or "",
        "status": _STATUSES.get(row["status"] or "", RunStatus.FINISHED.value),
        "started_ms": row["start_time"] or 0,
        "ended_ms": row["end_time"],
        "deleted": row["lifecycle_stage"] == "deleted",
        "deleted_ms": row["deleted_time"] if row["lifecycle_stage"] == "deleted" else None,
        "user_name": row["user_id"] or "",
        "author": uow.actor.uid,
        "artifact_uri": uri if is_remote(uri) else f"{root.rstrip('/')}/{uid}/artifacts",
        "pipeline": None,
        "record": None,
        "summary": None,
    }


def _end(uow: UnitOfWork, pairs: Sequence[tuple[Placed, Row]]) -> None:
    """Runs that were under way when they were imported before, and have ended since."""
    for placed, row in pairs:
        status = _STATUSES.get(row["status"] or "")
        if status is not None and RunStatus(status).is_terminal:
            where = (run.c.id == placed.number, run.c.status == RunStatus.RUNNING.value)
            uow.conn.execute(update(run).where(*where).values(status=status, ended_ms=row["end_time"]))


def _put_details(uow: UnitOfWork, page: Sequence[Row], placed: Mapping[str, Placed], report: ImportReport) -> None:
    """What a run has few of; rows that are here stay as they are."""
    params, tags, inputs, outputs = [], [], [], []
    for row in page:
        number = placed[row["run_uuid"]].number
        params += [{"run": number, "key": key, "value": value} for key, value in row["params"].items()]
        tags += [{"run": number, "key": key, "value": value} for key, value in row["tags"].items()]
        inputs += _inputs_of(number, row)
        outputs += [
            {
                "run": number, "name": link["destination_id"], "kind": LOGGED_MODEL, "digest": "",
                "facts": {"step": link.get("step") or 0},
            }
            for link in row["outputs"]
        ]  # fmt: skip
    numbers = [one.number for one in placed.values()]
    for kind, table, rows, keys in (
        ("params", run_param, params, ["run", "key"]),
        ("tags", run_tag, tags, ["run", "key"]),
        ("inputs", run_input, inputs, ["run", "name", "digest"]),
        ("outputs", run_output, outputs, ["run", "name"]),
    ):
        unique = list({tuple(row[key] for key in keys): row for row in rows}.values())
        before = sum(_counts(uow, table, numbers).values())
        upsert(uow.conn, table, unique, keys=keys)
        after = sum(_counts(uow, table, numbers).values())
        report.count(kind, source=len(unique), imported=after - before, here=min(after, len(unique)))


def _inputs_of(number: int, row: Row) -> list[dict[str, Any]]:
    common = {"run": number, "version": None}
    found = [
        {
            **common, "name": item["name"], "digest": item["digest"],
            "context": item["tags"].get("mlflow.data.context", ""), "source_type": item["dataset_source_type"],
            "source": item["dataset_source"], "schema": item["dataset_schema"], "profile": item["dataset_profile"],
            "tags": item["tags"],
        }
        for item in row["inputs"]
    ]  # fmt: skip
    found += [
        {
            **common, "name": link["destination_id"], "digest": link["destination_id"], "context": "",
            "source_type": LOGGED_MODEL, "source": f"models:/{link['destination_id']}", "schema": None,
            "profile": None, "tags": {},
        }
        for link in row["model_inputs"]
    ]  # fmt: skip
    return found


def _known(uow: UnitOfWork, uids: Sequence[str]) -> dict[str, Row]:
    statement = select(run.c.uid, run.c.id, run.c.project, run.c.artifact_uri).where(run.c.uid.in_(list(uids)))
    return {row["uid"]: row for row in uow.conn.execute(statement).mappings()}


def _counts(uow: UnitOfWork, table: Table, numbers: Sequence[int]) -> dict[int, int]:
    statement = select(table.c.run, func.count()).where(table.c.run.in_(list(numbers))).group_by(table.c.run)
    return {row[0]: row[1] for row in uow.conn.execute(statement)}
