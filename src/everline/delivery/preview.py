"""What a changed policy would say: of what is live, and of the releases that are on their way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.delivery.planning import Step
from everline.delivery.types import Action, Preview
from everline.errors import EverlineError, InvalidInputError
from everline.governance import built_in, policies
from everline.governance.document import Compiled, compile_document
from everline.governance.types import BASELINE, Outcome, RuleVerdict
from everline.releases import change
from everline.releases import service as releases
from everline.releases.states import PENDING, State
from everline.releases.types import Release
from everline.serving import service as serving
from everline.serving.types import RevisionRole

SUBJECTS_MAX = 200
"""Live versions, and releases on their way, that are looked at: of each so many."""

TEXTS_MAX = 20
"""Policies that one preview takes."""

_SILENT = "none"


def preview(uow: UnitOfWork, project: str, steps: list[Step]) -> list[Preview]:
    """Judge live versions and pending releases under each policy that changes, as it is and as it would be.

    The evidence is that of now, and a live version is judged against the champion that it replaced. Approvals are
    left out: people decide about releases, not about policies. Whoever may not read releases gets no preview.
    """
    changed = [step for step in steps if step.change.kind == "policies" and step.change.action in _SPEAKS]
    may = all(uow.actor.may(one, project) for one in (Permission.RELEASE_READ, Permission.ENDPOINT_READ))
    if not changed or not may:
        return []
    return _compare(uow, project, {step.change.name: _declared(step) for step in changed})


@read
def preview_texts(uow: UnitOfWork, sources: Sequence[str], *, project: str) -> list[Preview]:
    """Judge live versions and pending releases under policies that are not saved, each in place of its namesake.

    Args:
        sources: TOML documents, at most `TEXTS_MAX`.

    Raises:
        InvalidInputError: a document is wrong, says where; two have one name, or there are too many.
    """
    uow.require(Permission.RELEASE_READ, project)
    uow.require(Permission.ENDPOINT_READ, project)
    compiled = [compile_document(source) for source in sources]
    texts = {one.document.name: one for one in compiled}
    if len(texts) < len(compiled) or len(compiled) > TEXTS_MAX:
        raise InvalidInputError(
            f"Of each policy one text is looked at, and at most {TEXTS_MAX} in all.", field="sources"
        )
    return _compare(uow, project, texts)


def _compare(uow: UnitOfWork, project: str, texts: Mapping[str, Compiled | None]) -> list[Preview]:
    found: list[Preview] = []
    facts = [(kind, release, _facts(uow, project, release)) for kind, release in _subjects(uow, project)]
    for name, new in texts.items():
        old = _in_force(uow, project, name)
        for kind, release, known in facts:
            before, after = _judge(old, release, known), _judge(new, release, known)
            if before is None and after is None:
                continue
            found.append(_preview(name, kind, release, before, after))
    return found


_SPEAKS = (Action.CREATE, Action.CHANGE, Action.REMOVE)


def _subjects(uow: UnitOfWork, project: str) -> Iterator[tuple[str, Release]]:
    for endpoint in serving.list_endpoints(uow, project=project)[:SUBJECTS_MAX]:
        for revision in endpoint.revisions:
            if revision.role is RevisionRole.PRIMARY:
                try:
                    yield "live", releases.get(uow, revision.release)
                except EverlineError:
                    continue  # what is live without a release of ours cannot be judged
    left = SUBJECTS_MAX
    for state in sorted(PENDING, key=lambda one: one.value):
        if state is State.DRAFT:
            continue
        for one in releases.list_releases(uow, project=project, state=state, limit=left):
            left -= 1
            yield "release", one
        if left < 1:
            return


def _facts(uow: UnitOfWork, project: str, release: Release) -> dict[str, Any]:
    champion = release.champion
    named = (
        None
        if champion is None
        else {"model": champion.model, "version": champion.version, "package": champion.package}
    )
    return policies.gather(
        uow,
        project=project,
        model_version=f"model-version:{release.model_version}",
        model=release.model,
        release=release.subject,
        digest=release.digest,
        author=[release.author, release.created_by],
        endpoint=release.endpoint,
        champion=named,
        signature=change.signature_names(uow, release.package),
        change=change.compare_packages(uow, model=release.model, package=release.package, champion=champion),
    )


def _in_force(uow: UnitOfWork, project: str, name: str) -> Compiled | None:
    try:
        found = policies.get_policy(uow, name, project=project)
    except EverlineError:
        return None
    return compile_document(found.source) if found.active else None


def _declared(step: Step) -> Compiled | None:
    if step.spec is None:
        return compile_document(built_in.BASELINE_SOURCE) if step.change.name == BASELINE else None
    return compile_document(step.spec["source"]) if step.spec["active"] else None


def _judge(policy: Compiled | None, release: Release, facts: dict[str, Any]) -> list[RuleVerdict] | None:
    """The rules' verdicts, or None where the policy does not speak."""
    if policy is None or not policy.applies(action="release", facts=facts):
        return None
    return policy.judge(facts)


def _outcome(rules: list[RuleVerdict] | None) -> str:
    if rules is None:
        return _SILENT
    outcomes = {rule.outcome for rule in rules}
    worst = next((one for one in (Outcome.FAIL, Outcome.UNKNOWN) if one in outcomes), Outcome.PASS)
    return worst.value


def _preview(
    policy: str, kind: str, release: Release, before: list[RuleVerdict] | None, after: list[RuleVerdict] | None
) -> Preview:
    fine = (_SILENT, Outcome.PASS.value)
    return Preview(
        policy=policy,
        subject=kind,
        endpoint=release.endpoint,
        version=f"{release.model}/{release.version}",
        release=release.uid,
        before=_outcome(before),
        after=_outcome(after),
        blocks=_outcome(before) in fine and _outcome(after) not in fine,
        reasons=[_reason(rule) for rule in after or [] if rule.outcome is not Outcome.PASS],
    )


def _reason(rule: RuleVerdict) -> str:
    clause = next((one for one in rule.clauses if one.outcome is not Outcome.PASS), None)
    if clause is None:
        return f"{rule.name}: {rule.expression}"
    missing = [seen.path for seen in clause.values if seen.missing]
    if missing:
        return f"{rule.name}: {', '.join(missing)} is missing"
    seen = ", ".join(f"{one.path} = {msgspec.json.encode(one.value).decode()}" for one in clause.values[:3])
    return f"{rule.name}: {clause.text}" + (f" ({seen})" if seen else "")
