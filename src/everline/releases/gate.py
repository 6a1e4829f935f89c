"""Judging a release: the facts go to governance, and what it says is kept with everything that it saw."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Row, insert, select, update

from everline.access.unit_of_work import UnitOfWork
from everline.errors import GateClosedError, IntegrityError, NotFoundError
from everline.governance import evidence, policies
from everline.governance.types import GateState, Outcome, Verdict
from everline.ids import new_uid
from everline.models import service as models
from everline.releases import change, reviews, tables
from everline.releases.rows import digest_of
from everline.releases.types import Champion, Check, EvidenceRef
from everline.serving import service as serving
from everline.serving.types import RevisionRole


def judge(uow: UnitOfWork, row: Row[Any]) -> tuple[Row[Any], Check]:
    """Judge a release on what is known now; return its row (the champion may have changed) and the verdicts."""
    champion = current_champion(uow, row.project, row.endpoint)
    kept = None if champion is None else msgspec.to_builtins(champion)
    digest = digest_of(row, kept)
    subject = f"model-version:{row.model_version}"
    named = None if kept is None else {name: kept[name] for name in ("model", "version", "package")}
    facts = policies.gather(
        uow,
        project=row.project,
        model_version=subject,
        release=f"release:{row.uid}",
        digest=digest,
        author=[row.author, row.created_by],
        endpoint=row.endpoint,
        champion=named,
        model=row.model,
        signature=change.signature_names(uow, row.package),
        change=change.compare_packages(uow, model=row.model, package=row.package, champion=champion),
    )
    verdicts = policies.judge(uow, project=row.project, action="release", facts=facts)
    if broken := reviews.verdict(uow, project=row.project, endpoint=row.endpoint, release=row.uid):
        verdicts.append(broken)
    check = Check(
        uid=new_uid(),
        at=uow.clock.now(),
        by_name=uow.actor.name,
        gate=policies.gate(verdicts),
        verdicts=verdicts,
        evidence=_evidence(uow, subject, row.project, champion),
        champion=champion,
        change=change.classify(uow, project=row.project, facts=facts),
    )
    values = {
        name: msgspec.to_builtins(getattr(check, name)) for name in ("verdicts", "evidence", "champion", "change")
    }
    values |= {"uid": check.uid, "release": row.uid, "at": check.at, "by_name": check.by_name, "gate": check.gate.value}
    uow.conn.execute(insert(tables.release_check).values(**values))
    column = tables.release.c
    uow.conn.execute(update(tables.release).where(column.uid == row.uid).values(champion=kept, digest=digest))
    return uow.conn.execute(select(tables.release).where(column.uid == row.uid)).one(), check


def require_open(uow: UnitOfWork, row: Row[Any]) -> tuple[Row[Any], Check]:
    """Judge again, and let pass only if everything holds at this moment.

    Raises:
        GateClosedError: a rule fails or lacks evidence, or an approval is missing.
    """
    row, check = judge(uow, row)
    if check.gate is not GateState.OPEN:
        raise GateClosedError(
            f"Release {row.uid} may not go on: {explain(check.verdicts)}",
            hint=f"`everline release show {row.uid}` shows every clause; then `everline release check {row.uid}`.",
        )
    return row, check


def require_intact(uow: UnitOfWork, row: Row[Any]) -> None:
    """Verify the package again, byte for byte, against the digest and signature that the release names.

    Raises:
        IntegrityError: the registry, a file of the package or its signature was changed.
    """
    try:
        version = models.get_version_by_uid(uow, row.model_version)
    except NotFoundError:
        raise IntegrityError(f"The model version of release {row.uid} is gone from the registry.") from None
    if (version.package, version.signature) != (row.package, row.signature):
        raise IntegrityError(
            f"{row.model}/{row.version} is no longer the package that this release is about "
            f"({version.package} where {row.package} was checked).",
            hint="A version never changes: somebody wrote to the database. See the audit log.",
        )
    found = models.check_package(uow, version)
    if not found.verified:
        raise IntegrityError(
            f"The package of {row.model}/{row.version} cannot be trusted: {found.problem}",
            hint="Restore the blob from a backup, or register the model anew.",
        )


def current_champion(uow: UnitOfWork, project: str, endpoint: str, *, lock: bool = False) -> Champion | None:
    """What answers the endpoint as its primary now."""
    try:
        found = serving.get_endpoint(uow, endpoint, project=project, lock=lock)
    except NotFoundError:
        return None
    for one in found.revisions:
        if one.role is RevisionRole.PRIMARY:
            return Champion(
                model=one.model, version=one.version, package=one.package, revision=one.revision, release=one.release
            )
    return None


def _evidence(uow: UnitOfWork, subject: str, project: str, champion: Champion | None) -> list[EvidenceRef]:
    """The newest evidence of each kind, by kind; of comparisons only one with this champion."""
    newest: dict[str, EvidenceRef] = {}
    names = (champion.package, f"{champion.model}/{champion.version}") if champion else ()
    for one in sorted(evidence.list_evidence(uow, subject=subject, project=project), key=lambda item: item.uid):
        if one.kind != "comparison" or one.body.get("champion") in names:
            newest[one.kind] = EvidenceRef(uid=one.uid, kind=one.kind, digest=one.digest, at=one.at)
    return [newest[kind] for kind in sorted(newest)]


def explain(verdicts: list[Verdict]) -> str:
    """Say in one sentence what keeps the gate from being open."""
    reasons = []
    for verdict in verdicts:
        for rule in verdict.rules:
            if rule.stands:
                continue
            clause = next((one for one in rule.clauses if one.outcome is not Outcome.PASS), None)
            missing = [seen.path for seen in clause.values if seen.missing] if clause else []
            what = f"{', '.join(missing)} is missing" if missing else (clause.text if clause else rule.expression)
            reasons.append(f"rule {rule.name!r} of policy {verdict.policy!r} is {rule.outcome.value} ({what})")
        people = verdict.approvals
        if people is not None and people.outcome is not Outcome.PASS:
            reasons.append(f"policy {verdict.policy!r}: {people.text}")
    return "; ".join(reasons) + "." if reasons else "nothing does."
