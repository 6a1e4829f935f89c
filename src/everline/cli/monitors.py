"""`everline monitors`: what is watched, and what each window showed."""

from __future__ import annotations

import click
import msgspec

from everline.cli.output import client_options, emit, facts, table
from everline.monitoring.types import Monitor, MonitorRun, Reference, Signal, Trigger, Window
from everline.sdk.client import Client


@click.group("monitors")
def command() -> None:
    """What is watched on endpoints."""


@command.command("create")
@click.argument("name")
@click.option("--endpoint", required=True, help="Endpoint to watch.")
@click.option("--kind", type=click.Choice(["drift", "prediction_drift", "quality"]), default="drift", show_default=True)
@click.option("--reference", required=True, help="Dataset that says what is normal; `name@version` fixes a version.")
@click.option("--block", default="day", show_default=True, help="Column that says which rows belong together.")
@click.option("--window", default="1d", show_default=True, help="Length of a window on event time: 1d, 7d, 6h.")
@click.option("--offset-s", type=int, default=0, show_default=True, help="Seconds after midnight UTC that days begin.")
@click.option("--delay-s", type=int, help="Seconds that event time must move past a window's end. [0; quality: 25 h]")
@click.option("--target", help="Column of the reference with the outcome (quality).")
@click.option("--windows-between-false-alarms", type=int, default=91, show_default=True, help="The promise.")
@click.option("--on-incident", help="Pipeline that an incident runs, as module:pipeline.")
@client_options
def create(
    client: Client,
    *,
    name: str,
    endpoint: str,
    kind: str,
    reference: str,
    block: str,
    window: str,
    offset_s: int,
    delay_s: int | None,
    target: str | None,
    windows_between_false_alarms: int,
    on_incident: str | None,
    as_json: bool,
) -> None:
    """Create a monitor of an endpoint against a reference dataset."""
    dataset, _, version = reference.partition("@")
    monitor = client.monitors.create(
        name,
        endpoint=endpoint,
        kind=kind,
        reference=Reference(dataset=dataset, version=version or None, block=block),
        window=window,
        offset_s=offset_s,
        delay_s=delay_s,
        target=target,
        windows_between_false_alarms=windows_between_false_alarms,
        on_incident=Trigger(pipeline=on_incident) if on_incident else None,
    )
    emit(monitor, as_json=as_json, human=lambda: _show(monitor))


@command.command("delete")
@click.argument("name")
@client_options
def delete(client: Client, *, name: str, as_json: bool) -> None:
    """Stop watching; windows and incidents stay."""
    client.monitors.delete(name)
    emit({"deleted": name}, as_json=as_json, human=lambda: click.echo(f"{name} watches no more"))


@command.command("list")
@click.option("--endpoint", help="Only those of this endpoint.")
@client_options
def list_monitors(client: Client, *, endpoint: str | None, as_json: bool) -> None:
    """List monitors."""
    found: list[Monitor] = client.monitors.list(endpoint=endpoint)
    emit(
        found,
        as_json=as_json,
        human=lambda: table(
            ((m.name, m.endpoint, m.kind.value, m.window, m.next_start, m.open_incidents) for m in found),
            headers=("monitor", "endpoint", "kind", "window", "next window", "open incidents"),
            empty="No monitors. Next: everline monitors create NAME --endpoint … --reference …",
        ),
    )


@command.command("show")
@click.argument("name")
@click.option("--windows", type=int, default=14, show_default=True, help="How many windows to show.")
@client_options
def show(client: Client, *, name: str, windows: int, as_json: bool) -> None:
    """Show a monitor, its newest windows and the loudest signal of each."""
    monitor: Monitor = client.monitors.get(name)
    closed: list[Window] = client.monitors.windows(name, limit=windows)
    signals: list[Signal] = client.monitors.signals(name, since=closed[-1].start) if closed else []
    value = msgspec.to_builtins(monitor) | {"windows": closed, "signals": signals}
    emit(value, as_json=as_json, human=lambda: _show_windows(monitor, closed, signals))


@command.command("run")
@click.argument("name")
@client_options
def run(client: Client, *, name: str, as_json: bool) -> None:
    """Close every complete window now."""
    done: list[MonitorRun] = [client.monitors.run(name)]
    while done[-1].more:
        done.append(client.monitors.run(name))
    total = MonitorRun(
        monitor=name,
        windows=[window for one in done for window in one.windows],
        alarms=sum(one.alarms for one in done),
        opened=[uid for one in done for uid in one.opened],
        joined=[uid for one in done for uid in one.joined],
    )
    emit(
        total,
        as_json=as_json,
        human=lambda: facts(
            [("windows closed", len(total.windows)), ("alarms", total.alarms), ("incidents opened", len(total.opened))]
        ),
    )


def _show(monitor: Monitor) -> None:
    facts(
        [
            ("monitor", monitor.name),
            ("endpoint", monitor.endpoint),
            ("kind", monitor.kind.value),
            ("reference", f"{monitor.reference.dataset}@{monitor.reference.version} by {monitor.reference.block}"),
            ("window", monitor.window),
            ("false alarms", f"at most one in {monitor.windows_between_false_alarms} windows on average"),
            ("next window", monitor.next_start),
            ("open incidents", monitor.open_incidents),
        ]
    )


def _show_windows(monitor: Monitor, windows: list[Window], signals: list[Signal]) -> None:
    _show(monitor)
    click.echo()
    rows = []
    for window in windows:
        inside = [signal for signal in signals if signal.start == window.start]
        loudest = min(inside, key=lambda signal: signal.p_value, default=None)
        said = (loudest.feature, loudest.test, loudest.p_value, loudest.evidence) if loudest else ("–", "–", None, None)
        rows.append((window.start, window.rows, window.status, *said))
    table(
        rows,
        headers=("window", "rows", "status", "loudest", "test", "p", "evidence"),
        empty="No window is closed yet. Next: everline monitors run " + monitor.name,
    )
