"""Policies: saved as text that never changes, put into force by name, and judged on facts.

Every project starts under the built-in policy `baseline`, version 1, until somebody saves another one under
that name and activates it, or switches it off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, func, insert, select

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.clock import rfc3339
from everline.errors import NotFoundError
from everline.governance import approvals as people
from everline.governance import audit, built_in, quorum, waivers
from everline.governance.cel.program import together
from everline.governance.document import compile_document, outcome_of
from everline.governance.evidence import list_evidence
from everline.governance.schemas import BODIES
from everline.governance.tables import policy as table
from everline.governance.tables import policy_activation, policy_proposal
from everline.governance.types import (
    BASELINE,
    CaseResult,
    Evidence,
    Foreseen,
    GateState,
    Outcome,
    Policy,
    Proposal,
    Verdict,
    Waiver,
)
from everline.ids import digest_bytes, new_uid

_COMPARISONS_MAX = 20


@act
def save(uow: UnitOfWork, source: str, *, project: str) -> Policy:
    """Save a policy as the next version of its name; it is not in force until it is activated.

    Args:
        source: the TOML document.

    Raises:
        InvalidInputError: the document or one of its expressions is wrong; says where, with a caret.
    """
    uow.require(Permission.POLICY_WRITE, project)
    document = compile_document(source).document
    newest = uow.conn.execute(
        select(func.max(table.c.version)).where(table.c.project == project, table.c.name == document.name)
    ).scalar()
    version = (newest or (1 if document.name == BASELINE else 0)) + 1
    row: dict[str, Any] = {
        "uid": new_uid(),
        "project": project,
        "name": document.name,
        "version": version,
        "action": document.action,
        "source": source,
        "digest": digest_bytes(source.encode()),
        "at": uow.clock.now(),
        "actor": uow.actor.uid,
        "actor_name": uow.actor.name,
    }
    uow.conn.execute(insert(table).values(row))
    audit.record(
        uow,
        "policy.save",
        subject=f"policy:{document.name}",
        project=project,
        version=version,
        digest=row["digest"],
        title=document.title,
    )
    return get_policy(uow, document.name, project=project, version=version)


@read
def list_policies(uow: UnitOfWork, *, project: str) -> list[Policy]:
    """List every policy of a project: the version in force, else the newest one."""
    uow.require(Permission.POLICY_READ, project)
    names = uow.conn.execute(select(table.c.name).where(table.c.project == project).distinct()).scalars()
    return [get_policy(uow, name, project=project) for name in sorted({*names, BASELINE})]


@read
def get_policy(uow: UnitOfWork, name: str, *, project: str, version: int | None = None) -> Policy:
    """Return one version of a policy: the one asked for, else the one in force, else the newest.

    Raises:
        NotFoundError: no such policy or version in the project.
    """
    uow.require(Permission.POLICY_READ, project)
    active = active_version(uow, name, project)
    version = version or active or newest_version(uow, name, project)
    asked = proposal(uow, name, project)
    if name == BASELINE and version == 1:
        return built_in.baseline(project, active=active == 1, proposal=asked)
    row = uow.conn.execute(
        select(table).where(table.c.project == project, table.c.name == name, table.c.version == version)
    ).first()
    if row is None:
        raise _missing(name, version)
    return _policy(row, active=active == version, proposal=asked)


@read
def list_packs(uow: UnitOfWork, *, project: str) -> list[Policy]:
    """The packs of rules that come with Everline, as policies of version 0: nothing of them is in force."""
    uow.require(Permission.POLICY_READ, project)
    return [built_in.draft(project, built_in.pack_source(name)) for name in built_in.PACKS]


@read
def run_cases(uow: UnitOfWork, name: str, *, project: str, version: int | None = None) -> list[CaseResult]:
    """Run a saved policy's own test cases."""
    return compile_document(get_policy(uow, name, project=project, version=version).source).run_cases()


@read
def try_source(uow: UnitOfWork, source: str, *, project: str) -> list[CaseResult]:
    """Check a policy that is not saved yet, and run its test cases.

    Raises:
        InvalidInputError: the document or one of its expressions is wrong; says where.
    """
    uow.require(Permission.POLICY_READ, project)
    return compile_document(source).run_cases()


