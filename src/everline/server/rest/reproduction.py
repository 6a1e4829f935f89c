"""REST face of reproduction: preparation, comparison, certificates."""

from __future__ import annotations

from everline.reproduction import service
from everline.reproduction.types import (
    Certificate,
    CertificateDetail,
    CertifyReplay,
    CertifyReproduction,
    Preparation,
    Replay,
    Reproduction,
)
from everline.server.http import Page, Request, Routes, begin, decode

routes = Routes(tag="reproduction")


@routes.get("/runs/{run}/preparation", returns=Preparation)
def prepare(request: Request) -> Preparation:
    """Look whether a run can be rebuilt: every byte of its record is read again."""
    with begin(request) as uow:
        return service.prepare(uow, request.project, request.path["run"])


@routes.post("/reproductions", body=CertifyReproduction, returns=Reproduction, status=201)
def certify(request: Request) -> Reproduction:
    """Compare a run with its rebuilds, sign what was found, and attach it as evidence."""
    body = decode(CertifyReproduction, request)
    # Compared before the transaction that writes: results may be large, and the lock is everybody's.
    with request.app.begin(request.actor, read_only=True) as uow:
        report = service.compare(
            uow, request.project, body.run, rebuilds=body.rebuilds, failure=body.failure, cause=body.cause,
            repeats=body.repeats,
        )  # fmt: skip
    if not body.certify:
        return report
    with begin(request) as uow:
        return service.certify(uow, request.project, report)


@routes.post("/replays", body=CertifyReplay, returns=Replay, status=201)
def certify_replay(request: Request) -> Replay:
    """Hold a replay against the prediction log, sign it, and attach it as evidence."""
    body = decode(CertifyReplay, request)
    with begin(request) as uow:
        return service.certify_replay(uow, request.project, body.replay)


@routes.get("/certificates", returns=Page[Certificate])
def list_certificates(request: Request) -> Page[Certificate]:
    """List certificates, newest first; those of one subject, such as `run:…`, if `subject` is given."""
    with begin(request) as uow:
        items = service.list_certificates(
            uow,
            request.project,
            subject=request.query("subject", str, None),
            limit=request.limit,
            before=request.query("cursor", str, None),
        )
    return Page(items=items, next=items[-1].uid if len(items) == request.limit else None)


@routes.get("/certificates/{uid}", returns=CertificateDetail)
def get_certificate(request: Request) -> CertificateDetail:
    """Show a certificate with its signed envelope."""
    with begin(request) as uow:
        return service.get_certificate(uow, request.project, request.path["uid"])
