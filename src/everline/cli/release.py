"""`everline release`: bring a model version to an endpoint, under policy, and take it back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from everline.cli.output import client_options, emit, facts, table
from everline.clock import parse_rfc3339
from everline.errors import InvalidInputError, NotFoundError
from everline.governance.types import Outcome, Verdict
from everline.ids import check_uid
from everline.releases import states
from everline.releases.states import LIVE, State
from everline.releases.types import LiveAt, Plan, Release, Review, Rollout, Side, Watch

if TYPE_CHECKING:
    from everline.sdk.client import Client

_MARKS = {Outcome.PASS: ("pass", "green"), Outcome.FAIL: ("FAIL", "red"), Outcome.UNKNOWN: ("unknown", "yellow")}
_VERDICTS = {"holds": "green", "broken": "red", "unclear": "yellow"}
_MEANINGS = click.Choice(["reviewer", "validator", "owner"])


@click.group("release")
def command() -> None:
    """Bring a model version to an endpoint: checked, approved, rolled out, or refused."""


@command.command("create")
@click.argument("endpoint")
@click.argument("model")
@click.argument("version")
@click.option(
    "--canary-share", type=float, help="Part of the requests for a canary; 0 for none. [the endpoint's plan, else 0.1]"
)
@click.option("--steps", help="Go on by itself while guards hold, such as '5% 10 min -> 25% -> 100%'.")
@click.option("--guard", "guards", multiple=True, metavar="NAME=VALUE", help="What must hold, such as p99_ms_max=20.")
@client_options
def create(
    client: Client,
    *,
    endpoint: str,
    model: str,
    version: str,
    canary_share: float | None,
    steps: str | None,
    guards: Sequence[str],
    as_json: bool,
) -> int:
    """Open a release of VERSION of MODEL (a number, @alias or latest) to ENDPOINT; exits 1 if it is blocked."""
    release = client.releases.create(
        endpoint, model, version, canary_share=canary_share, steps=steps, guards=_guards(guards)
    )
    return _show(release, as_json=as_json)


@command.command("show")
@click.argument("release")
@client_options
def show(client: Client, *, release: str, as_json: bool) -> int:
    """Show RELEASE with every policy clause and the value that it saw, decisions and history."""
    _show(client.releases.get(release), as_json=as_json)
    return 0


@command.command("list")
@click.option("--endpoint", help="Only of this endpoint.")
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only in this state.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000))
@client_options
def list_(client: Client, *, endpoint: str | None, state: str | None, limit: int, as_json: bool) -> int:
    """List releases, newest first."""
    found: Sequence[Release] = client.releases.list(endpoint=endpoint, state=state, limit=limit)
    rows = ((one.uid, one.endpoint, f"{one.model}/{one.version}", _words(one.state), one.updated_at) for one in found)
    headers = ("release", "endpoint", "version", "state", "changed")
    empty = "No release yet. Open one with `everline release create ENDPOINT MODEL VERSION`."
    emit(found, as_json=as_json, human=lambda: table(rows, headers=headers, empty=empty))
    return 0


@command.command("check")
@click.argument("release")
@client_options
def check(client: Client, *, release: str, as_json: bool) -> int:
    """Judge RELEASE again on the evidence and policies of now; exits 1 if it is blocked."""
    return _show(client.releases.check(release), as_json=as_json)


@command.command("approve")
@click.argument("release")
@click.option("--meaning", default="reviewer", show_default=True, type=_MEANINGS, help="In which capacity.")
@click.option("--reason", default="", help="Why, for whoever reads it later.")
@client_options
def approve(client: Client, *, release: str, meaning: str, reason: str, as_json: bool) -> int:
    """Say yes to exactly RELEASE; its author cannot."""
    return _show(client.releases.approve(release, meaning=meaning, reason=reason), as_json=as_json)


@command.command("reject")
@click.argument("release")
@click.option("--meaning", default="reviewer", show_default=True, type=_MEANINGS, help="In which capacity.")
@click.option("--reason", required=True, help="Why, for whoever reads it later.")
@client_options
def reject(client: Client, *, release: str, meaning: str, reason: str, as_json: bool) -> int:
    """Say no to RELEASE, for good."""
    _show(client.releases.reject(release, meaning=meaning, reason=reason), as_json=as_json)
    return 0


@command.command("waive")
@click.argument("release")
@click.option("--policy", required=True, help="The policy that has the rule.")
@click.option("--rule", required=True, help="The rule that is set aside.")
@click.option("--reason", required=True, help="Why that is safe for a while.")
@click.option("--expires", required=True, help="Until when, such as 2026-12-31T00:00:00Z; within 90 days.")
@click.option("--owner", default="", help="Who answers for mending it. [you]")
@client_options
def waive(
    client: Client, *, release: str, policy: str, rule: str, reason: str, expires: str, owner: str, as_json: bool
) -> int:
    """Let RELEASE pass one rule that it does not hold, for a while; its author cannot."""
    moment = parse_rfc3339(expires, field="expires")
    found = client.releases.waive(
        release, policy=policy, rule=rule, reason=reason, expires_at=moment, owner=owner
    )  # fmt: skip
    return _show(found, as_json=as_json)


@command.command("revoke-waiver")
@click.argument("release")
@click.argument("waiver")
@click.option("--reason", required=True, help="Why, for whoever reads it later.")
@client_options
def revoke_waiver(client: Client, *, release: str, waiver: str, reason: str, as_json: bool) -> int:
    """Take WAIVER of RELEASE back: the rule counts again."""
    return _show(client.releases.revoke_waiver(release, waiver, reason=reason), as_json=as_json)


@command.command("break-glass")
@click.argument("release")
@click.option("--reason", required=True, help="What makes it an emergency.")
@client_options
def break_glass(client: Client, *, release: str, reason: str, as_json: bool) -> int:
    """Let RELEASE answer everything now, past its policies: an emergency; opens a review that blocks the next one."""
    found: Release = client.releases.break_glass(release, reason=reason)
    if not as_json:
        click.secho("The glass is broken: another person reviews this before anything else is released.", fg="red")
    return _show(found, as_json=as_json)


@command.command("reviews")
@click.option("--endpoint", help="Only of this endpoint.")
@click.option("--open", "open_only", is_flag=True, help="Only those that still block.")
@client_options
def reviews(client: Client, *, endpoint: str | None, open_only: bool, as_json: bool) -> int:
    """List reviews of releases that broke the glass; exits 1 if one is open."""
    found: Sequence[Review] = client.releases.reviews(endpoint=endpoint, open_only=open_only)
    rows = (
        (
            one.uid,
            one.endpoint,
            one.release,
            one.opened_by_name,
            one.opened_at,
            one.closed_by_name or "open",
            one.reason,
        )
        for one in found
    )
    headers = ("review", "endpoint", "release", "broken by", "at", "closed by", "why")
    emit(found, as_json=as_json, human=lambda: table(rows, headers=headers, empty="Nobody broke the glass."))
    return 1 if any(one.closed_at is None for one in found) else 0


@command.command("review")
@click.argument("review")
@click.option("--finding", required=True, help="What was found, and done about it.")
@client_options
def review(client: Client, *, review: str, finding: str, as_json: bool) -> int:
    """Close REVIEW with what was found; releases to its endpoint get through again."""
    found: Review = client.releases.close_review(review, finding=finding)
    emit(found, as_json=as_json, human=lambda: click.echo(f"closed by {found.closed_by_name}: {found.finding}"))
    return 0


@command.command("canary")
@click.argument("release")
@client_options
def canary(client: Client, *, release: str, as_json: bool) -> int:
    """Let an approved RELEASE answer its plan's share of the traffic."""
    return _show(client.releases.canary(release), as_json=as_json)


