"""Pages of incidents: the list, and one with its diagnosis, distributions and signals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from starlette.responses import Response

from everline.access.types import Permission
from everline.clock import rfc3339
from everline.errors import EverlineError, InvalidInputError
from everline.monitoring import incidents as service
from everline.monitoring import service as monitoring
from everline.monitoring.types import Candidate, Diagnosis, Incident, IncidentStatus, Signal
from everline.server.console import pages
from everline.server.console.view import charts, render
from everline.server.http import Request, begin

routes = pages.console_routes()
LIST_MAX = 200
SIGNALS_MAX = 5000
_SIGNAL_FEATURES_MAX = 4
_FEATURES_SHOWN_MAX = 6
_EVIDENCE_FLOOR = 1e-3
"""Less evidence than this is drawn as this much: the axis is logarithmic."""
_ACTIONS = {
    "fix_upstream": "Fix it upstream",
    "retrain": "Retrain",
    "roll_back": "Roll back",
    "accept": "Accept",
}

_TITLES = {
    "type": "{} has another type",
    "missing": "{} is missing more often",
    "frozen": "{} is frozen",
    "unit": "{} is in another unit",
    "new_category": "{} has a new category",
    "sentinel": "{} has a stand-in value",
    "shift": "{} has shifted",
    "scale": "{} spreads otherwise",
    "population": "The population has shifted: {}",
}


@routes.get("/incidents")
def list_incidents(request: Request) -> Response:
    """The newest incidents."""
    with begin(request) as uow:
        found = service.list_incidents(uow, project=request.project, limit=LIST_MAX)
    rows = [
        {
            "incident": one.uid,
            "title": title_of(one),
            "diagnosis": one.sentence,
            "state": one.status,
            "endpoint": one.endpoint,
            "monitor": one.monitor_name,
            "schedule": one.schedule_name,
            "since": one.since,
            "opened_at": one.opened_at,
        }
        for one in found
    ]
    return pages.page(request, "incidents.html", title="Incidents", section="incidents", incidents=rows)


@routes.get("/incidents/{incident}")
def show_incident(request: Request) -> Response:
    """One incident."""
    return _page(request)


@routes.post("/incidents/{incident}")
def change(request: Request) -> Response:
    """Acknowledge or resolve it."""
    given, uid = pages.form(request), request.path["incident"]
    moves = {"acknowledge": service.acknowledge_incident, "resolve": service.resolve_incident}
    if given.get("move") not in moves:
        raise InvalidInputError("This page has no such button.", hint="Reload the page.", field="move")
    try:
        with begin(request) as uow:
            found = moves[given["move"]](uow, uid, project=request.project, note=given.get("reason", ""))
    except EverlineError as problem:
        if problem.status >= 500 or problem.status == 404:
            raise
        return _page(request, problem=problem)
    return pages.redirect(render.path("incidents", uid, project=found.project))


def _page(request: Request, *, problem: EverlineError | None = None) -> Response:
    project = request.project
    with request.app.begin(request.actor, read_only=True) as uow:
        found = service.get_incident(uow, request.path["incident"], project=project)
        signals = []
        if found.monitor_name is not None:
            signals = monitoring.list_signals(uow, found.monitor_name, project=project, limit=SIGNALS_MAX)
    diagnosis, last = found.diagnosis, render.short_time(found.last_window)
    return pages.page(
        request,
        "incident.html",
        title=title_of(found),
        section="incidents",
        status=problem.status if problem else 200,
        incident={"title": title_of(found), "state": found.status},
        problem=problem,
        sentence=(diagnosis and diagnosis.sentence) or found.sentence,
        effects=_effects(diagnosis) if diagnosis else [],
        stats=_stats(found),
        features=_then_and_now(diagnosis) if diagnosis else [],
        signals=_signals(found, signals),
        causes=_causes(diagnosis) if diagnosis else None,
        history=_history(found),
        actions=_actions(request, found),
        about=[
            *_places(found),
            ("Severity", found.severity),
            (
                "Slots" if found.schedule_name else "Windows",
                f"{found.windows}, the last one {last}",
            ),
            *([("Retraining", "queued by this incident" if found.job else "not asked for")] if diagnosis else []),
        ],
    )


def title_of(one: Incident) -> str:
    """What happened and where, in a few words."""
    if one.diagnosis is None and one.schedule_name is None:
        return f"A rollout went back on {one.endpoint}"
    if one.diagnosis is None:
        return f"Runs of schedule {one.schedule_name} {'were missed' if one.cause == 'missed' else 'fail'}"
    if one.diagnosis.kind == "quality":
        measure = render.words(one.features[0] if one.features else one.cause).capitalize()
        return f"{measure} has got worse on {one.endpoint}"
    shown = ", ".join(one.features[:3]) or one.cause
    return f"{_TITLES.get(one.diagnosis.kind, '{} changed').format(shown)} on {one.endpoint}"


def _places(found: Incident) -> list[tuple[str, str | None]]:
    if found.schedule_name is not None:
        return [("Schedule", found.schedule_name)]
    return [("Endpoint", found.endpoint), ("Monitor", found.monitor_name or "none: it was noticed by a rollout")]


def _effects(diagnosis: Diagnosis) -> list[str]:
    lines = []
    effect = diagnosis.effect
    if effect is not None:
        lines.append(
            f"On {render.number(effect.rows)} rows the mean prediction is {render.number(effect.mean)}; with "
            f"{diagnosis.feature} restored to its reference it is {render.number(effect.mean_restored)}."
        )
        if effect.loss is not None and effect.loss_restored is not None:
            lines.append(
                f"On {render.number(effect.outcomes)} rows with a known outcome the loss is "
                f"{render.number(effect.loss)}, and {render.number(effect.loss_restored)} with it restored."
            )
    if diagnosis.action is not None:
        lines.append(
            f"{_ACTIONS.get(diagnosis.action.verb, render.words(diagnosis.action.verb))}: {diagnosis.action.why}"
        )
    return lines


def _stats(found: Incident) -> list[tuple[str, str, str]]:
    diagnosis = found.diagnosis
    if diagnosis is None:
        return [("Since", render.short_time(found.since), "the first slot"), ("Slots", str(found.windows), found.cause)]
    stats = [("Since", render.short_time(diagnosis.since), "gradual" if diagnosis.gradual else "at once")]
    if diagnosis.value is not None and diagnosis.reference_value is not None:
        stats.append(("Was", render.number(diagnosis.reference_value), "in the reference"))
        stats.append(("Is", render.number(diagnosis.value), "in the window of the alarm"))
    change = diagnosis.change
    if change is not None and change.factor is not None:
        stats.append(("Factor", render.number(change.factor), change.looks_like or ""))
    stats.append(("Evidence", render.number(diagnosis.evidence, 3), f"alarm at {render.number(diagnosis.level, 3)}"))
    return stats


def _then_and_now(diagnosis: Diagnosis) -> list[dict[str, Any]]:
    """The distributions of what moved, in the reference and in the window of the alarm."""
    made = []
    for one in diagnosis.distributions[:_FEATURES_SHOWN_MAX]:
        chart = charts.bars(
            f"{one.feature}, then and now",
            categories=one.labels,
            series={"reference": one.reference, "now": one.current},
            colours=["--chart-6", "--chart-1"],
            format="percent",
            y_min=0,
            description=f"Share of rows per range of {one.feature}, in the reference and now.",
        )
        note = next((item.change.text for item in diagnosis.candidates if item.feature == one.feature), "")
        made.append({"name": one.feature, "note": note, "chart": chart})
    return made


def _signals(found: Incident, signals: Sequence[Signal]) -> list[dict[str, Any]]:
    """What the incident's features did, window by window: their values, and the evidence that raised the alarm."""
    groups: dict[str, list[Signal]] = defaultdict(list)
    for one in sorted(signals, key=lambda one: one.start):
        if one.feature in found.features:
            groups[one.feature].append(one)
    shown = [name for name in found.features if groups[name]][:_SIGNAL_FEATURES_MAX]
    if not shown:
        return []
    marks = [{"name": "since", "x": _at(found.since)}]
    evidence = charts.lines(
        "Evidence that has accumulated, by window; an alarm is raised at the dashed line",
        series=[
            charts.series(name, [(_at(one.start), max(one.evidence, _EVIDENCE_FLOOR)) for one in groups[name]])
            for name in shown
        ],
        x="time",
        y_log=True,
        limits=[{"name": "alarm", "y": groups[shown[0]][-1].level}],
        marks=marks,
    )
    return [evidence, *(_values(name, groups[name], marks) for name in shown)]


