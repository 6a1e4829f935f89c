"""`everline endpoints`: stable prediction addresses and what answers behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from everline.cli.output import client_options, emit, facts, table
from everline.serving.types import Endpoint, Health

if TYPE_CHECKING:
    from everline.sdk.client import Client


@click.group("endpoints")
def command() -> None:
    """List and show endpoints."""


@command.command("list")
@client_options
def list_(client: Client, *, as_json: bool) -> int:
    """List the project's endpoints and the versions that answer."""
    found: Sequence[Endpoint] = client.endpoints.list()
    rows = ((one.name, _behind(one), one.guard.value, one.created_at) for one in found)
    headers = ("endpoint", "answers", "guard", "created")
    empty = "No endpoint yet. The first release creates one: `everline release create ENDPOINT MODEL VERSION`."
    emit(found, as_json=as_json, human=lambda: table(rows, headers=headers, empty=empty))
    return 0


@command.command("show")
@click.argument("endpoint")
@client_options
def show(client: Client, *, endpoint: str, as_json: bool) -> int:
    """Show who answers ENDPOINT, who did before, and how its data planes fare."""
    found: Endpoint = client.endpoints.get(endpoint)

    def human() -> None:
        facts([("endpoint", found.name), ("answers", _behind(found)), ("guard", found.guard.value)])
        click.echo()
        history = client.endpoints.traffic(endpoint, limit=20)
        rows = (
            (one.since, one.until, f"{one.model}/{one.version}", one.role.value, f"{one.share:.0%}", one.release)
            for one in history
        )
        headers = ("since", "until", "version", "role", "share", "release")
        table(rows, headers=headers, empty="Nothing has answered yet.")
        click.echo()
        _print_replicas(client.endpoints.replicas(), endpoint)

    emit(found, as_json=as_json, human=human)
    return 0


def _behind(endpoint: Endpoint) -> str:
    shares = [f"{one.model}/{one.version} {one.role.value} {one.share:.0%}" for one in endpoint.revisions]
    return ", ".join(shares) or "nothing yet"


def _print_replicas(replicas: Sequence[Health], endpoint: str) -> None:
    rows = [
        (
            replica.address or replica.replica,
            replica.at,
            f"{one.model}/{one.version}",
            "ready" if one.ready else one.reason or "not ready",
            one.requests,
            one.errors,
            one.p50_ms,
            one.p99_ms,
        )
        for replica in replicas
        for one in replica.revisions
        if one.endpoint == endpoint
    ]
    headers = ("data plane", "heard", "version", "state", "requests", "errors", "p50 ms", "p99 ms")
    table(rows, headers=headers, empty="No data plane has reported this endpoint. Start one with `everline serve`.")