@command.command("shadow")
@click.argument("release")
@click.option("--share", default=1.0, show_default=True, type=float, help="Part of the requests that it is asked too.")
@client_options
def shadow(client: Client, *, release: str, share: float, as_json: bool) -> int:
    """Let an approved RELEASE be asked what the champion answers; nobody hears it, its rows are logged."""
    return _show(client.releases.shadow(release, share=share), as_json=as_json)


@command.command("watch")
@click.argument("release")
@client_options
def watch(client: Client, *, release: str, as_json: bool) -> int:
    """Show what a canary has done so far beside its champion; exits 1 if its log loss is shown to be higher."""
    found: Watch = client.releases.watch(release)
    emit(found, as_json=as_json, human=lambda: _print_watch(found))
    return 1 if found.low is not None and found.low > 0 else 0


@command.command("promote")
@click.argument("release")
@client_options
def promote(client: Client, *, release: str, as_json: bool) -> int:
    """Let RELEASE answer everything, if the champion is still the one that it was compared with."""
    return _show(client.releases.promote(release), as_json=as_json)


@command.command("rollback")
@click.argument("release")
@click.option("--reason", required=True, help="Why, for whoever reads it later.")
@client_options
def rollback(client: Client, *, release: str, reason: str, as_json: bool) -> int:
    """Take RELEASE back (an endpoint's name means what is newest on it): what answered before answers again."""
    return _show(client.releases.rollback(_live(client, release), reason=reason), as_json=as_json)


