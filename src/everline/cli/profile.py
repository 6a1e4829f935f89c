"""`everline profile TABLE [--reference TABLE]`: a table as counts, and what drifted from a reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from everline.cli.output import client_options, emit, table
from everline.errors import InvalidInputError, NotFoundError
from everline.loader import load
from everline.sdk.client import Client

_PICTURES = {".html": "page_html", ".svg": "picture_svg"}


@click.command("profile")
@click.argument("source", metavar="TABLE")
@click.option("--reference", metavar="TABLE", help="What is normal: says what drifted from it, most drifted first.")
@click.option("--blocks", metavar="COLUMN", help="Rows of the reference that belong together, such as a day.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write pictures: FILE.html or FILE.svg.")
@click.option("--check", is_flag=True, help="Exit with 1 if something drifted.")
@client_options
def command(
    client: Client,
    as_json: bool,
    *,
    source: str,
    reference: str | None,
    blocks: str | None,
    out: Path | None,
    check: bool,
) -> int:
    """Profile a table, and compare it with a reference.

    A TABLE is a Parquet, Arrow, CSV or TSV file, a folder of such files, or DATASET[@VERSION].
    """
    if reference is None and (blocks or check):
        raise InvalidInputError(
            "Without a reference nothing can drift.", hint="Add --reference TABLE.", field="reference"
        )
    if out is not None and out.suffix.lower() not in _PICTURES:
        raise InvalidInputError(
            f"{out.name} names no kind of picture.", hint="Name a file that ends in .html or .svg.", field="out"
        )
    if out is not None and not out.absolute().parent.is_dir():
        raise InvalidInputError(f"There is no folder {out.parent}.", hint="Make it first.", field="out")
    profiles, reports = load("everline.monitoring.table_profiles"), load("everline.monitoring.report")
    rows = _read(client, source)
    old = None if reference is None else _read(client, reference)
    before = None if old is None else profiles.profile(old.drop([blocks]) if blocks in old.column_names else old)
    if before is not None and blocks in rows.column_names:
        rows = rows.drop([blocks])
    now = profiles.profile(rows, reference=before)
    report = None
    if before is not None:
        report = reports.drift_report(old, rows, blocks=blocks) if blocks else reports.drift_report(before, now)
    if out is not None:
        draw = getattr(load("everline.monitoring.pictures"), _PICTURES[out.suffix.lower()])
        out.write_text(draw(now, reference=before, report=report), encoding="utf-8")
    value = {"profile": now.to_dict()} | ({} if report is None else {"report": report.to_dict()})
    emit(value, as_json=as_json, human=lambda: _print(now, report, out))
    return 1 if check and report is not None and report.drifted else 0


def _read(client: Client, source: str) -> Any:
    """The rows of a file, of a folder of files, or of a dataset version."""
    path = Path(source)
    if path.exists():
        formats = load("everline.datasets.formats")
        inside = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        kind = formats.table_format([str(one) for one in inside]) if inside else None
        if kind is None:
            raise InvalidInputError(
                f"{source} is no table.",
                hint="Give a Parquet, Arrow, CSV or TSV file, or a folder of files of one of these.",
                field="table",
            )
        return load("everline.datasets.reading").read_table(inside, kind)
    name, _, version = source.partition("@")
    try:
        return client.datasets.table(name, version or None)
    except NotFoundError as error:
        raise NotFoundError(
            f"There is neither a file {source!r} nor such a dataset version.",
            hint="Check the path, or see `everline data list`.",
        ) from error


def _print(now: Any, report: Any, out: Path | None) -> None:
    if report is None:
        click.echo(str(now))
    else:
        judged = f"{report.current_rows:,} rows against {report.reference_rows:,}"
        click.secho(f"{'drifted' if report.drifted else 'no drift'}: {judged}", bold=True)
        table(
            ((one.name, one.drifted, one.test, one.p_value, one.effect) for one in report.features),
            headers=("column", "drifted", "test", "p", "effect"),
            empty="The reference has no columns.",
        )
        if report.added:
            click.echo(f"not in the reference: {', '.join(report.added)}")
    if out is not None:
        click.echo(f"pictures in {out}")
