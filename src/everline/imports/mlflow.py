"""The import of an MLflow database and its artifact folder, from beginning to end.

Every piece is a transaction of its own and may be repeated: an import that was interrupted goes on where it ended,
and one that is repeated adds what was logged since. Nothing here is changed or deleted by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from everline.access.declare import act
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import EverlineError
from everline.imports import files, models, runs
from everline.imports.files import ArtifactFolders
from everline.imports.runs import Home, Placed
from everline.imports.source import MlflowSource, Row
from everline.imports.types import ImportReport
from everline.runs import artifacts
from everline.storage.blobs import BlobStore

RUNS_PER_PAGE = 200
POINTS_PER_TRANSACTION = 50_000
FILES_PER_TRANSACTION = 200

Begin = Callable[[], AbstractContextManager[UnitOfWork]]


def nothing(_count: int) -> None:
    """Show no progress."""


class MlflowImport:
    """One import into one project."""

    def __init__(
        self,
        begin: Begin,
        blobs: BlobStore,
        *,
        source: MlflowSource,
        folders: ArtifactFolders,
        project: str,
        advance: Callable[[int], None] = nothing,
    ) -> None:
        """Prepare it.

        Args:
            begin: opens one unit of work of the actor who imports.
            advance: is told of every run and model that is done.
        """
        self._begin = begin
        self._blobs = blobs
        self._source = source
        self._folders = folders
        self._project = project
        self._advance = advance
        self._moved = models.Moved()
        self._report = ImportReport(source=source.name, project=project, dry_run=False)

    def look(self) -> ImportReport:
        """Count what there is, and write nothing."""
        report, source = self._report, self._source
        report.dry_run = True
        report.count("experiments", source=len(source.experiments()))
        for page in source.run_pages(RUNS_PER_PAGE):
            report.count("runs", source=len(page))
            for kind in ("params", "tags", "inputs", "outputs"):
                report.count(kind, source=sum(len(row[kind]) for row in page))
            report.count("metrics", source=sum(row["points"] for row in page))
            for row in page:
                self._look_at(row["artifact_uri"], below=_below_run(row))
            self._advance(len(page))
        for row in source.logged_models():
            report.count("logged models", source=1)
            self._look_at(row["artifact_location"], below=_below_model(row))
            self._advance(1)
        for row in source.models():
            report.count("registered models", source=1)
            report.count("model versions", source=len(row["versions"]))
            report.count("aliases", source=len(row["aliases"]))
            self._advance(1)
        return report

    def take(self) -> ImportReport:
        """Import what is missing here, and leave one audit event with the counts."""
        with self._begin() as uow:
            homes = runs.put_experiments(uow, self._project, self._source.experiments(), report=self._report)
        for page in self._source.run_pages(RUNS_PER_PAGE):
            self._take_runs(page, homes)
        for row in self._source.logged_models():
            self._take_logged_model(row, homes)
        for row in self._source.models():
            self._take_model(row)
        with self._begin() as uow:
            record_import(uow, self._project, self._report)
        return self._report

    def _take_runs(self, page: Sequence[Row], homes: dict[Any, Home]) -> None:
        with self._begin() as uow:
            placed = runs.put_runs(uow, self._project, page, homes=homes, report=self._report)
        self._take_metrics([row for row in page if row["run_uuid"] in placed], placed)
        for row in page:
            if row["run_uuid"] in placed:
                uri = placed[row["run_uuid"]].artifact_uri
                self._moved.add(row["artifact_uri"], uri)
                self._take_artifacts(row["artifact_uri"], uri, below=_below_run(row))
            self._advance(1)

    def _take_metrics(self, page: Sequence[Row], placed: dict[str, Placed]) -> None:
        """The histories of runs that have fewer points here than there."""
        numbers = [placed[row["run_uuid"]].number for row in page]
        with self._begin() as uow:
            uow.require(Permission.RUN_READ, self._project)
            before = runs.count_points(uow, numbers)
        behind = [row["run_uuid"] for row in page if row["points"] > before.get(placed[row["run_uuid"]].number, 0)]
        for points in self._source.points(behind, size=POINTS_PER_TRANSACTION) if behind else ():
            with self._begin() as uow:
                runs.put_metrics(uow, self._project, points, placed=placed)
        with self._begin() as uow:
            uow.require(Permission.RUN_READ, self._project)
            after = runs.count_points(uow, numbers)
        for row in page:
            number, count = placed[row["run_uuid"]].number, row["points"]
            here = after.get(number, 0)
            new = here - before.get(number, 0)
            self._report.count("metrics", source=count, imported=new, here=min(here, count))

    def _take_logged_model(self, row: Row, homes: dict[Any, Home]) -> None:
        with self._begin() as uow:
            roots = models.put_logged_models(uow, self._project, [row], homes=homes, report=self._report)
        for uri in roots.values():
            self._moved.add(row["artifact_location"], uri)
            self._take_artifacts(row["artifact_location"], uri, below=_below_model(row))
        self._advance(1)

    def _take_model(self, row: Row) -> None:
        part = ImportReport(source=self._source.name, project=self._project, dry_run=False)
        try:
            with self._begin() as uow:
                models.put_model(uow, self._project, row, moved=self._moved, report=part)
            self._report.merge(part)
        except EverlineError as error:
            self._report.problem(f"registered model {row['name']!r}: {error.message}")
            self._report.count("registered models", source=1)
            self._report.count("model versions", source=len(row["versions"]))
        self._advance(1)

    def _take_artifacts(self, old: str | None, new: str, *, below: str) -> None:
        """Every file of one root, in order, a few hundred at a time."""
        if not artifacts.is_ours(new):
            self._report.left_elsewhere += 1
            return
        folder, root = self._folders.find(old, below=below), artifacts.proxy_path(new)
        if folder is None:
            return
        with self._begin() as uow:
            known = {file.path: file.digest for file in artifacts.all_files(uow, self._project, root)}
        taken: list[tuple[str, str]] = []
        for path, file in files.walk(folder):
            self._report.count("artifacts", source=1)
            try:
                self._report.artifact_bytes += file.stat().st_size
                digest, is_new = files.take(self._blobs, file, path=f"{root}/{path}", known=known.get(path))
            except (EverlineError, OSError) as error:
                self._report.problem(f"artifact {file}: {error}")
                continue
            if is_new:
                taken.append((f"{root}/{path}", digest))
            else:
                self._report.count("artifacts", here=1)
            if len(taken) >= FILES_PER_TRANSACTION:
                self._name(taken)
                taken = []
        self._name(taken)

    def _name(self, taken: Sequence[tuple[str, str]]) -> None:
        if not taken:
            return
        with self._begin() as uow:
            for path, digest in taken:
                artifacts.put_file(uow, self._project, path, digest=digest)
        self._report.count("artifacts", imported=len(taken), here=len(taken))

    def _look_at(self, uri: str | None, *, below: str) -> None:
        if runs.is_remote(uri):
            self._report.left_elsewhere += 1
            return
        folder = self._folders.find(uri, below=below)
        for _, file in files.walk(folder) if folder is not None else _none():
            self._report.count("artifacts", source=1)
            self._report.artifact_bytes += file.stat().st_size


@act
def record_import(uow: UnitOfWork, project: str, report: ImportReport) -> None:
    """Leave the counts of an import in the audit log."""
    uow.require(Permission.RUN_WRITE, project)
    uow.require(Permission.MODEL_WRITE, project)
    uow.record(
        "import.mlflow",
        subject=f"project:{project}",
        project=project,
        source=report.source,
        counts=msgspec.to_builtins(report.counts),
        problems=report.problem_count,
    )


def _none() -> Iterator[Any]:
    return iter(())


def _below_run(row: Row) -> str:
    return f"{row['experiment_id']}/{row['run_uuid']}/artifacts"


def _below_model(row: Row) -> str:
    return f"{row['experiment_id']}/models/{row['model_id']}/artifacts"
