"""Pages of endpoints, live, and of single predictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from starlette.responses import Response

from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.clock import parse_rfc3339, rfc3339
from everline.errors import EverlineError
from everline.releases import history as release_history
from everline.releases import plans
from everline.releases.types import Plan
from everline.server.console import models, pages
from everline.server.console.endpoint_changes import canary_of
from everline.server.console.view import charts, render
from everline.server.http import Request, begin, json_response
from everline.serving import explanations, predictions, service
from everline.serving import health as serving_health
from everline.serving.types import Endpoint, Health, HealthSample, Prediction, RevisionHealth, RevisionRole

routes = pages.console_routes()
PREDICTIONS_SHOWN = 12
HISTORY_SHOWN = 20
SAMPLES_MAX = 1500
_CONTRIBUTIONS_SHOWN = 20


@routes.get("/endpoints")
def list_endpoints(request: Request) -> Response:
    """Every endpoint with what answers behind it."""
    project = request.project
    with begin(request) as uow:
        endpoints = service.list_endpoints(uow, project=project)
        replicas = serving_health.list_replicas(uow, project=project)
        now = uow.clock.now()
    rows = []
    for one in endpoints:
        seen = seen_by_replicas(one, replicas, now)
        slowest = max((item.p95_ms for item in seen.values() if item.p95_ms is not None), default=None)
        rows.append(
            {
                "name": one.name,
                "revisions": one.revisions,
                "health": health_of(one, seen),
                "requests": sum(item.requests for item in seen.values()),
                "p95": _ms(slowest),
                "since": max((item.since for item in one.revisions), default=None),
            }
        )
    return pages.page(request, "endpoints.html", title="Endpoints", section="endpoints", endpoints=rows)


@routes.get("/endpoints/{endpoint}")
def show_endpoint(request: Request) -> Response:
    """One endpoint: health, latency, traffic, history, latest predictions."""
    name, project = request.path["endpoint"], request.project
    with begin(request) as uow:
        endpoint = service.get_endpoint(uow, name, project=project)
        seen = seen_by_replicas(endpoint, serving_health.list_replicas(uow, project=project), uow.clock.now())
        samples = serving_health.list_samples(uow, name, project=project, limit=SAMPLES_MAX)
        history = service.traffic_history(uow, name, project=project, limit=HISTORY_SHOWN)
        moment = _moment(request)
        then = release_history.live_at(uow, moment, project=project, endpoint=name) if moment else None
        logged = _logged(uow, name, project)
        plan = plans.get_plan(uow, name, project=project)
    facts = figures_of(seen)
    return pages.page(
        request,
        "endpoint.html",
        title=name,
        section="endpoints",
        endpoint=endpoint,
        health=health_of(endpoint, seen),
        stats=[{"key": key, "label": label, "value": facts[key], "note": note} for key, label, note in _STATS],
        latency=_latency(endpoint, samples),
        rate=_rate(endpoint, samples),
        live=render.path("endpoints", name, "live.json", project=project),
        live_rate=render.path("endpoints", name, "rate.json", project=project),
        slider=_slider(endpoint, plan),
        revisions=[_revision(item, seen.get(item.revision)) for item in endpoint.revisions],
        shares=[
            {"name": f"version {item.version}", "share": item.share}
            for item in endpoint.revisions
            if item.role is not RevisionRole.SHADOW  # it answers nobody
        ],
        history=history,
        moment=moment,
        then=then,
        predictions=[_prediction(one) for one in logged],
    )


@routes.get("/endpoints/{endpoint}/live.json")
def live(request: Request) -> Response:
    """What changes by the second, for the page to refresh itself."""
    name, project = request.path["endpoint"], request.project
    with begin(request) as uow:
        endpoint = service.get_endpoint(uow, name, project=project)
        seen = seen_by_replicas(endpoint, serving_health.list_replicas(uow, project=project), uow.clock.now())
        samples = serving_health.list_samples(uow, name, project=project, limit=SAMPLES_MAX)
    response = json_response({"chart": _latency(endpoint, samples), "facts": figures_of(seen)})
    response.headers.update({**render.HEADERS, "cache-control": "no-store"})
    return response


@routes.get("/endpoints/{endpoint}/rate.json")
def live_rate(request: Request) -> Response:
    """Requests and errors per second, for the page to refresh itself."""
    name, project = request.path["endpoint"], request.project
    with begin(request) as uow:
        endpoint = service.get_endpoint(uow, name, project=project)
        samples = serving_health.list_samples(uow, name, project=project, limit=SAMPLES_MAX)
    response = json_response({"chart": _rate(endpoint, samples)})
    response.headers.update({**render.HEADERS, "cache-control": "no-store"})
    return response


@routes.get("/predictions/{prediction}")
def show_prediction(request: Request) -> Response:
    """One logged answer and everything behind it."""
    with begin(request) as uow:
        found = predictions.get_prediction(uow, request.path["prediction"], project=request.project)
        lineage = models.lineage_of_prediction(uow, found)
        asked = request.query("explain", str, "") == "true"
        why = _why(uow, found) if asked else None
    return pages.page(
        request,
        "prediction.html",
        title=f"Prediction {found.prediction}",
        section="endpoints",
        prediction=found,
        latency=_ms(found.latency_us / 1000),
        lineage=lineage,
        why=why,
    )


def _why(uow: UnitOfWork, prediction: Prediction) -> dict[str, Any]:
    """What each input contributed to an answer, the largest part first; or why that cannot be said."""
    try:
        found = explanations.explain_prediction(uow, prediction.prediction, project=prediction.project)
    except EverlineError as error:
        return {"trouble": f"{error.message} {error.hint or ''}", "chart": None, "method": ""}
    parts = sorted(found["contributions"].items(), key=lambda pair: -abs(pair[1][0]))
    errors = found["standard_errors"]
    shown = parts[:_CONTRIBUTIONS_SHOWN]
    chart = charts.bars(
        "Contributions",
        categories=[f"{name} = {render.value(prediction.inputs.get(name))}" for name, _ in shown],
        series={"contribution": [value[0] for _, value in shown]},
        horizontal=True,
        description="What each input contributed to this answer, the largest part first.",
    )
    unit = "" if found["scale"] == "output" else f", in {found['scale']}"
    base, value = render.number(found["base"][0]), render.number(found["values"][0])
    return {
        "trouble": "",
        "chart": chart | {"size": "tall" if len(shown) > 8 else "short"},
        "sentence": f"{found['output']}{unit}: from {base} ({found['background']}) the inputs lead to {value}.",
        "method": f"SHAP values by {found['method']}" + ("" if errors is None else ", with an error of sampling"),
        "rest": len(parts) - len(shown),
    }


def _moment(request: Request) -> datetime | None:
    """The time that the page is asked about; a form sends it without a zone, and UTC is meant."""
    text = request.query("at", str, "")
    return parse_rfc3339(text, field="at") if text else None


_RATE_SLOT_S = 10.0
_STATS = (
    ("requests", "Requests", "since its start"),
    ("errors", "Errors", "since its start"),
    ("p50", "Latency p50", "last minute"),
    ("p95", "Latency p95", "last minute"),
    ("p99", "Latency p99", "last minute"),
    ("replicas", "Ready", "revisions that answer"),
)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{render.number(value, 3)} ms"


def seen_by_replicas(endpoint: Endpoint, replicas: Sequence[Health], now: datetime) -> Mapping[str, RevisionHealth]:
    """What live replicas say of the endpoint's revisions: counters added up, the worst percentile."""
    merged: dict[str, RevisionHealth] = {}
    for replica in replicas:
        if replica.at is None or now - replica.at > timedelta(seconds=serving_health.SILENT_S):
            continue
        for one in replica.revisions:
            if one.endpoint != endpoint.name:
                continue
            before = merged.get(one.revision)
            merged[one.revision] = one if before is None else _worse(before, one)
    return merged


