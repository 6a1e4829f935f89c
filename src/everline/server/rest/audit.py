"""REST face of the audit log."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

import msgspec
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from everline.access.types import SYSTEM
from everline.clock import parse_rfc3339
from everline.governance import audit, cosigning, rotation, verification
from everline.governance.signing import SigningKey, put_in_place, server_key, server_keys
from everline.governance.types import AuditEvent, CheckpointInfo, InclusionProof, KeyRotation, LogReport
from everline.server.http import Page, Request, Routes, begin, decode

routes = Routes(tag="audit")


class PublicKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that this server signs with."""

    name: str
    public: str
    """C2SP text form, `name+hash+base64`."""
    keyid: str


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """The public keys in use."""

    keys: list[PublicKey]


class Rotate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why the key is changed."""

    reason: str


class Cosigned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A checkpoint with a witness's signature line, and the witness's public key."""

    note: str
    witness: str


class Consistency(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that the log under the newest root continues an older one."""

    first: int
    path: list[str]


@routes.get("/keys", returns=Keys, public=True)
def keys(request: Request) -> Keys:
    """Give the public keys that check our signatures; compare them with a copy that came another way."""
    keys = server_keys(request.app.settings)
    return Keys(keys=[PublicKey(name=key.name, public=key.text, keyid=key.keyid) for key in keys])


@routes.post("/keys/rotate", body=Rotate, returns=KeyRotation, status=201)
def rotate_key(request: Request) -> KeyRotation:
    """Sign with a new key from now on; the event is signed by both, and what the old one signed stays valid."""
    body, settings = decode(Rotate, request), request.app.settings
    new = SigningKey.generate(name=server_key(settings).name)
    with begin(request) as uow:
        found = rotation.record_rotation(uow, new, reason=body.reason)
    with request.app.begin(SYSTEM) as uow:
        audit.checkpoint(uow)  # the last word of the old key covers the event
    put_in_place(settings, new)
    return found


@routes.get("/audit/events", returns=Page[AuditEvent])
def list_events(request: Request) -> Page[AuditEvent]:
    """List audit events, the newest first; `all=true` for every project."""
    with begin(request) as uow:
        events = audit.list_events(
            uow,
            project=None if request.query("all", bool, default=False) else request.project,
            subject=request.query("subject", str, None),
            actor=request.query("actor", str, None),
            action=request.query("action", str, None),
            since=_time(request, "since"),
            until=_time(request, "until"),
            before=request.query("cursor", int, None),
            limit=request.limit,
        )
    more = len(events) == request.limit and events[-1].index > 0
    return Page(items=events, next=str(events[-1].index) if more else None)


@routes.get("/audit/events/{index:int}", returns=AuditEvent)
def get_event(request: Request) -> AuditEvent:
    """Return one event."""
    with begin(request) as uow:
        return audit.get_event(uow, int(request.path["index"]))


@routes.get("/audit/events/{index:int}/proof", returns=InclusionProof)
def prove(request: Request) -> InclusionProof:
    """Prove that an event is in the log, under a signed root."""
    with begin(request) as uow:
        return audit.prove(uow, int(request.path["index"]))


@routes.get("/audit/consistency", returns=Consistency)
def prove_consistency(request: Request) -> Consistency:
    """Prove that today's log, or that of the first `second` events, continues that of the first `first`."""
    first, second = request.query("first", int), request.query("second", int, None)
    with begin(request) as uow:
        path = audit.prove_consistency(uow, first, second=second, project=request.project)
    return Consistency(first=first, path=path)


@routes.get("/audit/checkpoint", returns=CheckpointInfo)
def checkpoint(request: Request) -> CheckpointInfo:
    """Return the newest signed root; `fresh=true` signs one over all events now."""
    with begin(request) as uow:
        fresh = request.query("fresh", bool, default=False)
        return audit.latest_checkpoint(uow, project=request.project, fresh=fresh)


@routes.post("/audit/cosignatures", body=Cosigned, returns=CheckpointInfo, status=201)
def keep_cosigned(request: Request) -> CheckpointInfo:
    """Keep a checkpoint of this log with the signature of a witness; exports carry it from then on."""
    body = decode(Cosigned, request)
    with begin(request) as uow:
        return cosigning.keep_cosigned(uow, body.note, witness=body.witness)


@routes.get("/audit/verify", returns=LogReport)
def verify(request: Request) -> LogReport:
    """Recompute the whole log from its events and hold it against every signature."""
    with begin(request) as uow:
        return verification.verify(uow, project=request.project)


@routes.get("/audit/export")
def export(request: Request) -> Response:
    """Download the whole log as a bundle that is checked offline with the public key alone."""
    with tempfile.NamedTemporaryFile(prefix="everline-audit-", suffix=".zip", delete=False) as file:
        target = Path(file.name)
    try:
        with begin(request) as uow:
            verification.export(uow, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return FileResponse(
        target,
        media_type="application/zip",
        filename="everline-audit.zip",
        background=BackgroundTask(target.unlink, missing_ok=True),
    )


def _time(request: Request, name: str) -> datetime | None:
    text = request.query(name, str, None)
    return parse_rfc3339(text, field=name) if text else None
