"""`everline data`: add, status, list, show, tag, verify, checkout, diff, contract, check and gc."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec

from everline.cli.output import client_options, emit, facts, table
from everline.datasets.types import (
    Column,
    ColumnDifference,
    ContractCheck,
    DatasetDifference,
    DatasetStatus,
    DatasetVersion,
    DatasetVersionDetail,
    RowExample,
)
from everline.errors import ForbiddenError, InvalidInputError, NotFoundError
from everline.models.types import DatasetLineage
from everline.sdk.client import Client
from everline.storage.types import Collection

_MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
_CELLS_SHOWN = 5


@click.group()
def command() -> None:
    """Add, list, show, compare and verify dataset versions."""


@command.command()
@click.argument("name")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--version", "label", help="A label for the version, such as 2013-06; unique in the dataset.")
@click.option("--run", help="The run that made the data; `show` then names it.")
@click.option("--step", help="With --run: in which of its steps.")
@client_options
def add(
    client: Client,
    as_json: bool,
    name: str,
    paths: tuple[Path, ...],
    label: str | None,
    run: str | None,
    step: str | None,
) -> None:
    """Snapshot files, folders or tables as an immutable version."""
    version = client.datasets.add(name, paths, label=label, run=run, step=step, watch=_progress)
    checked = _checked(client, version)

    def human() -> None:
        click.echo(f"{'added' if version.created else 'already there:'} {name}@{version.version}")
        facts(_version_facts(version))
        if checked is not None and not checked.holds:
            click.secho(f"it breaks contract {checked.contract} of {checked.owner}:", fg="yellow", err=True)
            for breach in checked.breaches[:10]:
                click.echo(f"  {breach}", err=True)

    emit(version, as_json=as_json, human=human)


@command.command()
@click.argument("name")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--version", help="Number or label; else what the paths were last added or checked out as, or the newest."
)
@client_options
def status(client: Client, as_json: bool, name: str, paths: tuple[Path, ...], version: str | None) -> int:
    """Say what changed in files since they were added or checked out; exits 1 if anything did."""
    found: DatasetStatus = client.datasets.status(name, paths, version)

    def human() -> None:
        for word, changed in (("+", found.added), ("-", found.removed), ("~", found.changed)):
            for path in changed:
                click.echo(f"{word} {path}")
        if found.clean:
            click.secho(f"unchanged: {found.files} files are those of {name}@{found.version}", fg="green")
        else:
            counts = f"{len(found.changed)} changed, {len(found.added)} added, {len(found.removed)} removed"
            click.echo(f"{counts}, {found.unchanged} as in {name}@{found.version}")

    emit(found, as_json=as_json, human=human)
    return 0 if found.clean else 1


@command.command("list")
@click.argument("name", required=False)
@click.option("--tag", "tags", multiple=True, metavar="KEY[=VALUE]", help="Only those with this tag; may be repeated.")
@client_options
def list_(client: Client, as_json: bool, name: str | None, tags: tuple[str, ...]) -> None:
    """List datasets, or the versions of one."""
    none = "Nothing has these tags." if tags else ""
    if name is None:
        datasets = client.datasets.list(tagged=tags)
        rows: list[Any] = [
            (d.name, d.versions, d.latest and d.latest.rows, d.latest and d.latest.bytes, _tags(d.tags),
             d.latest and d.latest.digest)
            for d in datasets
        ]  # fmt: skip
        headers: tuple[str, ...] = ("dataset", "versions", "rows", "bytes", "tags", "digest")
        empty = none or "No datasets yet. Add one with `everline data add NAME PATH`."
        emit(datasets, as_json=as_json, human=lambda: table(rows, headers=headers, empty=empty))
        return
    versions = client.datasets.versions(name, tagged=tags)
    rows = [
        (v.version, ", ".join(v.labels), v.rows, v.files, v.bytes, v.created_at, _tags(v.tags), v.digest)
        for v in versions
    ]
    headers = ("version", "labels", "rows", "files", "bytes", "added", "tags", "digest")
    emit(versions, as_json=as_json, human=lambda: table(rows, headers=headers, empty=none or "No versions."))


@command.command()
@click.argument("name")
@click.argument("version", required=False)
@client_options
def show(client: Client, as_json: bool, name: str, version: str | None) -> None:
    """Show a version: what it is, files, schema with profile, and lineage."""
    detail: DatasetVersionDetail = client.datasets.show(name, version)
    lineage = _lineage(client, detail.version)

    def human() -> None:
        facts([("dataset", f"{name}@{detail.version.version}"), *_version_facts(detail.version)])
        click.echo()
        table([(f.path, f.bytes, f.digest) for f in detail.files], headers=("file", "bytes", "digest"), empty="")
        if detail.table is not None:
            click.echo()
            headers = ("column", "type", "missing", "min", "median", "max", "mean", "distinct")
            table([_profile_row(column) for column in detail.table.columns], headers=headers, empty="No columns.")
        if lineage is not None:
            click.echo()
            _print_lineage(lineage)

    shown = msgspec.to_builtins(detail) | {"lineage": lineage}
    emit(shown, as_json=as_json, human=human)


@command.command()
@click.argument("name")
@click.argument("tags", nargs=-1, metavar="[KEY=VALUE]…")
@click.option("--version", help="Tag this version, by number or label, instead of the dataset.")
@click.option("--remove", multiple=True, metavar="KEY", help="Remove this tag; may be repeated.")
@client_options
def tag(
    client: Client, as_json: bool, name: str, tags: tuple[str, ...], version: str | None, remove: tuple[str, ...]
) -> None:
    """Set or remove tags of a dataset or version; without any, show them."""
    changes: dict[str, str | None] = dict(map(_key_value, tags)) | dict.fromkeys(remove)
    if version is None:
        found = client.datasets.tag(name, changes) if changes else client.datasets.get(name)
        where = name
    else:
        apply, show = client.datasets.tag_version, client.datasets.version
        kept = apply(name, version, changes) if changes else show(name, version)
        found, where = kept, f"{name}@{kept.version}"

    def human() -> None:
        if found.tags:
            facts(list(found.tags.items()))
        else:
            click.echo(f"{where} has no tags.")

    emit(found.tags, as_json=as_json, human=human)


@command.command()
@click.argument("name")
@click.argument("version", required=False)
@client_options
@click.pass_context
def verify(context: click.Context, client: Client, as_json: bool, name: str, version: str | None) -> None:
    """Read every stored byte of a version again; exit 1 if any is not what was added."""
    result = client.datasets.verify(name, version)

    def human() -> None:
        if result.verified:
            click.secho(f"verified: {result.files} files, {result.bytes} bytes of {name}@{result.version}", fg="green")
        for bad in result.bad:
            click.secho(f"{bad.path}: {bad.reason}", fg="red")

    emit(result, as_json=as_json, human=human)
    if not result.verified:
        context.exit(1)


@command.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@client_options
def gc(client: Client, as_json: bool, dry_run: bool) -> None:
    """Remove bytes that nothing refers to, such as of uploads that were broken off; in all projects."""
    found: Collection = client.datasets.collect_garbage(dry_run=dry_run)

    def human() -> None:
        would = "would be " if dry_run else ""
        facts(
            [
                (f"{would}removed", found.removed),
                (f"bytes {would}freed", found.bytes_freed),
                (f"packs {would}rewritten", found.packs_rewritten),
                ("found now, kept for the grace", found.condemned),
                ("found before, still kept", found.waiting),
                ("found before, in use again", found.pardoned),
            ]
        )

    emit(found, as_json=as_json, human=human)


@command.command()
@click.argument("name")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--version", help="Number or label; the newest without it.")
@click.option("--force", is_flag=True, help="Replace files that are there with other content.")
@client_options
def checkout(client: Client, as_json: bool, name: str, target: Path, version: str | None, force: bool) -> None:
    """Write the files of a version into the folder TARGET."""
    paths = client.datasets.checkout(name, target, version, force=force)

    def human() -> None:
        click.echo(f"{len(paths)} files in {target}")

    emit({"dataset": name, "files": [str(path) for path in paths]}, as_json=as_json, human=human)


@command.command()
@click.argument("name")
@click.argument("before")
@click.argument("after", required=False)
@click.option("--key", help="Columns that identify a row, comma-separated: rows are then compared too.")
@click.option(
    "--rows", type=click.IntRange(0, 100), default=5, show_default=True, help="With --key: examples of each kind."
)
@client_options
def diff(client: Client, as_json: bool, name: str, before: str, after: str | None, key: str | None, rows: int) -> None:
    """Show what changed from version BEFORE to AFTER (the newest)."""
    columns = [column.strip() for column in (key or "").split(",") if column.strip()]
    found: DatasetDifference = client.datasets.diff(name, before, after, key=columns, rows=rows)
    emit(found, as_json=as_json, human=lambda: _print_difference(found))


@command.command()
@click.argument("name")
@click.option(
    "--set", "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Keep this TOML as the newest."
)
@click.option("--number", type=click.IntRange(min=1), help="An older contract.")
@client_options
def contract(client: Client, as_json: bool, name: str, file: Path | None, number: int | None) -> None:
    """Show what a dataset promises to its readers, or set it from a TOML file."""
    kept = client.datasets.contract(name, number) if file is None else client.datasets.set_contract(name, _toml(file))

    def human() -> None:
        if file is not None:
            click.echo(f"{'set' if kept.created else 'already there:'} contract {kept.number} of {name}")
        rules = kept.contract
        facts(
            [
                ("dataset", name), ("contract", kept.number), ("owner", rules.owner),
                ("key", ", ".join(rules.key) or None), ("fresh within", rules.fresh_within),
                ("further columns", "no" if rules.closed else "yes"),
                ("since", kept.created_at), ("by", kept.created_by),
            ]
        )  # fmt: skip
        if rules.columns:
            click.echo()
            rows = [(n, r.type, "yes" if r.nullable else "no", r.min, r.max, r.values and ", ".join(map(str, r.values)))
                    for n, r in rules.columns.items()]  # fmt: skip
            table(rows, headers=("column", "type", "may be missing", "min", "max", "values"), empty="")

    emit(kept, as_json=as_json, human=human)


@command.command()
@click.argument("name")
@click.argument("version", required=False)
@click.option("--contract", "number", type=click.IntRange(min=1), help="The contract's number; the newest without it.")
@client_options
def check(client: Client, as_json: bool, name: str, version: str | None, number: int | None) -> int:
    """Hold a version against its dataset's contract; exits 1 if it breaks it."""
    checked = client.datasets.check(name, version, number=number)

    def human() -> None:
        where = f"{name}@{checked.version}"
        if checked.holds:
            click.secho(f"{where} keeps contract {checked.contract} of {checked.owner}", fg="green")
            return
        click.secho(f"{where} breaks contract {checked.contract} of {checked.owner}", fg="red")
        rows = [(one.column, one.rule, _shown(one.asked), _shown(one.seen)) for one in checked.breaches]
        table(rows, headers=("column", "rule", "asked", "seen"), empty="")

    emit(checked, as_json=as_json, human=human)
    return 0 if checked.holds else 1


