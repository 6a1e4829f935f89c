"""What is in force: a change of policy takes two people, and its own test cases.

The rules that hold here:
    1. Saving a version proposes it; whoever did cannot put it into force. Another change (an older version, or none)
       is proposed by asking for it, and done when another person asks for the same.
    2. A version comes into force only if its own test cases come out as they say.
    3. Where nobody can be told apart (an embedded home, a server without login) one person is all there is.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select

from everline.access.declare import act
from everline.access.types import LOCAL, SYSTEM, Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, InvalidInputError
from everline.governance import audit
from everline.governance.document import compile_document
from everline.governance.policies import activations, get_policy, newest_version
from everline.governance.tables import policy as table
from everline.governance.tables import policy_activation, policy_proposal
from everline.governance.types import BASELINE, Policy
from everline.storage.db import upsert

_ALONE = (LOCAL.uid, SYSTEM.uid)
_REASON_CHARS_MAX = 4000


@act
def activate(uow: UnitOfWork, name: str, *, project: str, version: int | None = None) -> Policy:
    """Put a version of a policy into force, or propose it where a second person must agree.

    Args:
        version: None for the newest one.

    Returns:
        The policy; `active` if it is in force now, else its `proposal` says what waits for whom.

    Raises:
        NotFoundError: no such policy or version.
        ConflictError: one of its test cases does not come out as it says.
    """
    _require(uow, project)
    chosen = get_policy(uow, name, project=project, version=version or newest_version(uow, name, project))
    failed = [case for case in compile_document(chosen.source).run_cases() if not case.passed]
    if failed:
        first = failed[0]
        raise ConflictError(
            f"The policy {name!r} was not activated: its test case {first.name!r} expects {first.expected}, "
            f"but the rules say {first.found}" + (f" (and {len(failed) - 1} more)." if failed[1:] else "."),
            hint="Mend the rule or the case; `everline policy test FILE` shows every clause with what it saw.",
        )
    if chosen.active:
        uow.unchanged()
        return chosen
    before = activations(uow, project).get(name, 1 if name == BASELINE else None)
    proposer = _proposer(uow, name, project, chosen.version)
    if not _second(uow, proposer):
        return _propose(uow, name, project, chosen.version, reason="", digest=chosen.digest)
    _set(uow, name, project, chosen.version)
    audit.record(
        uow,
        "policy.activate",
        subject=f"policy:{name}",
        project=project,
        version=chosen.version,
        digest=chosen.digest,
        before=before,
        proposed_by=proposer,
    )
    return get_policy(uow, name, project=project, version=chosen.version)


@act
def deactivate(uow: UnitOfWork, name: str, *, project: str, reason: str) -> Policy:
    """Take a policy out of force, or propose it where a second person must agree; the reason is kept.

    Raises:
        InvalidInputError: no reason given.
        ConflictError: it is not in force.
    """
    _require(uow, project)
    if not reason.strip() or len(reason) > _REASON_CHARS_MAX:
        raise InvalidInputError("Taking a policy out of force needs a reason.", field="reason")
    policy = get_policy(uow, name, project=project)
    if not policy.active:
        raise ConflictError(f"The policy {name!r} is not in force.")
    proposer = _proposer(uow, name, project, None)
    if not _second(uow, proposer):
        return _propose(uow, name, project, None, reason=reason, digest=policy.digest)
    _set(uow, name, project, None)
    audit.record(
        uow, "policy.deactivate", subject=f"policy:{name}", project=project, version=policy.version, reason=reason,
        proposed_by=proposer,
    )  # fmt: skip
    return get_policy(uow, name, project=project, version=policy.version)


def _require(uow: UnitOfWork, project: str) -> None:
    if not uow.actor.may(Permission.POLICY_WRITE, project):
        uow.require(Permission.POLICY_ACTIVATE, project)
    uow.require(Permission.POLICY_READ, project)


def _second(uow: UnitOfWork, proposer: str | None) -> bool:
    """Whether the actor is the second pair of eyes, or the only one there can be."""
    return uow.actor.uid in _ALONE or (proposer is not None and proposer != uow.actor.uid)


def _proposer(uow: UnitOfWork, name: str, project: str, version: int | None) -> str | None:
    """Uid of who asked for exactly this change: by saving the newest version, or by asking for it."""
    column = policy_proposal.c
    row = uow.conn.execute(
        select(policy_proposal).where(column.project == project, column.name == name).with_for_update()
    ).first()
    if row is not None and row.version == version:
        return str(row.actor)
    if version is None or version != newest_version(uow, name, project):
        return None
    saved = select(table.c.actor).where(table.c.project == project, table.c.name == name, table.c.version == version)
    found: str | None = uow.conn.execute(saved).scalar()
    return found


def _propose(uow: UnitOfWork, name: str, project: str, version: int | None, *, reason: str, digest: str) -> Policy:
    row: dict[str, Any] = {
        "project": project, "name": name, "version": version, "reason": reason, "at": uow.clock.now(),
        "actor": uow.actor.uid, "actor_name": uow.actor.name,
    }  # fmt: skip
    changed = ["version", "reason", "at", "actor", "actor_name"]
    upsert(uow.conn, policy_proposal, [row], keys=["project", "name"], update=changed)
    audit.record(
        uow, "policy.propose", subject=f"policy:{name}", project=project, version=version, digest=digest, reason=reason
    )
    return get_policy(uow, name, project=project, version=version)


def _set(uow: UnitOfWork, name: str, project: str, version: int | None) -> None:
    row = {"project": project, "name": name, "version": version, "at": uow.clock.now()}
    upsert(uow.conn, policy_activation, [row], keys=["project", "name"], update=["version", "at"])
    column = policy_proposal.c
    uow.conn.execute(delete(policy_proposal).where(column.project == project, column.name == name))
