"""What every command shares: its options, and how it prints."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from everline.loader import load


def client_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --home, --url, --token, --project and --json; the command gets `client` and `as_json`."""

    @click.option("--home", type=click.Path(path_type=Path), help="Home directory. [$EVERLINE_HOME, ./.everline]")
    @click.option("--url", help="A server's address; without it the command works embedded. [$EVERLINE_URL]")
    @click.option("--token", help="API token; better set $EVERLINE_TOKEN, where the process list does not show it.")
    @click.option("--project", default="default", show_default=True, help="Project that the command speaks of.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
    @functools.wraps(function)
    def command(
        *args: Any, home: Path | None, url: str | None, token: str | None, project: str, as_json: bool, **kwargs: Any
    ) -> Any:
        with load("everline.sdk.client").Client(url, home=home, token=token, project=project) as client:
            return function(*args, client=client, as_json=as_json, **kwargs)

    return command


def emit(value: Any, *, as_json: bool, human: Callable[[], None]) -> None:
    """Print a value as JSON, or let `human` print it for people."""
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    else:
        human()


def table(rows: Iterable[Sequence[Any]], *, headers: Sequence[str], empty: str) -> None:
    """Print rows under headers, or what to do when there are none."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        click.echo(empty)
        return
    widths = [max(len(row[i]) for row in [list(headers), *cells]) for i in range(len(headers))]
    click.secho("  ".join(name.ljust(width) for name, width in zip(headers, widths, strict=True)).rstrip(), bold=True)
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one a line."""
    known = [(name, _cell(value)) for name, value in pairs]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        click.echo(click.style(name.ljust(width), dim=True) + "  " + value)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if hasattr(value, "strftime"):
        return str(value.strftime("%Y-%m-%d %H:%M:%S"))
    return str(value)