def _key_value(text: str) -> tuple[str, str]:
    key, given, value = text.partition("=")
    if not given:
        raise InvalidInputError(f"{text[:80]!r} is no tag.", hint="Write key=value; --remove KEY removes one.")
    return key, value


def _tags(tags: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in tags.items())


def _lineage(client: Client, version: DatasetVersion) -> DatasetLineage | None:
    """Where a version comes from and what stands on it, if the caller may see runs and models."""
    try:
        found: DatasetLineage = client.datasets.lineage(version.dataset, version.version)
        return found
    except ForbiddenError:
        return None


def _print_lineage(lineage: DatasetLineage) -> None:
    made_by = lineage.made_by and f"run {lineage.made_by}" + (f", step {lineage.step}" if lineage.step else "")
    facts([("made by", made_by)])
    rows = [
        (use.run, use.name, use.status, use.context, use.started_at, ", ".join(use.models)) for use in lineage.used_by
    ]
    headers = ("used by run", "name", "status", "for", "started", "made models")
    table(rows, headers=headers, empty="No run has read it yet.")
    if lineage.more:
        click.echo("… and earlier runs")


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{file} is not TOML: {error}.", field="--set") from error


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _progress(path: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        share = done / total if total else 1.0
        click.echo(f"\r\x1b[K{share:4.0%}  {path[-60:]}", nl=done == total, err=True)


def _checked(client: Client, version: DatasetVersion) -> ContractCheck | None:
    """How a version stands to its dataset's contract, if there is one."""
    try:
        checked: ContractCheck = client.datasets.check(version.dataset, version.version)
        return checked
    except NotFoundError:
        return None


def _version_facts(version: DatasetVersion) -> list[tuple[str, Any]]:
    return [
        ("digest", version.digest),
        ("table digest", version.table_digest),
        ("labels", ", ".join(version.labels) or None),
        ("tags", _tags(version.tags) or None),
        ("rows", version.rows),
        ("files", version.files),
        ("bytes", version.bytes),
        ("added", version.created_at),
        ("by", version.created_by),
    ]


def _profile_row(column: Column) -> tuple[Any, ...]:
    missing = f"{column.nulls / column.rows:.1%}" if column.rows else None
    median = column.quantiles[10] if column.quantiles else None
    kind = column.type if isinstance(column.type, str) else next(iter(column.type))
    return (column.name, kind, missing, column.minimum, median, column.maximum, column.mean, column.distinct)


def _print_difference(found: DatasetDifference) -> None:
    if found.identical:
        click.echo(f"{found.before} and {found.after} have the same content.")
        return
    facts([("rows", f"{found.rows_before} → {found.rows_after}")])
    for word, paths in (("+", found.files_added), ("-", found.files_removed), ("~", found.files_changed)):
        for path in paths:
            click.echo(f"{word} {path}")
    if found.rows is not None:
        r = found.rows
        facts([(f"rows by {', '.join(r.key)}", f"+{r.added} -{r.removed} ~{r.changed} ={r.unchanged}")])
        for example in r.examples:
            click.echo(_row_example(example))
    click.echo()
    headers = ("column", "change", "missing before", "after", "mean before", "after", "distance", "rows changed")
    # What came, went or became something else, then what shifted most.
    ordered = sorted(found.columns, key=lambda one: (one.change == "changed", -(one.distance or 0)))
    table([_difference_row(column) for column in ordered], headers=headers, empty="No column differs.")


def _row_example(example: RowExample) -> str:
    """A row in one line: its key, then its cells, of a changed row before and after."""
    mark, colour = _MARKS[example.change]
    if example.change == "changed":
        cells = [f"{one.column} {_value(one.before)} → {_value(one.after)}" for one in example.cells]
    else:
        values = [(one.column, one.after if example.change == "added" else one.before) for one in example.cells]
        cells = [f"{column} {_value(value)}" for column, value in values[:_CELLS_SHOWN]]
        cells += ["…"] if len(values) > _CELLS_SHOWN else []
    return click.style(f"{mark} {', '.join(map(_value, example.key))}", fg=colour) + f"  {', '.join(cells)}"


def _value(value: Any) -> str:
    return "–" if value is None else str(value)


def _difference_row(c: ColumnDifference) -> tuple[Any, ...]:
    distance = None if c.distance is None else f"{c.distance:.2g} {c.statistic}"
    return (
        c.name,
        c.change,
        c.missing_before,
        c.missing_after,
        c.mean_before,
        c.mean_after,
        distance,
        c.rows_changed,
    )
