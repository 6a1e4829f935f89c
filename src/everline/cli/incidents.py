"""`everline incidents`: open problems with their diagnosis."""

from __future__ import annotations

import click

from everline.cli.output import client_options, emit, facts, table
from everline.monitoring.types import Diagnosis, Incident
from everline.sdk.client import Client


@click.group("incidents")
def command() -> None:
    """Open problems with their diagnosis."""


@command.command("list")
@click.option("--status", type=click.Choice(["open", "acknowledged", "resolved"]), help="Only these.")
@click.option("--endpoint", help="Only those of this endpoint.")
@click.option("--limit", type=int, default=100, show_default=True, help="How many at most.")
@client_options
def list_incidents(client: Client, *, status: str | None, endpoint: str | None, limit: int, as_json: bool) -> None:
    """List incidents, the newest first."""
    found: list[Incident] = client.incidents.list(status=status, endpoint=endpoint, limit=limit)
    emit(
        found,
        as_json=as_json,
        human=lambda: table(
            ((i.uid, i.severity, i.status.value, i.since, i.cause, i.windows) for i in found),
            headers=("incident", "severity", "status", "since", "cause", "windows"),
            empty="No incidents.",
        ),
    )


@command.command("show")
@click.argument("incident")
@client_options
def show(client: Client, *, incident: str, as_json: bool) -> None:
    """Show an incident: what moved, since when, how sure, what it did, what to do."""
    found: Incident = client.incidents.get(incident)
    emit(found, as_json=as_json, human=lambda: _show(found))


@command.command("ack")
@click.argument("incident")
@click.option("--note", default="", help="What you are doing about it.")
@client_options
def acknowledge(client: Client, *, incident: str, note: str, as_json: bool) -> None:
    """Say that you look after an incident."""
    found: Incident = client.incidents.acknowledge(incident, note=note)
    emit(found, as_json=as_json, human=lambda: click.echo(f"Acknowledged by {found.acknowledged_by}."))


@command.command("resolve")
@click.argument("incident")
@click.option("--note", default="", help="What was done.")
@client_options
def resolve(client: Client, *, incident: str, note: str, as_json: bool) -> None:
    """Close an incident; it opens anew if its signals go on."""
    found: Incident = client.incidents.resolve(incident, note=note)
    emit(found, as_json=as_json, human=lambda: click.echo(f"Resolved by {found.resolved_by}."))


def _show(incident: Incident) -> None:
    diagnosis, last = incident.diagnosis, f"{incident.last_window:%Y-%m-%d %H:%M}"
    click.secho(incident.sentence, bold=True)
    click.echo()
    facts(
        [
            ("incident", incident.uid),
            ("status", incident.status.value),
            ("severity", incident.severity),
            *_places(incident),
            ("since", incident.since),
            (
                "slots" if incident.schedule_name else "windows",
                f"{incident.windows}, the last of {last}",
            ),
            *([] if diagnosis is None else _sureness(incident, diagnosis)),
            ("job", incident.job),
            ("note", incident.note or None),
        ]
    )
    if diagnosis is not None and diagnosis.candidates:
        click.echo()
        table(
            (
                (c.feature, c.change.kind, c.p_value, c.distance, c.effect.mean_absolute_change if c.effect else None)
                for c in diagnosis.candidates
            ),
            headers=("candidate", "change", "p", "distance", "moves a prediction by"),
            empty="",
        )


def _places(incident: Incident) -> list[tuple[str, str | None]]:
    if incident.schedule_name is not None:
        return [("schedule", incident.schedule_name)]
    return [("endpoint", incident.endpoint), ("monitor", incident.monitor_name)]


def _sureness(incident: Incident, diagnosis: Diagnosis) -> list[tuple[str, str | None]]:
    action = diagnosis.action
    return [
        ("features", ", ".join(incident.features)),
        ("how sure", f"evidence {diagnosis.evidence:.3g} against {diagnosis.level:.3g}: {diagnosis.promise}"),
        ("do", f"{action.verb.replace('_', ' ')}: {action.why}" if action else None),
    ]
