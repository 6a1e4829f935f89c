"""REST face of evidence."""

from __future__ import annotations

from typing import Any

import msgspec

from everline.governance import evidence
from everline.governance.types import Evidence
from everline.reproduction import attesting
from everline.server.http import Page, Request, Routes, begin, decode

routes = Routes(tag="evidence")


class Attach(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A fact about a subject."""

    subject: str
    kind: str
    body: dict[str, Any]


@routes.post("/evidence", body=Attach, returns=Evidence, status=201)
def attach(request: Request) -> Evidence:
    """Attach evidence to a subject such as `model-version:<uid>`."""
    body = decode(Attach, request)
    with begin(request) as uow:
        return attesting.attach(uow, subject=body.subject, kind=body.kind, body=body.body, project=request.project)


@routes.get("/evidence", returns=Page[Evidence])
def list_evidence(request: Request) -> Page[Evidence]:
    """List what is known about a subject, the newest first."""
    subject, kind = request.query("subject", str), request.query("kind", str, None)
    with begin(request) as uow:
        found = evidence.list_evidence(uow, subject=subject, project=request.project, kind=kind, limit=request.limit)
    return Page(items=found)
