"""Policies: saved as text that never changes, put into force by name, and judged on facts.

Every project starts under the built-in policy `baseline`, version 1, until somebody saves another one under
that name and activates it, or switches it off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any

from sqlalchemy import Row, func, insert, select

from everline.access.declare import act, read
from everline.access.types import SYSTEM, Permission
from everline.access.unit_of_work import UnitOfWork
from everline.clock import rfc3339
from everline.errors import ConflictError, InvalidInputError, NotFoundError
from everline.governance import approvals as people
from everline.governance import audit
from everline.governance.document import Approvals, compile_document, outcome_of
from everline.governance.evidence import list_evidence
from everline.governance.schemas import BODIES
from everline.governance.tables import policy as table
from everline.governance.tables import policy_activation
from everline.governance.types import (
    BASELINE,
    ApprovalVerdict,
    CaseResult,
    Evidence,
    GateState,
    Outcome,
    Policy,
    Verdict,
)
from everline.ids import digest_bytes, new_uid
from everline.storage.db import upsert

BASELINE_SOURCE = (files("everline.governance") / "packs" / "baseline.toml").read_text(encoding="utf-8")
_BUILT_IN_AT = datetime.fromisoformat("2026-11-23T00:00:00+00:00")
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


@act
def activate(uow: UnitOfWork, name: str, *, project: str, version: int | None = None) -> Policy:
    """Put a version of a policy into force; its own test cases must pass.

    Args:
        version: None for the newest one.

    Raises:
        NotFoundError: no such policy or version.
        ConflictError: one of its test cases does not come out as it says.
    """
    uow.require(Permission.POLICY_WRITE, project)
    chosen = get_policy(uow, name, project=project, version=version or _newest_version(uow, name, project))
    failed = [case for case in compile_document(chosen.source).run_cases() if not case.passed]
    if failed:
        first = failed[0]
        raise ConflictError(
            f"The policy {name!r} was not activated: its test case {first.name!r} expects {first.expected}, "
            f"but the rules say {first.found}" + (f" (and {len(failed) - 1} more)." if failed[1:] else "."),
            hint="Mend the rule or the case; `everline policy test FILE` shows every clause with what it saw.",
        )
    before = _activations(uow, project).get(name, 1 if name == BASELINE else None)
    _set_activation(uow, name, project, chosen.version)
    audit.record(
        uow,
        "policy.activate",
        subject=f"policy:{name}",
        project=project,
        version=chosen.version,
        digest=chosen.digest,
        before=before,
    )
    return get_policy(uow, name, project=project, version=chosen.version)


@act
def deactivate(uow: UnitOfWork, name: str, *, project: str, reason: str) -> Policy:
    """Take a policy out of force; the reason goes into the audit log.

    Raises:
        InvalidInputError: no reason given.
        ConflictError: it is not in force.
    """
    uow.require(Permission.POLICY_WRITE, project)
    if not reason.strip():
        raise InvalidInputError("Taking a policy out of force needs a reason.", field="reason")
    policy = get_policy(uow, name, project=project)
    if not policy.active:
        raise ConflictError(f"The policy {name!r} is not in force.")
    _set_activation(uow, name, project, None)
    audit.record(
        uow, "policy.deactivate", subject=f"policy:{name}", project=project, version=policy.version, reason=reason
    )
    return get_policy(uow, name, project=project, version=policy.version)


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
    active = _active_version(uow, name, project)
    version = version or active or _newest_version(uow, name, project)
    if name == BASELINE and version == 1:
        return _built_in(project, active=active == 1)
    row = uow.conn.execute(
        select(table).where(table.c.project == project, table.c.name == name, table.c.version == version)
    ).first()
    if row is None:
        raise _missing(name, version)
    return _policy(row, active=active == version)


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
) -> dict[str, Any]:
    """Collect what is known for a decision, as the facts that rules speak of.

    Args:
        model_version: subject whose newest evidence of each kind counts, `model-version:<uid>`.
        release: subject that approvals belong to; `digest` is the exact content that they are bound to.
        author: uids of the people whose approval never counts.
        champion: what answers the endpoint now: `model`, `version` and `package` at least; None for nothing.

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
    kept = ("person", "person_name", "decision", "meaning", "roles")
    return facts | {
        "comparisons": comparisons,
        "evidence": _by_kind(found),
        "model": {"subject": model_version, "name": model},
        "release": {
            "subject": release,
            "digest": digest,
            "endpoint": endpoint,
            "authors": [author] if isinstance(author, str) else list(author),
        },
        "champion": reigning,
        "approvals": [{name: getattr(item, name) for name in kept} | {"at": rfc3339(item.at)} for item in given],
        "now": rfc3339(uow.clock.now()),
    }


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
def judge(uow: UnitOfWork, *, project: str, action: str, facts: dict[str, Any]) -> list[Verdict]:
    """Judge every policy in force that speaks of this action here.

    Args:
        facts: as `gather` gives them; what is missing is unknown, and unknown blocks.

    Returns:
        A verdict per policy, with every clause and the values that it saw, and the digest of the policy's text.
    """
    uow.require(Permission.RELEASE_READ, project)
    endpoint = (facts.get("release") or {}).get("endpoint", "")
    model = (facts.get("model") or {}).get("name", "")
    verdicts = []
    for policy in _in_force(uow, project):
        compiled = compile_document(policy.source)
        if not compiled.applies(action=action, endpoint=endpoint, model=model):
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
                rules=rules,
                approvals=_count(wanted, facts) if wanted else None,
            )
        )
    return verdicts


