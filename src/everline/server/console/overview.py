"""The first page: the five goals with live facts, and what needs attention."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from starlette.responses import Response

from everline.access.types import SYSTEM, Permission
from everline.access.unit_of_work import UnitOfWork
from everline.governance import audit, evidence
from everline.governance.types import AuditEvent, CheckpointInfo
from everline.models import registry
from everline.models.types import ModelVersion
from everline.monitoring import incidents as monitoring_incidents
from everline.monitoring import service as monitoring
from everline.monitoring.types import Incident, IncidentStatus, Monitor
from everline.pipelines import approvals, history
from everline.pipelines.types import ApprovalRecord
from everline.releases import service as releases
from everline.releases.states import State
from everline.releases.types import Release
from everline.runs import service as runs
from everline.runs.types import Run, RunStatus
from everline.server.console import endpoints, incidents, pages
from everline.server.console.view import render
from everline.server.http import Request, begin
from everline.serving import health as serving_health
from everline.serving import service as serving
from everline.serving.types import Endpoint, RevisionRole

_Fact = tuple[str, str, str | None]
"""Label, value, and the page where it comes from."""

routes = pages.console_routes()
_LOOKED_AT = 100
_VERSIONS_LOOKED_AT = 20
_EVENTS_LOOKED_AT = 1000
_OF_MACHINES = ("prediction.", "feedback.", "job.", "session.")
"""Actions that say nothing about people working together."""
_FAILED_SHOWN = 3


class Facts(msgspec.Struct, kw_only=True):
    """Everything that the page says, as the services told it."""

    endpoints: list[Endpoint]
    health: dict[str, dict[str, str]]
    figures: dict[str, dict[str, str]]
    runs: Sequence[Run]
    versions: Sequence[ModelVersion]
    rebuilt: dict[str, dict[str, Any]]
    releases: list[Release]
    monitors: list[Monitor]
    incidents: list[Incident]
    questions: list[ApprovalRecord]
    events: list[AuditEvent]
    size: int
    checkpoint: CheckpointInfo | None


@routes.get("/")
def show_overview(request: Request) -> Response:
    """The overview."""
    with begin(request) as uow:
        facts = _gather(uow, request.project)
    project = request.project
    return pages.page(
        request,
        "overview.html",
        title="Overview",
        section="",
        attention=_attention(facts, project),
        goals=[
            _deployment(facts, project),
            _reproducibility(facts, project),
            _monitoring(facts, project),
            _governance(facts, project),
            _collaboration(facts, project),
        ],
    )


def _gather(uow: UnitOfWork, project: str) -> Facts:
    shown = serving.list_endpoints(uow, project=project)
    replicas = serving_health.list_replicas(uow, project=project)
    seen = {one.name: endpoints.seen_by_replicas(one, replicas, uow.clock.now()) for one in shown}
    found_runs, _ = runs.list_runs(uow, project, limit=_LOOKED_AT)
    versions, _ = registry.search_versions(uow, project, limit=_VERSIONS_LOOKED_AT)
    audited = uow.actor.may(Permission.AUDIT_READ, project)
    return Facts(
        endpoints=shown,
        health={one.name: endpoints.health_of(one, seen[one.name]) for one in shown},
        figures={one.name: endpoints.figures_of(seen[one.name]) for one in shown},
        runs=found_runs,
        versions=versions,
        rebuilt=_rebuilt(uow, versions),
        releases=releases.list_releases(uow, project=project, limit=_LOOKED_AT),
        monitors=monitoring.list_monitors(uow, project=project),
        incidents=monitoring_incidents.list_incidents(uow, project=project, limit=_LOOKED_AT),
        questions=_questions(uow, project),
        events=_of_people(audit.list_events(uow, project=project, limit=_EVENTS_LOOKED_AT)) if audited else [],
        size=audit.read_head(uow).size,
        checkpoint=audit.latest_checkpoint(uow, project=project) if audited else None,
    )


def _questions(uow: UnitOfWork, project: str) -> list[ApprovalRecord]:
    """What runs that have not ended ask people."""
    asked = approvals.list_approvals(uow, project, open_only=True, limit=_LOOKED_AT)
    alive = history.not_ended(uow, project, runs=[one.run for one in asked])
    return [one for one in asked if one.run in alive]


def _of_people(events: Sequence[AuditEvent]) -> list[AuditEvent]:
    return [one for one in events if one.actor != SYSTEM.uid and not one.action.startswith(_OF_MACHINES)]


def _rebuilt(uow: UnitOfWork, versions: Sequence[ModelVersion]) -> dict[str, dict[str, Any]]:
    """The newest certificate of each version that was rebuilt."""
    found = {}
    for one in versions:
        for item in evidence.list_evidence(uow, subject=one.subject, project=one.project, kind="reproduction", limit=1):
            found[one.uid] = item.body
    return found


# --- what needs attention ---------------------------------------------------------------------------


def _attention(facts: Facts, project: str) -> list[dict[str, Any]]:
    items = [
        _item(
            one.state,
            f"{one.model}, version {one.version}, {text} {one.endpoint}",
            one.updated_at,
            project,
            "releases",
            one.uid,
        )
        for one in facts.releases
        if (text := _RELEASE_TEXTS.get(one.state))
    ]
    items += [
        _item(
            "waiting", f"{one.pipeline} asks: {render.clip(one.question, 80)}", one.asked_at, project, "runs", one.run
        )
        for one in facts.questions
    ]
    items += [
        _item(one.status, incidents.title_of(one), one.opened_at, project, "incidents", one.uid)
        for one in facts.incidents
        if one.status is IncidentStatus.OPEN
    ]
    items += [
        _item("unhealthy", f"{one.name}: {facts.health[one.name]['sentence']}", None, project, "endpoints", one.name)
        for one in facts.endpoints
        if facts.health[one.name]["tone"] in ("bad", "warn")
    ]
    failed = [one for one in facts.runs if one.status is RunStatus.FAILED][:_FAILED_SHOWN]
    return items + [
        _item(one.status, f"Run {one.name} failed", one.ended_at, project, "runs", one.run) for one in failed
    ]


_RELEASE_TEXTS = {
    State.AWAITING_APPROVAL: "waits for approval to reach",
    State.APPROVED: "is approved and not rolled out yet to",
    State.BLOCKED: "is blocked on its way to",
    State.SHADOW: "is asked as a shadow at",
    State.CANARY: "is being watched as a canary at",
}


def _item(state: str, text: str, at: datetime | None, project: str, *where: str) -> dict[str, Any]:
    return {"state": state, "text": text, "at": at, "href": render.path(*where, project=project)}


# --- the five goals ---------------------------------------------------------------------------------


def _goal(key: str, icon: str, line: str, facts: list[_Fact], state: Any = None) -> dict[str, Any]:
    return {"key": key, "icon": icon, "title": key.capitalize(), "line": line, "facts": facts, "state": state}


def _deployment(facts: Facts, project: str) -> dict[str, Any]:
    live = [one for one in facts.endpoints if one.revisions]
    if not live:
        line = "Nothing is deployed yet"
        return _goal("deployment", "endpoints", line, [("Endpoints", str(len(facts.endpoints)), None)])
    first = live[0]
    answer = f"{first.revisions[0].model}, version {first.revisions[0].version}, answers at {first.name}"
    line = answer if len(live) == 1 else f"{len(live)} endpoints answer"
    canaries = [item for one in live for item in one.revisions if item.role is RevisionRole.CANARY]
    figures = facts.figures[first.name]
    health = facts.health[first.name]
    return _goal(
        "deployment",
        "endpoints",
        line,
        [
            ("Requests", figures["requests"], render.path("endpoints", first.name, project=project)),
            ("Latency p95, last minute", figures["p95"], None),
            (
                "Canary",
                f"version {canaries[0].version}, {render.percent(canaries[0].share)}" if canaries else "none",
                None,
            ),
        ],
        {"text": health["text"], "tone": health["tone"]},
    )


def _reproducibility(facts: Facts, project: str) -> dict[str, Any]:
    recorded = sum(1 for one in facts.runs if one.record)
    total = len(facts.runs)
    line = f"{recorded} of {total} runs recorded everything to be rebuilt" if total else "No runs yet"
    shown: list[_Fact] = [("Model versions", str(len(facts.versions)), render.path("models", project=project))]
    state = None
    for one in facts.versions:
        if one.uid in facts.rebuilt:
            body = facts.rebuilt[one.uid]
            text = f"{body.get('level')} {render.words(body.get('verdict'))}"
            uid = body.get("certificate")
            href = render.path("certificates", uid, project=project) if isinstance(uid, str) else None
            shown.append(("Last rebuild", f"{one.model}, version {one.version}: {text}", href))
            state = {"text": text, "tone": render.tone(body.get("verdict"))}
            break
    else:
        shown.append(("Rebuilt and compared", "none yet", None))
    return _goal(
        "reproducibility",
        "reproducibility",
        line,
        [*shown, ("Runs", str(total), render.path("runs", project=project))],
        state,
    )


def _monitoring(facts: Facts, project: str) -> dict[str, Any]:
    open_now = sum(one.status is IncidentStatus.OPEN for one in facts.incidents)
    count = len(facts.monitors)
    watched = len({one.endpoint for one in facts.monitors})
    line = f"{_count(count, 'monitor')} watch{'es' if count == 1 else ''} {_count(watched, 'endpoint')}"
    reached = max((one.next_start for one in facts.monitors if one.next_start), default=None)
    return _goal(
        "monitoring",
        "incidents",
        line if count else "Nothing is watched yet",
        [
            ("Open incidents", str(open_now), render.path("incidents", project=project)),
            ("Incidents in all", str(len(facts.incidents)), None),
            ("Watched up to", render.short_time(reached) if reached else "–", None),
        ],
        ({"text": f"{open_now} open", "tone": "bad"} if open_now else {"text": "quiet", "tone": "good"})
        if count
        else None,
    )


def _governance(facts: Facts, project: str) -> dict[str, Any]:
    waiting = sum(one.state is State.AWAITING_APPROVAL for one in facts.releases)
    refused = sum(one.state in (State.BLOCKED, State.REJECTED) for one in facts.releases)
    point = facts.checkpoint
    shown: list[_Fact] = [
        ("Releases to decide", str(waiting), render.path("releases", project=project)),
        ("Blocked or rejected", str(refused), None),
    ]
    if point is not None:
        shown.append(
            ("Signed root covers", f"{render.number(point.size)} events", render.path("audit", project=project))
        )
    return _goal(
        "governance",
        "audit",
        f"{_count(facts.size, 'event')} in the audit log",
        shown,
        {"text": f"{waiting} to decide", "tone": "warn"} if waiting else None,
    )


def _collaboration(facts: Facts, project: str) -> dict[str, Any]:
    people = {one.actor_name for one in facts.events} or {one.user for one in facts.runs}
    decided = [one for one in facts.events if one.action.startswith("approval.")]
    shown: list[_Fact] = [("Decisions of people", str(len(decided)), None)]
    if facts.events:
        last = facts.events[0]
        shown.append(
            ("Last change", f"{last.actor_name}: {last.action}", render.path("audit", last.index, project=project))
        )
    line = f"{_count(len(people), 'person', 'people')} at work lately"
    return _goal(
        "collaboration",
        "collaboration",
        line if people else "Nobody has done anything yet",
        [*shown, ("Who", render.clip(", ".join(sorted(people)), 60) or "–", None)],
    )


def _count(count: int, one: str, many: str | None = None) -> str:
    return f"{render.number(count)} {one if count == 1 else many or one + 's'}"
