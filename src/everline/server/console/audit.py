"""Pages of the audit log: its state, its events, and the proof that one of them is in it."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from everline.access.types import ALL_PROJECTS, Permission
from everline.errors import IntegrityError, InvalidInputError
from everline.governance import audit, verification
from everline.governance.bundle import verify_proof
from everline.governance.signing import VerifyKey, server_key, server_keys
from everline.governance.tree import merkle
from everline.governance.tree.checkpoint import open_checkpoint
from everline.governance.types import AuditEvent, InclusionProof, LogReport
from everline.server.console import pages
from everline.server.console.view import render
from everline.server.http import Request, begin

routes = pages.console_routes()
EVENTS_PER_PAGE = 50


@routes.get("/audit")
def show_log(request: Request) -> Response:
    """The newest events and the state of the log."""
    return _log(request, report=None)


@routes.post("/audit/verify")
def verify(request: Request) -> Response:
    """Recompute the whole log and show the outcome."""
    pages.form(request)
    with begin(request) as uow:
        report = verification.verify(uow, project=_scope(request))
    return _log(request, report=report)


@routes.post("/audit/consistency")
def check_consistency(request: Request) -> Response:
    """Whether today's log continues the one under a checkpoint that the reader kept, with the proof."""
    note = pages.form(request).get("note", "").replace("\r\n", "\n").lstrip()
    note = note if note.endswith("\n") else note + "\n"
    with begin(request) as uow:
        try:
            kept = open_checkpoint(note, server_keys(uow.settings))
            now = audit.latest_checkpoint(uow, project=_scope(request), fresh=True)
            path = audit.prove_consistency(uow, kept.size, second=now.size, project=_scope(request))
            merkle.verify_consistency(
                kept.size, now.size, path=[bytes.fromhex(one) for one in path], first_root=kept.root,
                second_root=bytes.fromhex(now.root),
            )  # fmt: skip
            found: dict[str, Any] = {"holds": True, "first": kept.size, "second": now.size, "path": path}
        except (IntegrityError, InvalidInputError) as error:
            found = {"holds": False, "why": error.message}
    return _log(request, report=None, continues=found)


@routes.get("/audit/{index:int}")
def show_event(request: Request) -> Response:
    """One event with its inclusion proof."""
    index = int(request.path["index"])
    with begin(request) as uow:
        event, proof = audit.get_event(uow, index), audit.prove(uow, index)
        key = server_key(uow.settings).verify_key
    return pages.page(
        request,
        "event.html",
        title=f"Event {index}",
        section="audit",
        event=event,
        proof=proof,
        holds=_holds(proof, key),
        href=pages.subject_address(event.subject, project=request.project),
    )


def _log(request: Request, *, report: LogReport | None, continues: dict[str, Any] | None = None) -> Response:
    before = request.query("before", int, None)
    given = {name: request.query(name, str, "").strip() for name in ("action", "subject", "actor")}
    with begin(request) as uow:
        events = audit.list_events(
            uow, project=_scope(request), before=before, limit=EVENTS_PER_PAGE + 1, action=given["action"] or None,
            subject=given["subject"] or None, actor=given["actor"] or None,
        )  # fmt: skip
        checkpoint = audit.latest_checkpoint(uow, project=_scope(request))
        size = audit.read_head(uow).size
    shown = events[:EVENTS_PER_PAGE]
    return pages.page(
        request,
        "audit.html",
        title="Audit",
        section="audit",
        events=[_row(event, request.project) for event in shown],
        next=shown[-1].index if len(events) > EVENTS_PER_PAGE else None,
        given=given,
        continues=continues,
        checkpoint=checkpoint,
        head_size=size,
        report=report,
    )


def _holds(proof: InclusionProof, key: VerifyKey) -> bool:
    try:
        verify_proof(proof, key)
    except IntegrityError:
        return False
    return True


def _scope(request: Request) -> str | None:
    """All projects for those who may see all, else the one that is shown."""
    return None if request.actor.may(Permission.AUDIT_READ, ALL_PROJECTS) else request.project


def _row(event: AuditEvent, project: str) -> dict[str, Any]:
    kind, _, name = event.subject.partition(":")
    shown = f"{kind} {render.clip(name, 24)}"
    return msgspec.structs.asdict(event) | {
        "subject_short": shown,
        "href": pages.subject_address(event.subject, project=project),
    }
