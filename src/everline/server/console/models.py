"""Pages of models: the list, one model, one version with lineage, evaluation and card."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from everline.access.unit_of_work import UnitOfWork
from everline.errors import EverlineError
from everline.governance import evidence
from everline.governance.types import Evidence
from everline.models import card as cards
from everline.models import contents, registry, service
from everline.models.types import LineageNode, ModelVersion, TrackedVersion
from everline.releases import service as releases
from everline.releases.types import Release
from everline.runs import service as runs
from everline.server.console import files, pages
from everline.server.console.view import charts, graph, markdown, metrics, render
from everline.server.http import Request, begin
from everline.serving import service as serving
from everline.serving.types import Endpoint, Prediction

routes = pages.console_routes()
LIST_MAX = 200
VERSIONS_PER_PAGE = 25
_COLUMNS_MAX = 4
_SLICES_MAX = 40
_SLICE_ROWS_MIN = 30
_DATASET_NODES_MAX = 3
"""More versions of one dataset than this are drawn as one box."""
_SHOWN_BESIDE_CARD = {"Evaluation", "Inputs and outputs", "Provenance", "Missing"}
_HEADLINE = ("auc", "log_loss", "calibration_error", "error_rate")


@routes.get("/models")
def list_models(request: Request) -> Response:
    """Every registered model and where it is live."""
    project = request.project
    with begin(request) as uow:
        found, _ = registry.search_models(uow, project, limit=LIST_MAX)
        endpoints = serving.list_endpoints(uow, project=project)
    live: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for endpoint in endpoints:
        for one in endpoint.revisions:
            live[one.model].append({"endpoint": endpoint.name, "version": one.version})
    rows = [msgspec.structs.asdict(one) | {"live": live[one.name]} for one in found]
    return pages.page(request, "models.html", title="Models", section="models", models=rows)


@routes.get("/models/{model}")
def show_model(request: Request) -> Response:
    """One model: its versions, the newest first, its aliases now and at any moment, and where it is live."""
    project, name = request.project, request.path["model"]
    number = max(0, min(request.query("page", int, 0), 10_000))
    with begin(request) as uow:
        model = registry.get_model(uow, project, name)
        versions, after = registry.search_versions(
            uow,
            project,
            filter=f"name = '{model.name}'",
            order_by=["version_number DESC"],
            limit=VERSIONS_PER_PAGE,
            offset=number * VERSIONS_PER_PAGE,
        )
        released = releases.list_releases(uow, project=project, limit=LIST_MAX)
        endpoints = serving.list_endpoints(uow, project=project)
        measured = {one.uid: _measured(uow, one) for one in versions}
    counts = Counter(key for found in measured.values() for key in found)
    live = _live_at(endpoints, model.name)
    return pages.page(
        request,
        "model.html",
        title=name,
        section="models",
        model=model,
        description=markdown.document(model.description),
        live=live,
        metric_keys=sorted(counts, key=lambda key: (metrics.rank(key), -counts[key], key))[:_COLUMNS_MAX],
        versions=[
            {
                "version": one,
                "metrics": measured[one.uid],
                "live": [place for place in live if place["version"] == one.version],
                "releases": [item for item in released if item.model_version == one.uid],
            }
            for one in versions
        ],
        before=render.path("models", name, project=project, page=number - 1 or None) if number else None,
        after=render.path("models", name, project=project, page=number + 1) if after else None,
    )


@routes.post("/models/{model}/description")
def describe_model(request: Request) -> Response:
    """Describe a model, in Markdown."""
    given = pages.form(request)
    name = request.path["model"]
    with begin(request) as uow:
        text = given.get("description", "").replace("\r\n", "\n")
        registry.update_model(uow, request.project, name, description=text)
    return pages.redirect(render.path("models", name, project=request.project))


def _live_at(endpoints: Iterable[Endpoint], model: str) -> list[dict[str, Any]]:
    """The endpoints that a model answers at, with the share of each of its versions."""
    return [
        {"endpoint": endpoint.name, "version": one.version, "share": one.share, "role": one.role}
        for endpoint in endpoints
        for one in endpoint.revisions
        if one.model == model
    ]


def _measured(uow: UnitOfWork, version: ModelVersion) -> Mapping[str, float]:
    """The metrics of a version's newest evaluation; without one, the newest of the run that made it."""
    attached = evidence.list_evidence(uow, subject=version.subject, project=version.project)
    body = next(
        (one.body for one in sorted(attached, key=lambda one: one.uid, reverse=True) if one.kind == "evaluation"), None
    )
    if body is not None:
        return {key: value for key, value in (body.get("metrics") or {}).items() if isinstance(value, int | float)}
    if version.run is None:
        return {}
    try:
        run = runs.get_run(uow, version.project, version.run)
    except EverlineError:
        return {}  # a client may name a run of another server
    return {
        key: value for key, value in run.metrics.items() if value is not None and not key.startswith(metrics.SYSTEM)
    }