@read
def gather(
    uow: UnitOfWork,
    *,
    project: str,
    model_version: str,
    model: str = "",
    release: str = "",
    digest: str = "",
    author: str | Sequence[str] = (),
    endpoint: str = "",
    champion: Mapping[str, Any] | None = None,
    signature: Mapping[str, list[str]] | None = None,
    change: Mapping[str, bool | None] | None = None,
) -> dict[str, Any]:
    """Collect what is known for a decision, as the facts that rules speak of.

    Args:
        model_version: subject whose newest evidence of each kind counts, `model-version:<uid>`.
        release: subject that approvals belong to; `digest` is the exact content that they are bound to.
        author: uids of the people whose approval never counts.
        champion: what answers the endpoint now: `model`, `version` and `package` at least; None for nothing.
        signature: `inputs` and `outputs` of the model by name.
        change: what stays as it is with the champion; None where nothing can be compared.

    Raises:
        IntegrityError: an approval is stored whose signed statement says something else.
    """
    uow.require(Permission.RELEASE_READ, project)
    found = list_evidence(uow, subject=model_version, project=project)
    facts: dict[str, Any] = {}
    for item in found:
        if item.kind in BODIES:
            facts.setdefault(item.kind, item.body)
    reigning = _champion(champion)
    comparisons = [item.body for item in found if item.kind == "comparison"][:_COMPARISONS_MAX]
    if matching := _matching(comparisons, reigning):
        facts["comparison"] = matching
    given = people.list_approvals(uow, subject=release, project=project, digest=digest) if release else []
    for word in given:
        people.verify_statement(uow, word)
    aside = waivers.in_force(uow, subject=release, project=project, digest=digest) if release else []
    kept = ("person", "person_name", "decision", "meaning", "roles")
    return facts | {
        "comparisons": comparisons,
        "evidence": _by_kind(found),
        "model": {"subject": model_version, "name": model, **(signature or {})},
        "change": None if change is None else dict(change),
        "release": {
            "subject": release,
            "digest": digest,
            "endpoint": endpoint,
            "authors": [author] if isinstance(author, str) else list(author),
        },
        "champion": reigning,
        "approvals": [{name: getattr(item, name) for name in kept} | {"at": rfc3339(item.at)} for item in given],
        "waivers": [_aside(item) for item in aside],
        "now": rfc3339(uow.clock.now()),
    }


def _aside(one: Waiver) -> dict[str, Any]:
    names = ("uid", "policy", "rule", "reason", "owner", "person", "person_name")
    return {name: getattr(one, name) for name in names} | {"expires_at": rfc3339(one.expires_at)}


def _by_kind(found: list[Evidence]) -> dict[str, Any]:
    newest: dict[str, Any] = {}
    for item in found:
        newest.setdefault(item.kind, item.body)
    return newest