@read
def explain(uow: UnitOfWork, *, project: str, model_version: str, model: str = "", endpoint: str = "") -> list[Verdict]:
    """Say how a model version would fare as a first release now, without opening one."""
    uow.require(Permission.RELEASE_READ, project)
    facts = gather(uow, project=project, model_version=model_version, model=model, endpoint=endpoint)
    return judge(uow, project=project, action="release", facts=facts)


def gate(verdicts: Sequence[Verdict]) -> GateState:
    """What all verdicts together allow: no policy at all allows nothing."""
    if not verdicts or any(verdict.outcome is not Outcome.PASS for verdict in verdicts):
        return GateState.BLOCKED
    asked = {verdict.approvals.outcome for verdict in verdicts if verdict.approvals is not None}
    if Outcome.FAIL in asked:
        return GateState.REJECTED
    return GateState.AWAITING_APPROVAL if Outcome.UNKNOWN in asked else GateState.OPEN


def _count(wanted: Approvals, facts: Mapping[str, Any]) -> ApprovalVerdict:
    """Count the people who said yes: in one of the roles, each once, and never the author."""
    given = facts.get("approvals") or []
    authors = set((facts.get("release") or {}).get("authors") or []) if wanted.not_author else set()
    counted = [
        item
        for item in given
        if item["person"] not in authors
        and item["meaning"] != "author"
        and (not wanted.roles or set(wanted.roles) & set(item["roles"]))
    ]
    yes = [item for item in counted if item["decision"] == "approve"]
    number = len({item["person"] for item in yes}) if wanted.distinct else len(yes)
    no = [item for item in counted if item["decision"] == "reject"]
    outcome = Outcome.FAIL if no else Outcome.PASS if number >= wanted.count else Outcome.UNKNOWN
    roles = " or ".join(wanted.roles) or "anyone who may approve"
    text = f"{number} of {wanted.count} approvals by {roles}" + (", not the author" if wanted.not_author else "")
    if no:
        text = f"rejected by {no[0]['person_name']}"
    return ApprovalVerdict(
        required=wanted.count,
        given=number,
        roles=wanted.roles,
        outcome=outcome,
        text=text,
        by=[item["person_name"] for item in (no or yes)],
    )


def _in_force(uow: UnitOfWork, project: str) -> list[Policy]:
    active = {BASELINE: 1} | _activations(uow, project)
    found = []
    for name, version in sorted(active.items()):
        if name == BASELINE and version == 1:
            found.append(_built_in(project, active=True))
        elif version is not None:
            query = select(table).where(table.c.project == project, table.c.name == name, table.c.version == version)
            found.append(_policy(uow.conn.execute(query).one(), active=True))
    return found


def _activations(uow: UnitOfWork, project: str) -> dict[str, int | None]:
    rows = uow.conn.execute(select(policy_activation).where(policy_activation.c.project == project))
    return {row.name: row.version for row in rows}


def _active_version(uow: UnitOfWork, name: str, project: str) -> int | None:
    return _activations(uow, project).get(name, 1 if name == BASELINE else None)


def _set_activation(uow: UnitOfWork, name: str, project: str, version: int | None) -> None:
    row = {"project": project, "name": name, "version": version, "at": uow.clock.now()}
    upsert(uow.conn, policy_activation, [row], keys=["project", "name"], update=["version", "at"])


def _newest_version(uow: UnitOfWork, name: str, project: str) -> int:
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


def _policy(row: Row[Any], *, active: bool) -> Policy:
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
    )


def _built_in(project: str, *, active: bool) -> Policy:
    document = compile_document(BASELINE_SOURCE).document
    return Policy(
        uid="00000000-0000-7000-8000-000000000001",
        project=project,
        name=BASELINE,
        version=1,
        title=document.title,
        reason=document.reason,
        action=document.action,
        digest=digest_bytes(BASELINE_SOURCE.encode()),
        source=BASELINE_SOURCE,
        active=active,
        rules=len(document.rules),
        at=_BUILT_IN_AT,
        actor_name=SYSTEM.name,
    )