@routes.get("/models/{model}/{version}")
def show_version(request: Request) -> Response:
    """One version: what it was made of, how good it is, where it went."""
    project = request.project
    with begin(request) as uow:
        version = service.get_version(uow, project, request.path["model"], request.path["version"])
        attached = evidence.list_evidence(uow, subject=version.subject, project=project)
        released = _releases_of(uow, version)
        lineage = _lineage(uow, version, released)
        card = cards.show_card(uow, version.uid) if version.package else None
        package_files = service.package_files(uow, project, version.package) if version.package else []
        others, _ = registry.search_versions(uow, project, filter=f"name = '{version.model}'", limit=LIST_MAX)
    labels = {one.package: f"version {one.version}" for one in others if one.package}
    newest = _newest(attached)
    return pages.page(
        request,
        "version.html",
        title=f"{version.model}, version {version.version}",
        section="models",
        version=version,
        description=markdown.document(version.description),
        package_files=package_files,
        browse=_place(version).root is not None,
        lineage=lineage,
        evaluation=_evaluation(newest.get("evaluation")),
        comparisons=[_comparison(one.body, labels) for one in attached if one.kind == "comparison"][:3],
        card=card,
        card_blocks=_card_blocks(card.text) if card else [],
        signature=_signature(newest.get("signature")),
        releases=[{"release": one.uid, "state": one.state, "endpoint": one.endpoint} for one in released],
        evidence=[
            {"kind": one.kind, "said": _said(one), "at": one.at, "href": _certificate(one, project)}
            for one in newest.values()
        ],
        signature_fields=_fields(version.model_signature),
    )


@routes.get("/models/{model}/{version}/files")
def show_files(request: Request) -> Response:
    """The files of a version that a client registered from a folder, with a preview of the one at `?path=`."""
    version = _version(request)
    with begin(request) as uow:
        found = files.look(uow, request.project, _place(version), path=request.query("path", str, ""))
    return pages.page(
        request,
        "version_files.html",
        title=f"{version.model}, version {version.version}",
        section="models",
        version=version,
        browser=files.view(request, _place(version), found),
    )


@routes.get("/models/{model}/{version}/files/content")
def download_file(request: Request) -> Response:
    """The file at `?path=`, to be saved."""
    return files.download(request, _place(_version(request)))


@routes.get("/models/{model}/{version}/files/image")
def show_image(request: Request) -> Response:
    """The picture at `?path=`."""
    return files.image(request, _place(_version(request)))


def _version(request: Request) -> TrackedVersion:
    with begin(request) as uow:
        return service.get_version(uow, request.project, request.path["model"], request.path["version"])


def _place(version: TrackedVersion) -> files.Place:
    root = version.storage or version.source or ""
    if version.contents is not None:
        root = contents.SCHEME + version.uid
    return files.place(root, "models", version.model, str(version.version), "files")


def _card_blocks(text: str) -> list[markdown.Block]:
    """The sections of a card that the page does not show already."""
    shown, heading = [], ""
    for block in markdown.blocks(text):
        heading = block.text if block.kind == "heading" else heading
        if heading not in _SHOWN_BESIDE_CARD:
            shown.append(block)
    return shown


def lineage_of_prediction(uow: UnitOfWork, one: Prediction) -> tuple[graph.Drawing, graph.Drawing]:
    """From data to this answer."""
    version = service.get_version(uow, one.project, one.model, one.version)
    nodes, edges = _made_of(uow, version)
    release = releases.get(uow, one.release)
    nodes += [
        _release_node(release),
        graph.Node(key="prediction", title=f"…{one.prediction[-12:]}", note="prediction", tone="info", here=True),
    ]
    edges += [(version.subject, release.subject), (release.subject, "prediction")]
    return graph.both(nodes, edges)