def _values(feature: str, signals: Sequence[Signal], marks: list[dict[str, str]]) -> dict[str, Any]:
    """One figure of a feature beside its reference. A window speaks of the figure that moved most in it; the one
    that raised the alarm is drawn, and windows that speak of another are passed over.
    """
    unit = next((one.unit for one in signals if one.alarm), signals[-1].unit)
    same = [one if one.unit == unit else None for one in signals]
    at = [_at(one.start) for one in signals]
    now = [one.value if one else None for one in same]
    reference = [one.reference_value if one else None for one in same]
    return charts.lines(
        f"{feature}, {render.words(unit)} per window" if unit else feature,
        series=[
            charts.series(feature, list(zip(at, now, strict=True))),
            charts.series("reference", list(zip(at, reference, strict=True)), dashed=True),
        ],
        x="time",
        connect=True,
        colours=["--chart-1", "--chart-6"],
        marks=marks,
    )


def _at(moment: datetime) -> str:
    return rfc3339(moment)[:19] + "Z"


def _causes(diagnosis: Diagnosis) -> dict[str, Any] | None:
    if not diagnosis.candidates:
        return None

    def row(one: Candidate) -> list[str]:
        moved = one.effect.mean_absolute_change if one.effect else None
        return [
            f"{one.feature} {one.change.text}",
            render.number(one.distance, 3),
            render.number(one.p_value, 2),
            render.number(moved, 3),
        ]

    return {
        "columns": ["What changed", "Distance", "p", "Mean move of a prediction"],
        "rows": [row(one) for one in diagnosis.candidates[:10]],
    }


def _history(found: Incident) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [
        {"what": "Opened", "who": "everline", "note": "", "at": found.opened_at, "href": None}
    ]
    if found.acknowledged_at is not None:
        steps.append(
            {
                "what": "Acknowledged",
                "who": found.acknowledged_by,
                "note": "",
                "at": found.acknowledged_at,
                "href": None,
            }
        )
    if found.resolved_at is not None:
        steps.append(
            {"what": "Resolved", "who": found.resolved_by, "note": found.note, "at": found.resolved_at, "href": None}
        )
    return steps


def _actions(request: Request, found: Incident) -> dict[str, Any] | None:
    if found.status is IncidentStatus.RESOLVED or not request.actor.may(Permission.INCIDENT_WRITE, found.project):
        return None
    buttons = [{"move": "resolve", "label": "Resolve", "kind": "primary"}]
    if found.status is IncidentStatus.OPEN:
        buttons.insert(0, {"move": "acknowledge", "label": "Acknowledge", "kind": ""})
    return {"title": "Act", "href": render.path("incidents", found.uid, project=found.project), "buttons": buttons}
