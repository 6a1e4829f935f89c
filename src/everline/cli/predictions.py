"""`everline predictions`: the log of what endpoints answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from everline.cli.output import client_options, emit, facts, table
from everline.clock import parse_rfc3339
from everline.serving.types import Prediction

if TYPE_CHECKING:
    from everline.sdk.client import Client


@click.group("predictions")
def command() -> None:
    """List, show, explain and query logged predictions."""


@command.command("list")
@click.argument("endpoint")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 100_000))
@client_options
def list_(client: Client, *, endpoint: str, limit: int, as_json: bool) -> int:
    """List what ENDPOINT answered, newest first."""
    found: Sequence[Prediction] = client.predictions.list(endpoint, limit=limit)
    rows = (
        (one.prediction, one.at, one.event_time, f"{one.model}/{one.version}", _brief(one.outputs), one.outcome)
        for one in found
    )
    headers = ("prediction", "at", "event time", "version", "outputs", "outcome")
    empty = "Nothing is logged yet. A data plane ships its log every few seconds."
    emit(found, as_json=as_json, human=lambda: table(rows, headers=headers, empty=empty))
    return 0


@command.command("show")
@click.argument("prediction")
@client_options
def show(client: Client, *, prediction: str, as_json: bool) -> int:
    """Show what PREDICTION saw and said, who answered, and how it turned out."""
    one: Prediction = client.predictions.get(prediction)

    def human() -> None:
        facts([
            ("prediction", one.prediction),
            ("at", one.at),
            ("event time", one.event_time),
            ("endpoint", one.endpoint),
            ("version", f"{one.model}/{one.version}"),
            ("revision", one.revision),
            ("release", one.release),
            ("package", one.package),
            ("latency", f"{one.latency_us / 1000:.3f} ms"),
            ("segment", one.segment),
            *((f"in  {name}", value) for name, value in one.inputs.items()),
            *((f"out {name}", value) for name, value in one.outputs.items()),
            ("outcome", one.outcome),
        ])  # fmt: skip

    emit(one, as_json=as_json, human=human)
    return 0


@command.command("explain")
@click.argument("prediction")
@client_options
def explain(client: Client, *, prediction: str, as_json: bool) -> int:
    """Show what each input contributed to PREDICTION, by SHAP's definitions; the package is fetched and asked here."""
    found = client.predictions.explain(prediction)

    def human() -> None:
        unit = "" if found["scale"] == "output" else f" ({found['scale']})"
        facts([
            ("prediction", prediction),
            ("explained", f"{found['output']}{unit}"),
            ("method", found["method"]),
            ("compared with", found["background"]),
            ("base value", f"{found['base'][0]:.6g}"),
            ("sum", f"{found['values'][0]:.6g}"),
        ])  # fmt: skip
        click.echo()
        errors = found["standard_errors"] or {}
        each = sorted(found["contributions"].items(), key=lambda item: -abs(item[1][0]))
        rows = [
            (name, found["inputs"][name], f"{value[0]:+.6g}", f"± {errors[name][0]:.2g}" if errors else "")
            for name, value in each
        ]
        table(rows, headers=("input", "value", "contribution", ""), empty="")

    emit(found, as_json=as_json, human=human)
    return 0


@command.command("query")
@click.argument("endpoint")
@click.argument("sql")
@click.option("--since", help="Answered not before this time, such as 2026-11-27T12:00:00Z.")
@click.option("--until", help="… and before this one.")
@click.option("--limit", default=1_000_000, show_default=True, type=click.IntRange(1), help="The newest so many rows.")
@client_options
def query(
    client: Client, *, endpoint: str, sql: str, since: str | None, until: str | None, limit: int, as_json: bool
) -> int:
    """Ask the log of ENDPOINT in SQL (DuckDB): the tables are `predictions` and `shadows`."""
    found = client.predictions.query(
        sql,
        endpoint,
        since=parse_rfc3339(since, field="since") if since else None,
        until=parse_rfc3339(until, field="until") if until else None,
        limit=limit,
    )
    rows = found.to_pylist()
    values = ([row[name] for name in found.column_names] for row in rows)
    emit(rows, as_json=as_json, human=lambda: table(values, headers=tuple(found.column_names), empty="No rows."))
    return 0


def _brief(outputs: dict[str, Any]) -> str:
    parts = (
        f"{name}={value:.4f}" if isinstance(value, float) else f"{name}={value}" for name, value in outputs.items()
    )
    return " ".join(parts)
