"""Many runs at once, by plain SQL into each server's own tables: what is measured is reading, not writing.

Every run has 3 parameters, 3 metrics and 2 tags; the figures are drawn with a fixed seed, alike for both.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import Table
from sqlalchemy.dialects import sqlite

from everline.runs import tables

START_MS = 1_700_000_000_000
METRICS = ("loss", "auc", "seconds")
MODELS = ("linear", "forest", "boosting", "network")
_RUNS_AT_ONCE = 20_000


class Run(NamedTuple):
    """One run to be inserted."""

    uid: str
    name: str
    started_ms: int
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def runs(count: int) -> Iterator[Run]:
    """Runs a second apart."""
    draw = random.Random(20_130_101)
    for n in range(count):
        metrics = {"loss": draw.random(), "auc": 0.5 + draw.random() / 2, "seconds": 600 * draw.random()}
        params = {"model": draw.choice(MODELS), "depth": str(draw.randint(2, 12)), "rate": f"{draw.random():.4f}"}
        name, started = f"bulk-{n}", START_MS + 1000 * n
        tags = {"mlflow.runName": name, "team": f"team-{n % 20}"}
        yield Run(f"{draw.getrandbits(128):032x}", name, started, params, metrics, tags)


def into_mlflow(database: str, experiment: int, *, count: int) -> None:
    """Insert into the tables of MLflow 3.18."""
    with sqlite3.connect(database, timeout=60) as connection:
        for part in _parts(count):
            connection.executemany(
                "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status,"
                " start_time, end_time, source_version, lifecycle_stage, artifact_uri, experiment_id)"
                " VALUES (?, ?, 'UNKNOWN', '', '', 'bench', 'FINISHED', ?, ?, '', 'active', ?, ?)",
                [
                    (one.uid, one.name, one.started_ms, one.started_ms + 500, _place(experiment, one.uid), experiment)
                    for one in part
                ],
            )
            for table in ("metrics", "latest_metrics"):
                connection.executemany(
                    f"INSERT INTO {table} (run_uuid, key, value, timestamp, step, is_nan) VALUES (?, ?, ?, ?, 0, 0)",
                    [(one.uid, key, value, one.started_ms) for one in part for key, value in one.metrics.items()],
                )
            for table, pairs in (("params", "params"), ("tags", "tags")):
                connection.executemany(
                    f"INSERT INTO {table} (run_uuid, key, value) VALUES (?, ?, ?)",
                    [(one.uid, *pair) for one in part for pair in getattr(one, pairs).items()],
                )
        connection.execute("ANALYZE")


def into_everline(database: str, experiment: int, *, count: int) -> None:
    """Insert into Everline's tables, as `everline.runs.tables` declares them."""
    with sqlite3.connect(database, timeout=60) as connection:
        names = [{"name": name} for name in METRICS]
        connection.executemany(_insert(tables.metric_key, names[0]) + " ON CONFLICT DO NOTHING", names)
        keys = dict(connection.execute("SELECT name, id FROM metric_key").fetchall())
        (first,) = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM run").fetchone()
        for part in _parts(count):
            numbered = list(enumerate(part, start=first))
            first += len(part)
            _all(connection, tables.run, [_run(number, one, experiment) for number, one in numbered])
            points = [
                {"run": number, "key": keys[key], "at_ms": one.started_ms, "step": 0, "value": value, "is_nan": False}
                for number, one in numbered
                for key, value in one.metrics.items()
            ]
            _all(connection, tables.metric, points)
            _all(connection, tables.latest_metric, points)
            for table, pairs in ((tables.run_param, "params"), (tables.run_tag, "tags")):
                rows = [
                    {"run": number, "key": key, "value": value}
                    for number, one in numbered
                    for key, value in sorted(getattr(one, pairs).items())
                ]
                _all(connection, table, rows)
        connection.execute("ANALYZE")


def _run(number: int, one: Run, experiment: int) -> dict[str, Any]:
    return {
        "id": number,
        "uid": one.uid,
        "experiment": experiment,
        "project": "default",
        "name": one.name,
        "status": "finished",
        "started_ms": one.started_ms,
        "ended_ms": one.started_ms + 500,
        "deleted": False,
        "user_name": "bench",
        "author": "00000000-0000-7000-8000-000000000000",
        "artifact_uri": _place(experiment, one.uid),
    }


def _place(experiment: int, uid: str) -> str:
    return f"mlflow-artifacts:/{experiment}/{uid}/artifacts"


def _parts(count: int) -> Iterator[list[Run]]:
    part: list[Run] = []
    for one in runs(count):
        part.append(one)
        if len(part) == _RUNS_AT_ONCE:
            yield part
            part = []
    yield part


def _all(connection: sqlite3.Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.executemany(_insert(table, rows[0]), rows)


def _insert(table: Table, row: dict[str, Any]) -> str:
    """The statement as SQLAlchemy writes it, run by the driver itself: ten times faster for millions of rows."""
    statement = table.insert().values({table.c[name]: None for name in row})
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="named")))