def _worse(one: RevisionHealth, other: RevisionHealth) -> RevisionHealth:
    return msgspec.structs.replace(
        one,
        requests=one.requests + other.requests,
        errors=one.errors + other.errors,
        ready=one.ready and other.ready,
        reason=one.reason or other.reason,
        p50_ms=max((v for v in (one.p50_ms, other.p50_ms) if v is not None), default=None),
        p95_ms=max((v for v in (one.p95_ms, other.p95_ms) if v is not None), default=None),
        p99_ms=max((v for v in (one.p99_ms, other.p99_ms) if v is not None), default=None),
    )


def health_of(endpoint: Endpoint, seen: Mapping[str, RevisionHealth]) -> dict[str, str]:
    """One word, its tone and one sentence on how the endpoint is."""
    if not endpoint.revisions:
        return {"text": "empty", "tone": "muted", "sentence": "No release has reached this endpoint yet."}
    if not seen:
        return {
            "text": "no data plane",
            "tone": "warn",
            "sentence": "No data plane has reported lately: start one with everline serve.",
        }
    waiting = [one for one in endpoint.revisions if one.revision not in seen or not seen[one.revision].ready]
    if waiting:
        reason = next((seen[one.revision].reason for one in waiting if one.revision in seen), None)
        told = f" {reason}" if reason else ""
        who = " and ".join(f"version {one.version}" for one in waiting) + (" is" if len(waiting) == 1 else " are")
        return {"text": "not ready", "tone": "bad", "sentence": f"{who.capitalize()} not ready yet.{told}"}
    primary = endpoint.revisions[0]
    answer = f"{primary.model}, version {primary.version}, answers {render.percent(primary.share)} of the requests."
    return {"text": "healthy", "tone": "good", "sentence": answer}


