"""Is it up, what is it, and with which public key does it sign."""

from __future__ import annotations

import msgspec
from sqlalchemy import select

import everline
from everline.access import tables
from everline.governance.signing import server_key
from everline.server.http import Request, Routes, begin

routes = Routes(tag="system")
probes = Routes(tag="system", prefix="")
all_routes = [routes, probes]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Readiness: the database answers."""

    status: str
    version: str


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """Who the server takes the caller for, and what it runs on."""

    version: str
    actor: str
    login: bool
    database: str
    public_key: str


@probes.get("/health", returns=Health, public=True)
def health(request: Request) -> Health:
    """Answer 200 when the database answers."""
    with request.app.begin(read_only=True) as uow:
        uow.conn.execute(select(tables.project.c.uid).limit(1)).first()
    return Health(status="ok", version=everline.__version__)


@routes.get("/info", returns=Info)
def info(request: Request) -> Info:
    """Say who is speaking, and to what."""
    with begin(request) as uow:
        database = uow.conn.dialect.name
        key = server_key(request.app.settings)
    return Info(
        version=everline.__version__,
        actor=request.actor.name,
        login=request.app.settings.login,
        database=database,
        public_key=key.public_text,
    )