@command.command("pause")
@click.argument("release")
@click.option("--reason", required=True, help="Why, for whoever reads it later.")
@client_options
def pause(client: Client, *, release: str, reason: str, as_json: bool) -> int:
    """Keep the rollout of RELEASE at its step."""
    return _show(client.releases.pause(release, reason=reason), as_json=as_json)


@command.command("resume")
@click.argument("release")
@client_options
def resume(client: Client, *, release: str, as_json: bool) -> int:
    """Let the rollout of RELEASE go on from the beginning of its step."""
    return _show(client.releases.resume(release), as_json=as_json)


@command.command("share")
@click.argument("release")
@click.argument("share", type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True))
@click.option("--reason", default="", help="Why, for whoever reads it later.")
@client_options
def share(client: Client, *, release: str, share: float, reason: str, as_json: bool) -> int:
    """Move the share of the requests that canary RELEASE answers; a rollout with steps is paused by it."""
    return _show(client.releases.set_share(release, share, reason=reason), as_json=as_json)


@command.command("at")
@click.argument("time", default="now")
@click.option("--endpoint", help="Only of this endpoint.")
@client_options
def at(client: Client, *, time: str, endpoint: str | None, as_json: bool) -> int:
    """Say what was live at TIME, since when, who allowed it, on what evidence; exits 1 if nothing was."""
    moment = datetime.now(UTC) if time == "now" else parse_rfc3339(time)
    found: Sequence[LiveAt] = client.releases.at(moment, endpoint=endpoint)
    emit(found, as_json=as_json, human=lambda: _print_live(found))
    return 0 if found else 1


def _guards(given: Sequence[str]) -> dict[str, object] | None:
    """`p99_ms_max=20` as values; `none` takes a limit away."""
    found: dict[str, object] = {}
    for one in given:
        name, sign, text = one.partition("=")
        try:
            found[name] = None if text == "none" else json.loads(text)
        except ValueError:
            sign = ""
        if not sign:
            raise InvalidInputError(
                f"The guard {one!r} cannot be read.", hint="Write it like p99_ms_max=20 or drift=false.", field="guard"
            )
    return found or None


def _live(client: Client, name: str) -> str:
    try:
        return check_uid(name)
    except InvalidInputError:
        found: Sequence[Release] = client.releases.list(endpoint=name, limit=1000)
    live = sorted((one for one in found if one.state in LIVE), key=lambda one: one.state is not State.CANARY)
    if not live:
        raise NotFoundError(f"Nothing is live on {name!r}.", hint="`everline release list` shows releases.")
    return live[0].uid


def _show(release: Release, *, as_json: bool) -> int:
    emit(release, as_json=as_json, human=lambda: _print(release))
    return 1 if release.state is State.BLOCKED else 0


def _words(state: State) -> str:
    return state.value.replace("_", " ")


def _print(release: Release) -> None:
    champion = release.champion
    facts([
        ("release", release.uid),
        ("state", _words(release.state)),
        ("brings", f"{release.model}/{release.version} to {release.endpoint}"),
        ("instead of", f"{champion.model}/{champion.version}" if champion else "nothing (the first)"),
        ("package", release.package),
        ("author", release.author_name),
        ("opened", f"{release.created_at:%Y-%m-%d %H:%M:%S} by {release.created_by_name}"),
        ("plan", _plan(release.plan)),
        ("digest", release.digest),
    ])  # fmt: skip
    if release.rollout is not None:
        click.echo()
        _print_rollout(release.rollout)
    if release.check is not None:
        click.echo()
        _print_verdicts(release.check.verdicts)
        if release.check.change is not None:
            click.echo(f"change: {release.check.change.kind.value}. {release.check.change.why}")
    for one in release.approvals:
        bound = "" if one.digest == release.digest else "  (void: of another digest)"
        click.echo(f"{one.decision}d by {one.person_name} as {one.meaning} {one.at:%Y-%m-%d %H:%M:%S}{bound}")
    click.echo()
    rows = (
        (step.at, states.command(step.move), _words(step.after), step.actor_name, step.reason)
        for step in release.history
    )
    table(rows, headers=("at", "move", "state", "who", "why"), empty="Nothing happened yet.")
    if release.next:
        click.echo("\nnext: " + ", ".join(f"everline release {states.command(move)}" for move in release.next))


