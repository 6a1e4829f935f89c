"""`everline endpoints`: stable prediction addresses and what answers behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from everline.cli.output import client_options, emit, facts, table
from everline.clock import parse_rfc3339
from everline.errors import InvalidInputError
from everline.releases.types import Experiment, ShadowComparison
from everline.serving.types import Endpoint, EndpointAccess, Guard, Health

if TYPE_CHECKING:
    from everline.sdk.client import Client


@click.group("endpoints")
def command() -> None:
    """List, show and change endpoints; their API keys."""


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
        facts(_options(found))
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


@command.command("set")
@click.argument("endpoint")
@click.option("--guard", type=click.Choice([one.value for one in Guard]), help="What becomes of wrong rows.")
@click.option("--access", type=click.Choice([one.value for one in EndpointAccess]), help="Who may ask.")
@click.option("--log", metavar="full|SHARE", help="Which requests are logged, such as 0.1.")
@click.option("--durability", metavar="every|SECONDS", help="How long logged rows may be in memory only.")
@client_options
def set_(
    client: Client,
    *,
    endpoint: str,
    guard: str | None,
    access: str | None,
    log: str | None,
    durability: str | None,
    as_json: bool,
) -> int:
    """Change ENDPOINT; what is not given stays."""
    changed = client.endpoints.change(
        endpoint,
        guard=guard,
        access=access,
        log=_word_or_number(log, "full", field="log"),
        durability=_word_or_number(durability, "every", field="durability"),
    )
    emit(changed, as_json=as_json, human=lambda: facts(_options(changed)))
    return 0


@command.command("compare")
@click.argument("endpoint")
@click.option("--metric", default="outcome", show_default=True, help="outcome, loss, or an output.")
@click.option("--since", help="Not before this time, such as 2026-11-27T12:00:00Z.")
@click.option("--shadow", is_flag=True, help="The shadow beside what was answered, row by row.")
@client_options
def compare(client: Client, *, endpoint: str, metric: str, since: str | None, shadow: bool, as_json: bool) -> int:
    """Compare the canary of ENDPOINT with its primary; exits 1 if units were not divided by their shares."""
    start = parse_rfc3339(since, field="since") if since else None
    if shadow:
        beside: ShadowComparison = client.endpoints.compare_shadow(endpoint, since=start)
        emit(beside, as_json=as_json, human=lambda: _print_shadow(beside))
        return 0
    found: Experiment = client.endpoints.compare(endpoint, metric=metric, since=start)
    emit(found, as_json=as_json, human=lambda: _print_experiment(found))
    return 1 if found.verdict == "divided otherwise" else 0


@command.group("keys")
def keys() -> None:
    """API keys of an endpoint."""


@keys.command("create")
@click.argument("endpoint")
@click.option("--name", required=True, help="Whose key it is, or what for.")
@click.option("--requests-per-s", type=float, help="What its holder may ask of a data plane each second.")
@click.option("--requests-per-day", type=int, help="… and each day (UTC).")
@click.option("--days", type=int, help="How long it lives; without it never ends.")
@client_options
def create_key(
    client: Client,
    *,
    endpoint: str,
    name: str,
    requests_per_s: float | None,
    requests_per_day: int | None,
    days: int | None,
    as_json: bool,
) -> int:
    """Make a key of ENDPOINT; its secret is shown this once."""
    made = client.endpoints.create_key(
        endpoint, name, requests_per_s=requests_per_s, requests_per_day=requests_per_day, days=days
    )

    def human() -> None:
        click.echo(made.secret)
        click.echo("It is not shown again. Callers send it as `Authorization: Bearer …`.", err=True)
        if client.endpoints.get(endpoint).access is EndpointAccess.OPEN:
            click.echo(f"Nobody needs it yet: `everline endpoints set {endpoint} --access key`.", err=True)

    emit(made, as_json=as_json, human=human)
    return 0


@keys.command("list")
@click.argument("endpoint")
@client_options
def list_keys(client: Client, *, endpoint: str, as_json: bool) -> int:
    """List the keys of ENDPOINT, without their secrets."""
    found = client.endpoints.keys(endpoint)
    rows = (
        (k.uid, k.name, k.prefix + "…", k.requests_per_s, k.requests_per_day, k.created_at, k.expires_at, k.revoked_at)
        for k in found
    )
    headers = ("key", "name", "begins", "per s", "per day", "created", "expires", "revoked")
    empty = f"No key yet: `everline endpoints keys create {endpoint} --name NAME`."
    emit(found, as_json=as_json, human=lambda: table(rows, headers=headers, empty=empty))
    return 0


@keys.command("revoke")
@click.argument("endpoint")
@click.argument("key")
@client_options
def revoke_key(client: Client, *, endpoint: str, key: str, as_json: bool) -> int:
    """End KEY of ENDPOINT now."""
    ended = client.endpoints.revoke_key(endpoint, key)
    emit(ended, as_json=as_json, human=lambda: click.echo(f"Revoked {ended.name} ({ended.uid})."))
    return 0


def _word_or_number(text: str | None, word: str, *, field: str) -> str | float | None:
    if text is None or text == word:
        return text
    try:
        return float(text)
    except ValueError:
        raise InvalidInputError(
            f"--{field} {text!r} cannot be read.", hint=f"Give {word}, or a number.", field=field
        ) from None


def _options(endpoint: Endpoint) -> list[tuple[str, object]]:
    return [
        ("endpoint", endpoint.name),
        ("answers", _behind(endpoint)),
        ("guard", endpoint.guard.value),
        ("access", endpoint.access.value),
        ("log", endpoint.log),
        ("durability", endpoint.durability if isinstance(endpoint.durability, str) else f"{endpoint.durability:g} s"),
    ]


def _print_experiment(found: Experiment) -> None:
    click.echo(f"{found.endpoint}, {found.metric} by {found.unit}, since {found.since:%Y-%m-%d %H:%M:%S}")
    rows = (
        (role, f"{arm.model}/{arm.version}", f"{arm.share:.4g}", arm.rows, arm.units, arm.n, arm.mean)
        for role, arm in (("primary", found.primary), ("canary", found.canary))
    )
    table(rows, headers=("", "version", "share", "rows", f"{found.unit}s", "with a value", "mean"), empty="")
    if found.ratio_p_value is not None:
        click.echo(f"divided by the shares: p = {found.ratio_p_value:.3g}")
    click.echo(found.text)


def _print_shadow(found: ShadowComparison) -> None:
    click.echo(f"{found.model}/{found.version} beside what {found.endpoint} answered: {found.rows} rows")
    rows = ((one.output, one.rows, one.equal, one.mean, one.largest) for one in found.outputs)
    table(rows, headers=("output", "rows", "equal", "mean difference", "largest"), empty="Nothing to compare yet.")
    click.echo()
    far = ((one.prediction, one.output, one.answered, one.said) for one in found.furthest)
    table(far, headers=("prediction", "output", "answered", "the shadow said"), empty="They agree on every row.")


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
