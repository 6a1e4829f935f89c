"""`everline import`: taking over what other systems kept."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import click

from everline.access.types import LOCAL
from everline.cli.output import emit, table
from everline.config import Settings
from everline.errors import InvalidInputError
from everline.imports.files import ArtifactFolders
from everline.imports.mlflow import MlflowImport
from everline.imports.source import MlflowSource
from everline.imports.types import ImportReport
from everline.server.application import Application

_PROBLEMS_SHOWN = 20


@click.group("import")
def command() -> None:
    """Take over what other systems kept."""


@command.command("mlflow")
@click.argument("source")
@click.option("--artifacts", type=click.Path(path_type=Path), help="The MLflow server's --artifacts-destination.")
@click.option("--workspace", default="default", show_default=True, help="Which of MLflow's workspaces.")
@click.option("--dry-run", is_flag=True, help="Count what there is, and write nothing.")
@click.option("--home", type=click.Path(path_type=Path), help="Home directory. [$EVERLINE_HOME, ./.everline]")
@click.option("--project", default="default", show_default=True, help="Project that everything comes into.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def mlflow(
    source: str,
    *,
    artifacts: Path | None,
    workspace: str,
    dry_run: bool,
    home: Path | None,
    project: str,
    as_json: bool,
) -> int:
    """Import the database SOURCE of an MLflow server (sqlite:///…, postgresql://…, or a file) and its artifacts.

    The source is only read. What is here already stays as it is, so that an import may be repeated or go on after
    an interruption. Exits 1 if something could not be taken.
    """
    settings = Settings.load(home=home)
    if settings.url:
        raise InvalidInputError(
            "An import writes to the database itself, and EVERLINE_URL names a server.",
            hint="Run it where the server's home and EVERLINE_DATABASE_URL are, without EVERLINE_URL.",
            field="url",
        )
    folders = ArtifactFolders(artifacts)
    with closing(MlflowSource(source, workspace=workspace)) as opened, closing(Application(settings)) as app:
        length = opened.run_count() + opened.model_count()
        # On the error stream, and only where somebody watches it.
        with click.progressbar(length=length, label="Importing", file=sys.stderr, hidden=as_json) as bar:
            work = MlflowImport(
                lambda: app.begin(LOCAL),
                app.blobs,
                source=opened,
                folders=folders,
                project=project,
                advance=lambda count: bar.update(count),
            )
            report = work.look() if dry_run else work.take()
    emit(report, as_json=as_json, human=lambda: _show(report, with_artifacts=artifacts is not None))
    return 0 if dry_run or report.is_whole else 1


def _show(report: ImportReport, *, with_artifacts: bool) -> None:
    click.echo(f"{report.source} → project {report.project}" + (" (nothing was written)" if report.dry_run else ""))
    if report.dry_run:
        table([(one.kind, one.source) for one in report.counts], headers=["what", "source"], empty="It is empty.")
    else:
        rows = [
            (one.kind, one.source, one.imported, one.here, "yes" if one.here >= one.source else "NO")
            for one in report.counts
        ]
        table(rows, headers=["what", "source", "new", "here now", "all here"], empty="It is empty.")
    click.echo(f"Artifacts in the source: {report.artifact_bytes / 1e6:,.1f} MB; each is kept under its digest.")
    if not with_artifacts:
        click.echo("Without --artifacts, only artifacts that the database names by a path were looked for.")
    if report.left_elsewhere:
        click.echo(f"{report.left_elsewhere} runs and models keep their artifacts where they are, such as a bucket.")
    if report.renumbered:
        click.echo("Experiments with another number here, because theirs was taken:")
        table(list(report.renumbered.items()), headers=["source", "here"], empty="")
    for sentence in report.problems[:_PROBLEMS_SHOWN]:
        click.secho(f"not taken: {sentence}", fg="red", err=True)
    if report.problem_count > _PROBLEMS_SHOWN:
        click.echo(f"… and {report.problem_count - _PROBLEMS_SHOWN} more; --json has them.", err=True)
