"""`everline schedules`: what sets pipelines going, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from everline.cli.output import client_options, emit, facts, table

_TRIGGERS = ("cron", "every", "on_dataset", "on_incident", "on_release", "webhook")


@click.group("schedules")
def command() -> None:
    """Run pipelines by the clock, by events, by webhooks and on demand."""


@command.command("create")
@click.argument("name")
@click.argument("pipeline")
@click.option("--directory", type=click.Path(path_type=Path), help="Folder in which workers find the module.")
@click.option(
    "--param", "params", multiple=True, metavar="NAME=VALUE", help="JSON or text, such as day={slot:%Y-%m-%d}."
)
@click.option("--cron", metavar="EXPRESSION", help='Five fields, such as "30 2 * * MON-FRI", or @daily.')
@click.option("--zone", help="IANA time zone of --cron. [UTC]")
@click.option("--every", metavar="TIME", help="Such as 15m, 6h or 1d.")
@click.option("--on-dataset", metavar="DATASET", help="At each new version of a dataset.")
@click.option("--on-incident", metavar="ENDPOINT", help="At each incident of an endpoint; `any` for all.")
@click.option("--on-release", metavar="ENDPOINT", help="When a release is promoted on an endpoint; `any` for all.")
@click.option("--webhook", is_flag=True, help="When another program posts; `everline schedules secret` lets it.")
@click.option("--runs-max", type=int, default=1, show_default=True, help="Most runs at once.")
@click.option("--beyond", type=click.Choice(["queue", "skip"]), default="queue", show_default=True)
@click.option("--catch-up", type=click.Choice(["none", "last", "all"]), default="last", show_default=True)
@click.option("--catch-up-max", type=int, default=100, show_default=True, help="Most slots that are caught up.")
@click.option("--start-within-s", type=int, default=600, show_default=True, help="Later than this is missed.")
@click.option("--description", default="")
@click.option("--paused", is_flag=True, help="Create it paused.")
@client_options
def create(name: str, pipeline: str, *, client: Any, as_json: bool, **given: Any) -> None:
    """Create schedule NAME for PIPELINE, a `module:pipeline`; without a trigger it runs on demand only."""
    trigger = _trigger(given)
    options = {key: given[key] for key in ("runs_max", "beyond", "catch_up", "catch_up_max", "start_within_s")}
    directory = given["directory"]
    made = client.schedules.create(
        name, pipeline, trigger=trigger, params=_params(given["params"]), description=given["description"],
        directory=None if directory is None else directory.absolute(), enabled=not given["paused"], **options,
    )  # fmt: skip
    emit(made, as_json=as_json, human=lambda: click.echo(f"{made.name} {_next(made)}"))


@command.command("list")
@client_options
def list_schedules(*, client: Any, as_json: bool) -> None:
    """List the project's schedules."""
    found = client.schedules.list()
    rows = [(one.name, one.pipeline, _spoken(one.trigger), _state(one), one.next_at) for one in found]
    headers = ("schedule", "pipeline", "trigger", "state", "next (UTC)")
    empty = 'No schedules yet: `everline schedules create NAME module:pipeline --cron "30 2 * * *"`.'
    emit(found, as_json=as_json, human=lambda: table(rows, headers=headers, empty=empty))


@command.command("show")
@click.argument("name")
@click.option("--limit", type=int, default=20, show_default=True, help="Most runs.")
@click.option("--coming", type=int, default=5, show_default=True, help="Coming slots, at most 100.")
@client_options
def show(name: str, limit: int, coming: int, *, client: Any, as_json: bool) -> None:
    """Show a schedule, its coming slots and its newest runs."""
    found = client.schedules.show(name, coming=coming, limit=limit)
    one = found.schedule

    def human() -> None:
        facts(
            [
                ("schedule", one.name),
                ("pipeline", one.pipeline),
                ("directory", one.directory),
                ("trigger", _spoken(one.trigger)),
                ("params", msgspec.json.encode(one.params).decode()),
                ("state", _state(one)),
                ("at once", f"{one.runs_max}, beyond that {one.beyond}"),
                ("catch up", f"{one.catch_up}, at most {one.catch_up_max}"),
                ("by", one.created_by),
            ]
        )
        if found.coming:
            click.echo("\ncoming (UTC): " + ", ".join(f"{slot:%Y-%m-%d %H:%M}" for slot in found.coming))
        click.echo()
        rows = [(run.slot, run.kind, run.status, run.run, run.error or run.reason) for run in found.runs]
        table(rows, headers=("slot (UTC)", "asked by", "status", "run", "why"), empty="Nothing was run yet.")

    emit(found, as_json=as_json, human=human)


