"""`everline policy`: list, save, test and explain release policies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from everline.cli.output import client_options, emit, facts, table
from everline.errors import InvalidInputError
from everline.governance.types import CaseResult, GateState, Outcome, Policy, RuleVerdict, Verdict

if TYPE_CHECKING:
    from everline.sdk.client import Client

_COLOURS = {Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.UNKNOWN: "yellow"}
_SOURCE_BYTES_MAX = 256 * 1024


@click.group("policy")
def command() -> None:
    """Release conditions: what must hold before a model version answers anybody."""


@command.command("list")
@client_options
def list_policies(client: Client, *, as_json: bool) -> int:
    """List the project's policies."""
    found: list[Policy] = client.policies.list()
    rows = ((p.name, p.version, p.active, p.rules, p.title) for p in found)
    headers = ("name", "version", "in force", "rules", "title")
    emit(found, as_json=as_json, human=lambda: table(rows, headers=headers, empty="No policies."))
    return 0


@command.command("show")
@click.argument("name")
@click.option("--version", type=click.IntRange(min=1), help="Another version than the one in force.")
@client_options
def show(client: Client, *, as_json: bool, name: str, version: int | None) -> int:
    """Print a policy's text."""
    policy: Policy = client.policies.get(name, version=version)
    emit(policy, as_json=as_json, human=lambda: click.echo(policy.source.rstrip()))
    return 0


@command.command("save")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--activate", is_flag=True, help="Put it into force at once; its test cases must pass.")
@client_options
def save(client: Client, *, as_json: bool, file: Path, activate: bool) -> int:
    """Save a policy; a typo or a mix-up of types is refused with a caret under it."""
    policy: Policy = client.policies.save(_read(file))
    if activate:
        policy = client.policies.activate(policy.name, version=policy.version)
    emit(policy, as_json=as_json, human=lambda: _print_policy(policy))
    return 1 if activate and not policy.active else 0


@command.command("activate")
@click.argument("name")
@click.option("--version", type=click.IntRange(min=1), help="Another version than the newest.")
@client_options
def activate(client: Client, *, as_json: bool, name: str, version: int | None) -> int:
    """Put a version of a policy into force; whoever saved it cannot. Exits 1 while a second person must agree."""
    policy: Policy = client.policies.activate(name, version=version)
    emit(policy, as_json=as_json, human=lambda: _print_policy(policy))
    return 0 if policy.active else 1


@command.command("deactivate")
@click.argument("name")
@click.option("--reason", required=True, help="Why; goes into the audit log.")
@client_options
def deactivate(client: Client, *, as_json: bool, name: str, reason: str) -> int:
    """Take a policy out of force; two people ask for it. Exits 1 while a second person must agree."""
    policy: Policy = client.policies.deactivate(name, reason=reason)
    emit(policy, as_json=as_json, human=lambda: _print_policy(policy))
    return 1 if policy.active else 0


@command.command("test")
@click.argument("name_or_file")
@client_options
def test(client: Client, *, as_json: bool, name_or_file: str) -> int:
    """Run a policy's own test cases: of a saved policy by name, or of a file. Exits 1 if one fails."""
    file = Path(name_or_file)
    is_file = name_or_file.endswith(".toml") or file.is_file()
    results = client.policies.test_source(_read(file)) if is_file else client.policies.test(name_or_file)
    emit(results, as_json=as_json, human=lambda: _print_cases(results))
    return 0 if all(result.passed for result in results) else 1


@command.command("packs")
@click.argument("name", required=False)
@client_options
def packs(client: Client, *, as_json: bool, name: str | None) -> int:
    """List the packs of rules that come with Everline, or print the text of one, to be saved as it is or changed."""
    found: list[Policy] = client.policies.packs()
    if name is not None:
        one = next((pack for pack in found if pack.name == name), None)
        if one is None:
            known = ", ".join(pack.name for pack in found)
            raise InvalidInputError(f"There is no pack {name!r}.", hint=f"There are {known}.", field="name")
        emit(one, as_json=as_json, human=lambda: click.echo(one.source.rstrip()))
        return 0
    rows = ((pack.name, pack.rules, pack.title) for pack in found)
    emit(found, as_json=as_json, human=lambda: table(rows, headers=("pack", "rules", "title"), empty="No packs."))
    return 0


