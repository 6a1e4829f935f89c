"""An MLflow tracking database, read and never written: one snapshot of SQLite or PostgreSQL, of MLflow 2 or 3.

What a schema lacks (datasets before 2.4, logged models before 3.0, workspaces before 3.10) is simply not there;
columns that every supported version has are asked for, and their absence is told.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    MetaData,
    Select,
    Table,
    create_engine,
    func,
    literal,
    make_url,
    select,
    true,
)
from sqlalchemy.exc import ArgumentError, DBAPIError

from everline.errors import InvalidInputError, UnavailableError

_REQUIRED = {
    "experiments": {"experiment_id", "name", "artifact_location", "lifecycle_stage"},
    "runs": {"run_uuid", "user_id", "status", "start_time", "end_time", "lifecycle_stage", "artifact_uri"},
    "metrics": {"key", "value", "timestamp", "run_uuid", "step", "is_nan"},
    "params": {"key", "value", "run_uuid"},
    "tags": {"key", "value", "run_uuid"},
    "registered_models": {"name", "creation_time", "last_updated_time", "description"},
    "model_versions": {"name", "version", "source", "run_id", "status", "current_stage"},
}
_OPTIONAL = {
    "experiment_tags", "datasets", "inputs", "input_tags", "registered_model_tags", "registered_model_aliases",
    "model_version_tags", "logged_models", "logged_model_params", "logged_model_tags", "logged_model_metrics",
}  # fmt: skip

Row = Mapping[Any, Any]
Point = tuple[str, str, int, int, float, bool]
"""Run, key, milliseconds, step, value, whether it is NaN."""


class MlflowSource:
    """One consistent, read-only look at a database."""

    def __init__(self, url: str, *, workspace: str = "default") -> None:
        """Open it.

        Args:
            url: `sqlite:///path`, `postgresql://…`, or the path of a SQLite file.
            workspace: which of MLflow's workspaces to read, where the database has them.

        Raises:
            InvalidInputError: this is no MLflow database, or one of a version that is not supported.
            UnavailableError: it cannot be reached.
        """
        self._workspace = workspace
        self._engine, self.name = _engine(url)
        try:
            self._conn = self._snapshot()
            metadata = MetaData()
            metadata.reflect(self._conn, only=lambda name, _: name in _REQUIRED or name in _OPTIONAL)
        except (DBAPIError, sqlite3.Error) as error:
            reason = getattr(error, "orig", error)
            raise UnavailableError(
                f"The database {self.name} cannot be read: {str(reason).strip()}.",
                hint="Check the address, and that this user may read it.",
            ) from error
        self._tables: dict[str, Table] = dict(metadata.tables)
        self._check_schema()

    def close(self) -> None:
        """Let the database go."""
        self._conn.close()
        self._engine.dispose()

    def experiments(self) -> list[Row]:
        """Every experiment, deleted ones too, with its tags under `tags`."""
        table = self._tables["experiments"]
        names = ["experiment_id", "name", "artifact_location", "lifecycle_stage", "creation_time", "last_update_time"]
        rows = self._all(self._select(table, names).where(self._mine(table)).order_by(table.c.experiment_id))
        tags = self._pairs("experiment_tags", "experiment_id", [row["experiment_id"] for row in rows])
        return [{**row, "tags": tags[row["experiment_id"]]} for row in rows]

    def run_count(self) -> int:
        """How many runs there are."""
        runs, experiments = self._tables["runs"], self._tables["experiments"]
        joined = runs.join(experiments, experiments.c.experiment_id == runs.c.experiment_id)
        statement = select(func.count()).select_from(joined).where(self._mine(experiments))
        return int(self._conn.execute(statement).scalar_one())

    def model_count(self) -> int:
        """How many registered and logged models there are."""
        found = [self._tables["registered_models"], self._tables.get("logged_models")]
        counts = [
            select(func.count()).select_from(table).where(self._mine(table)) for table in found if table is not None
        ]
        return sum(int(self._conn.execute(count).scalar_one()) for count in counts)

    def run_pages(self, size: int) -> Iterator[list[Row]]:
        """Every run, deleted ones too, by uid, in pages; each with `params`, `tags`, `inputs`, `outputs`, `points`."""
        runs, experiments = self._tables["runs"], self._tables["experiments"]
        names = [
            "run_uuid", "experiment_id", "name", "user_id", "status", "start_time", "end_time", "lifecycle_stage",
            "deleted_time", "artifact_uri",
        ]  # fmt: skip
        joined = runs.join(experiments, experiments.c.experiment_id == runs.c.experiment_id)
        statement = self._select(runs, names).select_from(joined).where(self._mine(experiments))
        after = ""
        while page := self._all(statement.where(runs.c.run_uuid > after).order_by(runs.c.run_uuid).limit(size)):
            after = page[-1]["run_uuid"]
            yield self._with_details(page)

    def points(self, runs: Sequence[str], *, size: int) -> Iterator[list[Point]]:
        """The whole history of every metric of some runs, in pieces."""
        metric = self._tables["metrics"].c
        statement = select(metric.run_uuid, metric.key, metric.timestamp, metric.step, metric.value, metric.is_nan)
        statement = statement.where(metric.run_uuid.in_(list(runs))).execution_options(yield_per=size)
        for part in self._conn.execute(statement).partitions(size):
            yield [tuple(row) for row in part]

    def models(self) -> list[Row]:
        """Every registered model with `tags`, `aliases` and `versions`, each of which has `tags`."""
        table = self._tables["registered_models"]
        names = ["name", "creation_time", "last_updated_time", "description"]
        rows = self._all(self._select(table, names).where(self._mine(table)).order_by(table.c.name))
        tags = self._pairs("registered_model_tags", "name", [row["name"] for row in rows])
        aliases = self._pairs(
            "registered_model_aliases", "name", [row["name"] for row in rows], pair=("alias", "version")
        )
        return [
            {**row, "tags": tags[row["name"]], "aliases": aliases[row["name"]], "versions": self._versions(row["name"])}
            for row in rows
        ]

    def logged_models(self) -> list[Row]:
        """Every logged model of MLflow 3 with `params`, `tags` and `metrics`."""
        table, experiments = self._tables.get("logged_models"), self._tables["experiments"]
        if table is None:
            return []
        names = [
            "model_id", "experiment_id", "name", "artifact_location", "creation_timestamp_ms",
            "last_updated_timestamp_ms", "status", "lifecycle_stage", "model_type", "source_run_id",
        ]  # fmt: skip
        joined = table.join(experiments, experiments.c.experiment_id == table.c.experiment_id)
        rows = self._all(self._select(table, names).select_from(joined).where(self._mine(experiments)))
        uids = [row["model_id"] for row in rows]
        params = self._pairs("logged_model_params", "model_id", uids, pair=("param_key", "param_value"))
        tags = self._pairs("logged_model_tags", "model_id", uids, pair=("tag_key", "tag_value"))
        metrics = self._grouped("logged_model_metrics", "model_id", uids)
        return [
            {
                **row,
                "params": params[row["model_id"]],
                "tags": tags[row["model_id"]],
                "metrics": metrics[row["model_id"]],
            }
            for row in rows
        ]

    def _versions(self, name: str) -> list[Row]:
        table = self._tables["model_versions"]
        names = [
            "version", "creation_time", "last_updated_time", "description", "user_id", "current_stage", "source",
            "storage_location", "run_id", "run_link", "status",
        ]  # fmt: skip
        where = (table.c.name == name, self._mine(table), table.c.current_stage != "Deleted_Internal")
        rows = self._all(self._select(table, names).where(*where).order_by(table.c.version))
        tags: dict[int, dict[str, str]] = defaultdict(dict)
        for tag in self._grouped("model_version_tags", "name", [name])[name]:
            tags[tag["version"]][tag["key"]] = tag["value"] or ""
        return [{**row, "tags": tags[row["version"]]} for row in rows]

    def _with_details(self, page: list[Row]) -> list[Row]:
        uids = [row["run_uuid"] for row in page]
        params, tags = self._pairs("params", "run_uuid", uids), self._pairs("tags", "run_uuid", uids)
        metric = self._tables["metrics"].c
        counts = select(metric.run_uuid, func.count()).where(metric.run_uuid.in_(uids)).group_by(metric.run_uuid)
        points = {row[0]: row[1] for row in self._conn.execute(counts)}
        inputs, outputs = self._inputs(uids), self._links("source_id", uids, "RUN_OUTPUT")
        models = self._links("source_id", uids, "RUN_INPUT")
        return [
            {
                **row, "params": params[row["run_uuid"]], "tags": tags[row["run_uuid"]],
                "points": points.get(row["run_uuid"], 0), "inputs": inputs[row["run_uuid"]],
                "outputs": outputs[row["run_uuid"]], "model_inputs": models[row["run_uuid"]],
            }
            for row in page
        ]  # fmt: skip

    def _inputs(self, uids: Sequence[str]) -> dict[str, list[Row]]:
        """The datasets of runs, each with the tags of its use."""
        inputs, datasets = self._tables.get("inputs"), self._tables.get("datasets")
        found: dict[str, list[Row]] = defaultdict(list)
        if inputs is None or datasets is None:
            return found
        statement = (
            select(datasets, inputs.c.destination_id, inputs.c.input_uuid)
            .join(inputs, inputs.c.source_id == datasets.c.dataset_uuid)
            .where(inputs.c.source_type == "DATASET", inputs.c.destination_id.in_(list(uids)))
        )
        rows = self._all(statement)
        tags = self._pairs("input_tags", "input_uuid", [row["input_uuid"] for row in rows], pair=("name", "value"))
        for row in rows:
            found[row["destination_id"]].append({**row, "tags": tags[row["input_uuid"]]})
        return found

    def _links(self, column: str, uids: Sequence[str], kind: str) -> dict[str, list[Row]]:
        """Logged models that runs made or read."""
        rows = self._grouped("inputs", column, uids)
        return defaultdict(
            list, {uid: [row for row in links if row["source_type"] == kind] for uid, links in rows.items()}
        )

    def _pairs(
        self, name: str, owner: str, keys: Sequence[Any], *, pair: tuple[str, str] = ("key", "value")
    ) -> dict[Any, dict[str, Any]]:
        pairs: dict[Any, dict[str, Any]] = defaultdict(dict)
        for key, rows in self._grouped(name, owner, keys).items():
            pairs[key] = {row[pair[0]]: "" if row[pair[1]] is None else row[pair[1]] for row in rows}
        return pairs

    def _grouped(self, name: str, owner: str, keys: Sequence[Any]) -> dict[Any, list[Row]]:
        table = self._tables.get(name)
        found: dict[Any, list[Row]] = defaultdict(list)
        if table is None:
            return found
        for start in range(0, len(keys), 500):
            part = list(keys[start : start + 500])
            for row in self._all(select(table).where(table.c[owner].in_(part), self._mine(table))):
                found[row[owner]].append(row)
        return found

    def _mine(self, table: Table) -> ColumnElement[bool]:
        return table.c.workspace == self._workspace if "workspace" in table.c else true()

    def _select(self, table: Table, names: Sequence[str]) -> Select[Any]:
        return select(*(table.c[name] if name in table.c else literal(None).label(name) for name in names))

    def _all(self, statement: Select[Any]) -> list[Row]:
        return [dict(row) for row in self._conn.execute(statement).mappings()]

    def _snapshot(self) -> Connection:
        if self._engine.dialect.name == "sqlite":
            conn = self._engine.connect()
            conn.exec_driver_sql("BEGIN")
            return conn
        return self._engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def _check_schema(self) -> None:
        if "experiments" not in self._tables or "runs" not in self._tables:
            raise InvalidInputError(
                f"{self.name} is not a tracking database of MLflow: it has no tables `experiments` and `runs`.",
                hint="Name the --backend-store-uri of the MLflow server.",
                field="source",
            )
        for name, columns in _REQUIRED.items():
            missing = columns - set(self._tables[name].c.keys()) if name in self._tables else columns
            if missing:
                lacks = ", ".join(sorted(missing))
                raise InvalidInputError(
                    f"{self.name} has the schema of an MLflow that is too old: {name} lacks {lacks}.",
                    hint="Copy the database, run MLflow's `mlflow db upgrade` on the copy, and import that.",
                    field="source",
                )


def _engine(url: str) -> tuple[Engine, str]:
    """The engine, and the address without its password."""
    if "://" not in url:
        if Path(url).is_dir():
            raise InvalidInputError(
                f"{url} is a folder: MLflow's file store is not read directly.",
                hint="Turn it into a database with `mlflow migrate-filestore`, then import that with --artifacts.",
                field="source",
            )
        url = f"sqlite:///{Path(url).absolute()}"
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidInputError(
            "The source cannot be read as an address.",
            hint="Write it like sqlite:///path/to/mlflow.db or postgresql://user:password@host/name.",
            field="source",
        ) from None
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed.set(drivername="postgresql+psycopg")), parsed.render_as_string()
    if parsed.get_backend_name() != "sqlite":
        raise InvalidInputError(
            f"A source of the kind {parsed.get_backend_name()!r} is not read.",
            hint="Import from SQLite or PostgreSQL.",
            field="source",
        )
    path = Path(parsed.database or "").absolute()
    if not path.is_file():
        raise InvalidInputError(f"There is no database file {path}.", hint="Check the path.", field="source")

    def connect() -> sqlite3.Connection:
        # Read-only by the file's mode, so that not even a fault of ours could write.
        return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)

    return create_engine("sqlite://", creator=connect), f"sqlite:///{path}"