def figures_of(seen: Mapping[str, RevisionHealth]) -> dict[str, str]:
    """The figures that the page refreshes: counters added up, the slowest percentile."""

    def worst(name: str) -> str:
        return _ms(max((v for one in seen.values() if (v := getattr(one, name)) is not None), default=None))

    ready = sum(one.ready for one in seen.values())
    return {
        "requests": render.number(sum(one.requests for one in seen.values())),
        "errors": render.number(sum(one.errors for one in seen.values())),
        "p50": worst("p50_ms"),
        "p95": worst("p95_ms"),
        "p99": worst("p99_ms"),
        "replicas": f"{ready} of {len(seen)}",
    }


def _latency(endpoint: Endpoint, samples: Sequence[HealthSample]) -> dict[str, Any]:
    """p50 and p95 of each revision over the last hour; with several replicas the slowest counts."""
    names = {one.revision: f"version {one.version}" for one in endpoint.revisions}
    found: dict[tuple[str, str], dict[str, float | None]] = defaultdict(dict)
    for sample in samples:
        if sample.revision not in names:
            continue
        for label, value in (("p50", sample.p50_ms), ("p95", sample.p95_ms)):
            points = found[sample.revision, label]
            at = rfc3339(sample.at)[:19] + "Z"
            before = points.get(at)
            points[at] = value if before is None or (value is not None and value > before) else before
    lines = [
        charts.series(f"{names[revision]} {label}", list(points.items()), dashed=label == "p95")
        for (revision, label), points in sorted(found.items(), key=lambda item: (names[item[0][0]], item[0][1]))
    ]
    return charts.lines(
        "Latency of the last hour", series=lines, x="time", format="ms", y_min=0,
        description="Median and 95th percentile latency of each revision over the last hour, in milliseconds.",
    )  # fmt: skip


def _rate(endpoint: Endpoint, samples: Sequence[HealthSample]) -> dict[str, Any]:
    """Requests per second of each revision, and errors where there are any; replicas added up."""
    names = {one.revision: f"version {one.version}" for one in endpoint.revisions}
    last: dict[tuple[str, str], HealthSample] = {}
    found: dict[tuple[str, str], dict[str, float | None]] = defaultdict(dict)
    for sample in samples:
        before = last.get((sample.replica, sample.revision))
        last[sample.replica, sample.revision] = sample
        if sample.revision not in names or before is None or sample.requests < before.requests:
            continue
        seconds = (sample.at - before.at).total_seconds()
        if seconds <= 0:
            continue
        at = rfc3339(sample.at)[:18] + "0Z"  # ten seconds together: replicas do not report at the same moment
        for label, grown in (
            ("requests", sample.requests - before.requests), ("errors", sample.errors - before.errors),
        ):  # fmt: skip
            points = found[sample.revision, label]
            points[at] = (points.get(at) or 0.0) + max(grown, 0) / max(seconds, _RATE_SLOT_S)
    lines = [
        charts.series(f"{names[revision]} {label}", list(points.items()), dashed=label == "errors")
        for (revision, label), points in sorted(found.items(), key=lambda item: (names[item[0][0]], item[0][1]))
        if label == "requests" or any(points.values())
    ]
    return charts.lines(
        "Requests per second", series=lines, x="time", format="number", y_min=0,
        description="Requests per second of each revision over the last hour, and those that failed.",
    )  # fmt: skip


def _slider(endpoint: Endpoint, plan: Plan | None) -> dict[str, Any] | None:
    """What the split can be set to: the canary's share now, else that of the releases to come."""
    if not endpoint.revisions:
        return None
    canary = canary_of(endpoint.revisions)
    share = canary.share if canary else (plan or Plan()).canary_share
    return {"percent": round(share * 100, 2), "canary": canary, "most": 99 if canary else 50}


def _revision(item: Any, seen: RevisionHealth | None) -> dict[str, Any]:
    if seen is None:
        ready = {"text": "unknown", "tone": "muted"}
    else:
        ready = {"text": "ready", "tone": "good"} if seen.ready else {"text": seen.reason or "loading", "tone": "bad"}
    counts = {"requests": seen.requests if seen else None, "errors": seen.errors if seen else None}
    return msgspec.structs.asdict(item) | counts | {"ready": ready}


def _logged(uow: UnitOfWork, endpoint: str, project: str) -> list[Prediction]:
    if not uow.actor.may(Permission.PREDICTION_READ, project):
        return []
    return predictions.list_predictions(uow, endpoint, project=project, limit=PREDICTIONS_SHOWN)


def _prediction(one: Prediction) -> dict[str, Any]:
    answer = ", ".join(f"{name} {render.value(value)}" for name, value in one.outputs.items())
    return msgspec.structs.asdict(one) | {"answer": render.clip(answer, 60), "latency": _ms(one.latency_us / 1000)}