def _releases_of(uow: UnitOfWork, version: ModelVersion) -> list[Release]:
    found = releases.list_releases(uow, project=version.project, limit=LIST_MAX)
    return [one for one in found if one.model_version == version.uid]


def _lineage(
    uow: UnitOfWork, version: ModelVersion, released: Sequence[Release]
) -> tuple[graph.Drawing, graph.Drawing]:
    nodes, edges = _made_of(uow, version, here=True)
    for one in released:
        nodes.append(_release_node(one))
        edges.append((version.subject, one.subject))
        if one.revision is None:
            continue
        target = f"endpoint:{one.endpoint}"
        edges.append((one.subject, target))
        if all(node.key != target for node in nodes):
            shown = serving.get_endpoint(uow, one.endpoint, project=one.project)
            share = sum(item.share for item in shown.revisions if item.model_version == version.uid)
            nodes.append(
                graph.Node(
                    key=target,
                    title=one.endpoint,
                    note=f"endpoint, {render.percent(share)} here",
                    href=render.path("endpoints", one.endpoint, project=one.project),
                    tone="good" if share else "muted",
                )
            )
    return graph.both(nodes, edges)


def _made_of(
    uow: UnitOfWork, version: ModelVersion, *, here: bool = False
) -> tuple[list[graph.Node], list[tuple[str, str]]]:
    found = service.lineage(uow, version.uid)
    counts = Counter(str(one.facts.get("name")) for one in found.nodes if one.kind == "dataset-version")
    nodes: dict[str, graph.Node] = {}
    keys: dict[str, str] = {}
    for one in found.nodes:
        node = _node(one, version, here=here)
        name = str(one.facts.get("name"))
        if one.kind == "dataset-version" and counts[name] > _DATASET_NODES_MAX:
            href = render.path("datasets", name, project=version.project)
            node = graph.Node(key=f"dataset:{name}", title=name, note=f"{counts[name]} dataset versions", href=href)
        nodes[node.key], keys[one.id] = node, node.key
    return list(nodes.values()), [(keys[edge.source], keys[edge.target]) for edge in found.edges]


def _node(one: LineageNode, version: ModelVersion, *, here: bool) -> graph.Node:
    facts, project = one.facts, version.project
    href, title, note, tone = None, one.label, one.kind.replace("-", " "), "muted"
    if one.kind == "dataset-version" and facts.get("version") is not None:
        href = render.path("datasets", facts["name"], facts["version"], project=project)
        title, note = str(facts["name"]), f"dataset version {facts['version']}"
    elif one.kind == "run":
        href, tone = render.path("runs", one.id.removeprefix("run:"), project=project), render.tone(facts.get("status"))
        note = f"run, {facts.get('status')}"
    elif one.kind == "model-version":
        href, tone = render.path("models", version.model, version.version, project=project), "info"
        title, note = f"version {version.version}", version.model
    here = here and one.kind == "model-version"
    return graph.Node(key=one.id, title=title, note=note, href=href, tone=tone, here=here)


def _release_node(one: Release) -> graph.Node:
    return graph.Node(
        key=one.subject,
        title=f"release {one.uid[-8:]}",
        note=render.words(one.state),
        href=render.path("releases", one.uid, project=one.project),
        tone=render.tone(one.state),
    )


def _newest(attached: Iterable[Evidence]) -> dict[str, Evidence]:
    newest: dict[str, Evidence] = {}
    for one in sorted(attached, key=lambda item: item.uid):
        newest[one.kind] = one
    return newest


def _evaluation(found: Evidence | None) -> dict[str, Any] | None:
    if found is None:
        return None
    body = found.body
    values = {key: value for key, value in (body.get("metrics") or {}).items() if isinstance(value, int | float)}
    return {
        "headline": [(render.words(key), values[key]) for key in _HEADLINE if key in values],
        "metrics": {key: value for key, value in values.items() if key not in _HEADLINE},
        "n": body.get("n"),
        "dataset": body.get("dataset") or "an unnamed dataset",
        "charts": _slice_charts(body.get("slices") or [], values),
    }