@command.command("preview")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@client_options
def preview(client: Client, *, as_json: bool, files: tuple[Path, ...]) -> int:
    """Say what the policies in FILES would block if they were in force. Exits 1 if they would block anything.

    Looked at are the versions that are live and the releases on their way. Runs well in CI, on a pull request.
    """
    found = client.policies.preview([_read(file) for file in files])

    def human() -> None:
        for one in found:
            mark = click.style("BLOCKS", fg="red") if one.blocks else click.style("ok    ", fg="green")
            what = "live" if one.subject == "live" else f"release {one.release}"
            click.echo(f"{mark}  {one.policy}: {one.version} at {one.endpoint} ({what}): {one.before} -> {one.after}")
            for reason in one.reasons:
                click.echo(f"        {reason}")
        blocked = sum(one.blocks for one in found)
        click.echo(f"{len(found)} judged, {blocked} would be blocked" if found else "Nothing is live or on its way.")

    emit(found, as_json=as_json, human=human)
    return 1 if any(one.blocks for one in found) else 0


@command.command("explain")
@click.argument("subject")
@click.option("--model", default="", help="The model's name, where policies have a scope.")
@click.option("--endpoint", default="", help="The endpoint's name, where policies have a scope.")
@client_options
def explain(client: Client, *, as_json: bool, subject: str, model: str, endpoint: str) -> int:
    """Show every clause with the value that it sees, for model-version:UID or release:UID. Exits 1 if blocked."""
    kind, _, name = subject.partition(":")
    if kind == "release":
        release = client.releases.get(name)
        check = release.check
        if check is None:
            raise InvalidInputError("This release was not checked yet.", hint="`everline release show` says why.")
        answer: dict[str, Any] = {"subject": subject, "gate": check.gate, "verdicts": check.verdicts}
    elif kind == "model-version":
        found = client.policies.explain(subject, model=model, endpoint=endpoint)
        answer = {"subject": subject, "gate": found.gate, "verdicts": found.verdicts}
    else:
        raise InvalidInputError(
            f"{subject!r} cannot be explained.", hint="Write model-version:UID or release:UID.", field="subject"
        )
    emit(answer, as_json=as_json, human=lambda: print_verdicts(answer["verdicts"], answer["gate"]))
    return 1 if answer["gate"] in (GateState.BLOCKED, GateState.REJECTED) else 0


def print_verdicts(verdicts: list[Verdict], gate: GateState) -> None:
    """Print policies, rules and clauses with what they saw."""
    for verdict in verdicts:
        click.secho(f"{verdict.title}  ({verdict.policy} version {verdict.version}, {verdict.digest[:19]}…)", bold=True)
        for rule in verdict.rules:
            _print_rule(rule)
        if verdict.approvals is not None:
            _mark(verdict.approvals.outcome, verdict.approvals.text, indent=2)
    click.echo(f"gate: {gate.value.replace('_', ' ')}")


def _print_rule(rule: RuleVerdict) -> None:
    _mark(rule.outcome, f"{rule.name}: {rule.reason}" + (f" [{rule.source}]" if rule.source else ""), indent=2)
    if rule.waiver is not None:
        click.secho(f"      waived by {rule.waiver.by} until {rule.waiver.expires_at:%Y-%m-%d}: {rule.waiver.reason}")
    for clause in rule.clauses:
        _mark(clause.outcome, clause.text, indent=6)
        for seen in clause.values:
            click.echo(f"{'':16}{seen.path} = {'missing' if seen.missing else _json(seen.value)}")
        if clause.note:
            click.echo(f"{'':16}{clause.note}")


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _mark(outcome: Outcome, text: str, *, indent: int) -> None:
    click.echo(" " * indent + click.style(outcome.value.ljust(8), fg=_COLOURS[outcome]) + text)


def _print_cases(results: list[CaseResult]) -> None:
    for result in results:
        mark = click.style("ok    ", fg="green") if result.passed else click.style("FAILED", fg="red")
        click.echo(f"{mark}  {result.name}")
        if not result.passed:
            click.echo(f"        expected {result.expected}, but the rules say {result.found}:")
            for rule in result.rules:
                _print_rule(rule)
    failed = sum(not result.passed for result in results)
    click.echo(f"{len(results)} test cases, {failed} failed" if results else "The policy has no test cases.")


def _print_policy(policy: Policy) -> None:
    facts([
        ("policy", f"{policy.name} version {policy.version}"),
        ("in force", policy.active),
        ("title", policy.title),
        ("rules", policy.rules),
        ("digest", policy.digest),
        ("waits", _waits(policy)),
    ])  # fmt: skip


def _waits(policy: Policy) -> str | None:
    asked = policy.proposal
    if asked is None:
        return None
    what = "out of force" if asked.version is None else f"version {asked.version} into force"
    command = "deactivate" if asked.version is None else "activate"
    return f"{asked.by} asks to put {what}; another person agrees with `everline policy {command} {policy.name}`"


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_SOURCE_BYTES_MAX + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"The file {path} cannot be read: {error}.", field="file") from error
