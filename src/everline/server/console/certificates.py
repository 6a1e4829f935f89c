"""Pages of certificates: how far a run or a prediction was reproduced, drawn, and how to check that elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from everline.access.unit_of_work import UnitOfWork
from everline.errors import ForbiddenError, IntegrityError, NotFoundError
from everline.governance.signing import dsse_verify, server_key, server_keys
from everline.models import service as models
from everline.pipelines import service as pipelines
from everline.reproduction import service
from everline.reproduction.statements import PAYLOAD_TYPE
from everline.reproduction.types import Certificate, CertificateDetail
from everline.runs import service as runs
from everline.server.console import pages
from everline.server.console.view import graph, ladder, render, waterfall
from everline.server.http import Request, begin

routes = pages.console_routes()
PER_PAGE = 50
_EQUAL = {"bits": ("good", "same bits"), "tolerance": ("warn", "within tolerance"), "no": ("bad", "differs"),
          "missing": ("bad", "not reached")}  # fmt: skip
_TONES = {
    "identical": "good",
    "equivalent": "warn",
    "diverged": "bad",
    "unverifiable": "bad",
    "explained": "good",
    "no change": "good",
    "within noise": "warn",
    "not comparable": "bad",
    "better": "good",
    "worse": "bad",
}


@routes.get("/certificates")
def list_certificates(request: Request) -> Response:
    """Every certificate, the newest first."""
    before = request.query("before", str, None)
    with begin(request) as uow:
        found = service.list_certificates(uow, request.project, limit=PER_PAGE + 1, before=before)
    shown = found[:PER_PAGE]
    older = render.path("certificates", project=request.project, before=shown[-1].uid) if shown else None
    return pages.page(
        request,
        "certificates.html",
        title="Certificates",
        section="runs",
        certificates=[row(one) for one in shown],
        older=older if len(found) > PER_PAGE else None,
    )


@routes.get("/certificates/{uid}")
def show_certificate(request: Request) -> Response:
    """One certificate: the ladder, the steps, the first difference, the signature."""
    with begin(request) as uow:
        detail = service.get_certificate(uow, request.project, request.path["uid"])
        name, needs = _subject(uow, request.project, detail.certificate)
    one = detail.certificate
    predicate = detail.statement.get("predicate") or {}
    facts = predicate.get("everline") or {}
    rungs = ladder.rungs(predicate)
    steps = [_step(item) for item in facts.get("steps") or []] if rungs else []
    key = server_key(request.app.settings)
    return pages.page(
        request,
        "certificate.html",
        title=f"Certificate of {name}",
        section="runs",
        certificate=one,
        name=name,
        subject_href=pages.subject_address(one.subject, project=request.project),
        tone=_TONES.get(one.verdict, "muted"),
        rungs=rungs,
        facts=facts,
        bars=waterfall.bars(facts),
        failed=sum(one.get("problem") is not None for one in facts.get("runs") or []),
        sentence=_sentence(str(facts.get("reason") or "")),
        first=facts.get("firstDifference"),
        steps=steps,
        # A script has no steps: its results stand alone, and a picture of boxes would say no more than the table.
        drawing=_drawing(steps, needs) if needs and steps else None,
        signed=_signed(detail, request),
        keyid=next((entry.get("keyid") for entry in detail.envelope.get("signatures") or []), None),
        public=key.public_text,
        statement=render.pretty(detail.statement),
        file=_file_name(one),
        rebuilds=[(uid, render.path("runs", uid, project=request.project)) for uid in facts.get("rebuilds") or []],
    )


@routes.get("/certificates/{uid}/envelope")
def download_envelope(request: Request) -> Response:
    """The signed envelope, to be checked elsewhere."""
    with begin(request) as uow:
        detail = service.get_certificate(uow, request.project, request.path["uid"])
    name = _file_name(detail.certificate)
    headers = {**render.HEADERS, "content-disposition": f'attachment; filename="{name}"'}
    text = render.as_json(detail.envelope) + "\n"
    return Response(text, media_type="application/vnd.dsse.envelope.v1+json", headers=headers)


def of_subject(uow: UnitOfWork, project: str, subject: str, *, limit: int = 5) -> list[dict[str, Any]]:
    """The newest certificates of a run or prediction as rows of a list; none for who may not see them."""
    try:
        return [row(one) for one in service.list_certificates(uow, project, subject=subject, limit=limit)]
    except ForbiddenError:
        return []


def row(one: Certificate) -> dict[str, Any]:
    """A certificate as a list shows it."""
    kind, _, name = one.subject.partition(":")
    return {
        "uid": one.uid,
        "kind": one.kind,
        "subject": f"{kind} {render.short(name)}",
        "level": one.level,
        "verdict": one.verdict,
        "tone": _TONES.get(one.verdict, "muted"),
        "at": one.created_at,
        "by": one.created_by,
    }


def _subject(uow: UnitOfWork, project: str, one: Certificate) -> tuple[str, dict[str, Sequence[str]]]:
    """What was certified, and which step of a run needs which."""
    kind, _, uid = one.subject.partition(":")
    if kind == "model-version":
        try:
            version = models.get_version_by_uid(uow, uid)
        except (NotFoundError, ForbiddenError):
            return f"model version {render.short(uid)}", {}
        return f"{version.model} {version.version}", {}
    if kind != "run":
        return f"{kind} {render.short(uid)}", {}
    try:
        return runs.get_run(uow, project, uid).name, {
            step.name: step.needs for step in pipelines.list_steps(uow, project, uid)
        }
    except (NotFoundError, ForbiddenError):
        return f"run {render.short(uid)}", {}


def _file_name(one: Certificate) -> str:
    return f"certificate-{one.uid[-12:]}.json"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _step(one: Mapping[str, Any]) -> dict[str, Any]:
    equal = str(one.get("equal"))
    tone, word = _EQUAL.get(equal, ("muted", equal))
    recorded, rebuilt = list(one.get("recorded") or ()), list(one.get("rebuilt") or ())
    outputs = [
        (recorded[at] if at < len(recorded) else None, rebuilt[at] if at < len(rebuilt) else None)
        for at in range(max(len(recorded), len(rebuilt)))
    ]
    return {
        "name": str(one.get("name")),
        "tone": tone,
        "word": word,
        "difference": one.get("difference"),
        "outputs": outputs,
    }


def _drawing(
    steps: Sequence[Mapping[str, Any]], needs: Mapping[str, Sequence[str]]
) -> tuple[graph.Drawing, graph.Drawing]:
    nodes = [graph.Node(key=one["name"], title=one["name"], note=one["word"], tone=one["tone"]) for one in steps]
    return graph.both(nodes, [(need, name) for name, all_needs in needs.items() for need in all_needs])


def _signed(detail: CertificateDetail, request: Request) -> dict[str, str]:
    try:
        dsse_verify(detail.envelope, server_keys(request.app.settings), payload_type=PAYLOAD_TYPE)
    except IntegrityError as error:
        return {"text": "signature not verified", "tone": "bad", "why": error.message}
    return {"text": "signature verified", "tone": "good", "why": ""}