def _slice_charts(slices: Sequence[Mapping[str, Any]], overall: Mapping[str, float]) -> list[dict[str, Any]]:
    """One chart per sliced column: the error rate of each value beside that of all rows."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in slices:
        if one.get("n", 0) >= _SLICE_ROWS_MIN and "error_rate" in (one.get("metrics") or {}):
            groups[str(one.get("by"))].append(one)
    made = []
    for column, members in sorted(groups.items()):
        shown = sorted(members, key=lambda one: -one["metrics"]["error_rate"])[:_SLICES_MAX]
        limits = [{"name": "all rows", "y": overall["error_rate"]}] if "error_rate" in overall else []
        chart = charts.bars(
            f"Error rate by {column}",
            categories=[f"{one.get('value')} ({render.number(one['n'])})" for one in shown],
            series={"error rate": [one["metrics"]["error_rate"] for one in shown]},
            horizontal=True,
            format="percent",
            y_min=0,
            limits=limits,
            description=f"Error rate for each {column} with at least {_SLICE_ROWS_MIN} rows, beside that of all rows.",
        )
        made.append(chart | {"size": "tall" if len(shown) > 8 else "short"})
    return made


def _comparison(body: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    verdict, champion = str(body.get("verdict") or "compared"), str(body.get("champion") or "")
    metric = render.words(body.get("metric"))
    level = render.percent(body.get("level"), 0)
    numbers = ("n", "challenger_value", "champion_value", "difference", "low", "high")
    shown = {key: render.number(body.get(key)) for key in numbers}
    return {
        "champion": labels.get(champion) or render.value(champion),
        "verdict": verdict,
        "tone": {"better": "good", "worse": "bad"}.get(verdict, "muted"),
        "sentence": (
            f"On the same {shown['n']} rows, {metric} is {shown['challenger_value']} where the champion has "
            f"{shown['champion_value']}: a difference of {shown['difference']}, {level} interval {shown['low']} to "
            f"{shown['high']}."
        ),
    }


def _signature(found: Evidence | None) -> dict[str, str] | None:
    if found is None:
        return None
    good = bool(found.body.get("verified"))
    return {"text": "signature verified" if good else "signature broken", "tone": "good" if good else "bad"}


def _said(one: Evidence) -> str:
    """The few words of a piece of evidence that a list shows."""
    body = one.body
    if one.kind == "evaluation":
        auc = (body.get("metrics") or {}).get("auc")
        return f"{render.number(body.get('n'))} rows" + (f", AUC {render.number(auc)}" if auc is not None else "")
    if one.kind == "comparison":
        return f"{render.words(body.get('metric'))} difference {render.number(body.get('difference'))}"
    if one.kind == "lineage":
        kept = [key.removesuffix("_recorded") for key, value in body.items() if key.endswith("_recorded") and value]
        return "recorded: " + (", ".join(kept) or "nothing")
    if one.kind == "signature":
        return "verified" if body.get("verified") else str(body.get("problem") or "not verified")
    if one.kind == "reproduction":
        return f"{body.get('level')}: {body.get('verdict')}"
    if one.kind == "explanation":
        return f"{render.words(body.get('metric'))} moved by {render.number(body.get('change'))}: {body.get('finding')}"
    if one.kind == "card":
        return "complete" if body.get("complete") else f"missing: {', '.join(body.get('missing') or [])}"
    return render.clip(render.as_json(body), 80)


def _certificate(one: Evidence, project: str) -> str | None:
    uid = one.body.get("certificate")
    return render.path("certificates", uid, project=project) if isinstance(uid, str) else None


def _fields(signature: Mapping[str, Any] | None) -> list[dict[str, str]]:
    if not signature:
        return []
    rows = [{"name": one["name"], "type": one["type"], "note": _range(one)} for one in signature.get("inputs") or []]
    outputs = signature.get("outputs") or []
    return rows + [{"name": one["name"], "type": one["type"], "note": "output"} for one in outputs]


def _range(field: Mapping[str, Any]) -> str:
    if field.get("categories"):
        return f"{len(field['categories'])} categories"
    if field.get("min") is not None and field.get("max") is not None:
        return f"{render.number(field['min'])} to {render.number(field['max'])}"
    return ""