@command.command("pause")
@click.argument("name")
@client_options
def pause(name: str, *, client: Any, as_json: bool) -> None:
    """Let nothing but people and backfills set a schedule going."""
    one = client.schedules.pause(name)
    emit(one, as_json=as_json, human=lambda: click.echo(f"{name} is paused"))


@command.command("resume")
@click.argument("name")
@client_options
def resume(name: str, *, client: Any, as_json: bool) -> None:
    """Let a schedule go on, from now."""
    one = client.schedules.resume(name)
    emit(one, as_json=as_json, human=lambda: click.echo(f"{name} {_next(one)}"))


@command.command("delete")
@click.argument("name")
@click.option("--reason", default="", help="Kept in the audit log.")
@client_options
def delete(name: str, reason: str, *, client: Any, as_json: bool) -> None:
    """Delete a schedule; its history stays in the audit log."""
    client.schedules.delete(name, reason=reason)
    emit({"deleted": name}, as_json=as_json, human=lambda: click.echo(f"{name} starts nothing any more"))


@command.command("run")
@click.argument("name")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Instead of the schedule's own.")
@click.option("--reason", default="", help="Kept with the run.")
@client_options
def run(name: str, params: tuple[str, ...], reason: str, *, client: Any, as_json: bool) -> None:
    """Ask for a run at once; a worker does it."""
    asked = client.schedules.run(name, params=_params(params), reason=reason)
    said = asked.error or asked.reason
    emit(asked, as_json=as_json, human=lambda: click.echo(f"{name}: {asked.status}, {said}"))


@command.command("backfill")
@click.argument("name")
@click.option("--from", "start", required=True, help="First date or time, on the schedule's own clocks.")
@click.option("--to", "end", required=True, help="Last date or time; a date is the whole day.")
@click.option("--failed", is_flag=True, help="Run also the slots again whose last run failed.")
@client_options
def backfill(name: str, start: str, end: str, failed: bool, *, client: Any, as_json: bool) -> None:
    """Run each slot of a range that has no run yet: once, however often this is asked."""
    done = client.schedules.backfill(name, start=start, end=end, failed=failed)
    said = f"{done.made} of {done.slots} slots are run, {done.already} had a run before"
    emit(done, as_json=as_json, human=lambda: click.echo(said))


@command.command("secret")
@click.argument("name")
@client_options
def secret(name: str, *, client: Any, as_json: bool) -> None:
    """Give out a new secret for a schedule's webhook; the one before is worthless from now on."""
    given = client.schedules.secret(name)
    emit(given, as_json=as_json, human=lambda: facts([("address", given.path), ("secret", given.secret)]))


def _trigger(given: dict[str, Any]) -> Any:
    chosen = [name for name in _TRIGGERS if given[name]]
    if len(chosen) > 1:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in chosen)
        raise click.UsageError(f"A schedule has one trigger, not {names}; make one schedule for each.")
    if given["zone"] and chosen != ["cron"]:
        raise click.UsageError("--zone belongs to --cron.")
    if not chosen:
        return None
    value, place = given[chosen[0]], {"endpoint": given[chosen[0]]}
    raw = {
        "cron": {"kind": "cron", "expression": value, "zone": given["zone"] or "UTC"},
        "every": {"kind": "interval", "every": value},
        "on_dataset": {"kind": "dataset", "dataset": value},
        "on_incident": {"kind": "incident"} | ({} if value == "any" else place),
        "on_release": {"kind": "release"} | ({} if value == "any" else place),
        "webhook": {"kind": "webhook"},
    }
    return raw[chosen[0]]


def _params(pairs: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--param {pair!r} is not NAME=VALUE.")
        try:
            found[name] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            found[name] = text
    return found


def _spoken(trigger: Any) -> str:
    kind, *rest = msgspec.to_builtins(trigger).items()
    values = [str(value) for name, value in rest if value is not None and name != "unless"]
    return " ".join([str(kind[1]).replace("_", " "), *values])


def _state(one: Any) -> str:
    if not one.enabled:
        return "paused"
    return "failing" if one.failed_slot else "missed" if one.missed_slot else "on"


def _next(one: Any) -> str:
    if not one.enabled:
        return "is paused"
    return f"runs next at {one.next_at:%Y-%m-%d %H:%M:%S} UTC" if one.next_at else f"waits for {_spoken(one.trigger)}"