def _plan(plan: Plan) -> str:
    if plan.steps:
        return plan.steps
    return f"canary {plan.canary_share:.4g}" if plan.canary_share else "no canary"


def _print_rollout(found: Rollout) -> None:
    due = found.since + timedelta(seconds=found.hold_s)
    click.echo(
        f"rollout {found.status}: step {found.step} of {found.steps}, {found.share:.4g} of the requests since "
        f"{found.since:%Y-%m-%d %H:%M:%S}, at least until {due:%H:%M:%S}"
    )
    if found.problem:
        click.echo(f"  {found.problem}")
    for one in found.readings:
        click.echo("  " + click.style(f"{one.verdict:8}", fg=_VERDICTS[one.verdict]) + f"{one.guard}: {one.text}")


def _print_verdicts(verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        click.echo(f"policy {verdict.policy} v{verdict.version}  {verdict.digest[:19]}…  {verdict.title}")
        for rule in verdict.rules:
            mark, colour = _MARKS[rule.outcome]
            source = f" [{rule.source}]" if rule.source else ""
            click.echo("  " + click.style(f"{mark:8}", fg=colour) + f"{rule.name}: {rule.reason}{source}")
            if rule.waiver is not None:
                aside = rule.waiver
                click.secho(
                    f"            waived by {aside.by} until {aside.expires_at:%Y-%m-%d %H:%M}, {aside.owner} answers "
                    f"for it: {aside.reason}  ({aside.uid})",
                    fg="yellow",
                )
            for clause in rule.clauses:
                seen = ", ".join(f"{one.path} = {'missing' if one.missing else one.value}" for one in clause.values)
                note = f"  {clause.note}" if clause.note else ""
                click.secho(f"            {_MARKS[clause.outcome][0]:8}{clause.text}  [{seen}]{note}", dim=True)
        if verdict.approvals is not None:
            mark, colour = _MARKS[verdict.approvals.outcome]
            click.echo("  " + click.style(f"{mark:8}", fg=colour) + f"approvals: {verdict.approvals.text}")


def _print_watch(found: Watch) -> None:
    click.echo(f"{found.endpoint}, since {found.since:%Y-%m-%d %H:%M:%S}")
    rows = [
        (name, read(found.champion), read(found.canary))
        for name, read in (
            ("version", lambda side: f"{side.model}/{side.version}"),
            ("share", lambda side: side.share),
            ("predictions", lambda side: side.n),
            ("errors of requests", lambda side: f"{side.errors} of {side.requests}"),
            ("p50 / p95 ms", _latency),
            ("mean probability", lambda side: side.mean_probability),
            ("outcomes", lambda side: side.n_outcomes),
            ("error rate", lambda side: side.error_rate),
            ("log loss", lambda side: side.log_loss),
        )
    ]
    table(rows, headers=("", "champion", "canary"), empty="")
    if found.log_loss_difference is not None:
        click.echo(f"log loss difference {found.log_loss_difference:+.4f}, 95 % {found.low:+.4f} to {found.high:+.4f}")
    click.echo(found.text)


def _latency(side: Side) -> str | None:
    return None if side.p50_ms is None or side.p95_ms is None else f"{side.p50_ms:.2f} / {side.p95_ms:.2f}"


def _print_live(found: Sequence[LiveAt]) -> None:
    if not found:
        click.echo("Nothing was live.")
    for one in found:
        until = f" until {one.until:%Y-%m-%d %H:%M:%S}" if one.until else ""
        allowed = ", ".join(f"{item.person_name} ({item.meaning})" for item in one.approvals) or "nobody"
        policies = one.check.verdicts if one.check else []
        evidence = one.check.evidence if one.check else []
        facts([
            ("endpoint", f"{one.endpoint} ({one.role}, {one.share:.0%})"),
            ("version", f"{one.model}/{one.version}, by {one.author_name}"),
            ("since", f"{one.since:%Y-%m-%d %H:%M:%S}{until}"),
            ("release", one.release),
            ("package", one.package),
            ("allowed by", allowed),
            ("put live by", f"{one.moved.actor_name} at {one.moved.at:%Y-%m-%d %H:%M:%S}" if one.moved else None),
            *((f"policy {item.policy}", f"{item.outcome}  {item.digest}") for item in policies),
            *((f"evidence {item.kind}", item.digest) for item in evidence),
        ])  # fmt: skip