def _champion(champion: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if champion is None:
        return None
    known = {name: champion[name] for name in ("model", "version", "package")}
    return known | {"name": f"{known['model']}/{known['version']}"}


def _matching(comparisons: list[dict[str, Any]], champion: dict[str, Any] | None) -> dict[str, Any] | None:
    if champion is None:
        return None
    names = (champion["package"], champion["name"])
    return next((body for body in comparisons if body.get("champion") in names), None)


@read
def judge(
    uow: UnitOfWork,
    *,
    project: str,
    action: str,
    facts: dict[str, Any],
    instead: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Judge every policy in force that speaks of this action here.

    Args:
        facts: as `gather` gives them; what is missing is unknown, and unknown blocks.
        instead: texts by the policies' names that are judged in place of those in force, or beside them, to see what
            they would say.

    Returns:
        A verdict per policy, with every clause and the values that it saw, and the digest of the policy's text.
    """
    uow.require(Permission.RELEASE_READ, project)
    verdicts = []
    aside = facts.get("waivers") or []
    for policy in _with_drafts(project, _in_force(uow, project), instead or {}):
        compiled = compile_document(policy.source)
        if not compiled.applies(action=action, facts=facts):
            continue
        rules = compiled.judge(facts)
        wanted = compiled.document.approvals
        verdicts.append(
            Verdict(
                policy=policy.name,
                version=policy.version,
                title=policy.title,
                reason=policy.reason,
                digest=policy.digest,
                outcome=outcome_of(rules),
                rules=waivers.apply(policy.name, rules, aside),
                approvals=quorum.count(wanted, facts) if wanted else None,
            )
        )
    return verdicts


def foreseen(uow: UnitOfWork, *, project: str, facts: Mapping[str, Any]) -> list[Foreseen]:
    """What the policies in force say of a change that they foresaw; asks for no permission.

    Args:
        facts: as `gather` gives them.
    """
    found = []
    for policy in _in_force(uow, project):
        compiled = compile_document(policy.source)
        if compiled.pre_determined is None or not compiled.applies(action="release", facts=facts):
            continue
        clauses = compiled.pre_determined.judge(facts)
        holds = together(clauses) is Outcome.PASS
        found.append(
            Foreseen(policy=policy.name, version=policy.version, digest=policy.digest, holds=holds, clauses=clauses)
        )
    return found


@read
def explain(uow: UnitOfWork, *, project: str, model_version: str, model: str = "", endpoint: str = "") -> list[Verdict]:
    """Say how a model version would fare as a first release now, without opening one."""
    uow.require(Permission.RELEASE_READ, project)
    facts = gather(uow, project=project, model_version=model_version, model=model, endpoint=endpoint)
    return judge(uow, project=project, action="release", facts=facts)


def gate(verdicts: Sequence[Verdict]) -> GateState:
    """What all verdicts together allow: no policy at all allows nothing."""
    if not verdicts or not all(rule.stands for verdict in verdicts for rule in verdict.rules):
        return GateState.BLOCKED
    asked = {verdict.approvals.outcome for verdict in verdicts if verdict.approvals is not None}
    if Outcome.FAIL in asked:
        return GateState.REJECTED
    return GateState.AWAITING_APPROVAL if Outcome.UNKNOWN in asked else GateState.OPEN


def _with_drafts(project: str, found: list[Policy], instead: Mapping[str, str]) -> list[Policy]:
    drafts = {name: built_in.draft(project, source) for name, source in instead.items()}
    return [drafts.pop(one.name, one) for one in found] + list(drafts.values())


def _in_force(uow: UnitOfWork, project: str) -> list[Policy]:
    active = {BASELINE: 1} | activations(uow, project)
    found = []
    for name, version in sorted(active.items()):
        if name == BASELINE and version == 1:
            found.append(built_in.baseline(project, active=True))
        elif version is not None:
            query = select(table).where(table.c.project == project, table.c.name == name, table.c.version == version)
            found.append(_policy(uow.conn.execute(query).one(), active=True))
    return found


def activations(uow: UnitOfWork, project: str) -> dict[str, int | None]:
    """The version in force by policy; None for one that was taken out of force."""
    rows = uow.conn.execute(select(policy_activation).where(policy_activation.c.project == project))
    return {row.name: row.version for row in rows}


def active_version(uow: UnitOfWork, name: str, project: str) -> int | None:
    """The version in force, or None."""
    return activations(uow, project).get(name, 1 if name == BASELINE else None)


def newest_version(uow: UnitOfWork, name: str, project: str) -> int:
    """The number of the version saved last.

    Raises:
        NotFoundError: the project has no such policy.
    """
    query = select(func.max(table.c.version)).where(table.c.project == project, table.c.name == name)
    version = uow.conn.execute(query).scalar() or (1 if name == BASELINE else 0)
    if version == 0:
        raise _missing(name, None)
    return version


def _missing(name: str, version: int | None) -> NotFoundError:
    which = f" version {version}" if version else ""
    return NotFoundError(
        f"There is no policy {name!r}{which} here.", hint="`everline policy list` shows them.", field="name"
    )


def proposal(uow: UnitOfWork, name: str, project: str) -> Proposal | None:
    """The change of this policy that waits for a second person, if one does."""
    column = policy_proposal.c
    row = uow.conn.execute(select(policy_proposal).where(column.project == project, column.name == name)).first()
    return None if row is None else Proposal(version=row.version, by=row.actor_name, reason=row.reason, at=row.at)


def _policy(row: Row[Any], *, active: bool, proposal: Proposal | None = None) -> Policy:
    document = compile_document(row.source).document
    return Policy(
        uid=row.uid,
        project=row.project,
        name=row.name,
        version=row.version,
        title=document.title,
        reason=document.reason,
        action=row.action,
        digest=row.digest,
        source=row.source,
        active=active,
        rules=len(document.rules),
        at=row.at,
        actor_name=row.actor_name,
        proposal=proposal,
    )
