"""Aliases: names that point at versions, and every move that they made.

Rules of this module:
1. What an alias points at changes in `point` and nowhere else: with its move, its audit event, in one transaction.
2. An alias is free, and people move it; or it follows an endpoint, and only that endpoint's releases do.
3. Moves are kept for good, also when the version, the alias or the model is gone: "what was @champion on 3 March"
   keeps its answer, and the audit log has the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InUseError, InvalidInputError, NotFoundError
from everline.ids import new_uid
from everline.models import rows
from everline.models.tables import alias_follow, alias_move, model, model_alias
from everline.models.types import AliasMove
from everline.models.words import check_alias
from everline.storage.db import upsert


@act
def set_alias(uow: UnitOfWork, project: str, name: str, *, alias: str, version: int | str) -> None:
    """Point a free alias at a version, from wherever it pointed; it releases nothing.

    Raises:
        InUseError: the alias follows an endpoint.
    """
    uow.require(Permission.MODEL_WRITE, project)
    check_alias(alias)
    row = rows.find_version(uow, project, name, version)
    _require_free(uow, row["model"], name, alias)
    point(uow, rows.find_model(uow, project, name), alias, version=row["version"])


@act
def delete_alias(uow: UnitOfWork, project: str, name: str, *, alias: str) -> None:
    """Remove a free alias; one that is not there is no error.

    Raises:
        InUseError: the alias follows an endpoint.
    """
    uow.require(Permission.MODEL_WRITE, project)
    check_alias(alias, reserved=True)
    owner = rows.find_model(uow, project, name)
    _require_free(uow, owner["uid"], name, alias)
    point(uow, owner, alias, version=None)


@read
def alias_at(uow: UnitOfWork, project: str, name: str, *, alias: str, at: datetime | None = None) -> AliasMove:
    """Where an alias pointed at a moment, since when, and who put it there; None means now.

    Args:
        at: by the control plane's clock, with a time zone, not in the future.

    Raises:
        NotFoundError: it pointed at nothing.
    """
    uow.require(Permission.MODEL_READ, project)
    owner = rows.find_model(uow, project, name)
    alias = _bare(alias)
    moment = _check_moment(uow, at)
    found = _moves(uow, owner, alias)
    held = next((move for move in found if move.at <= moment), None)
    if held is None or held.version is None:
        raise NotFoundError(
            f"The alias @{alias} of {name} pointed at nothing at {moment.isoformat(timespec='seconds')}.",
            hint=f"`everline models alias {name} @{alias}` shows its moves.",
            field="alias",
        )
    return held


@read
def list_moves(uow: UnitOfWork, project: str, name: str, *, alias: str, limit: int = 100) -> list[AliasMove]:
    """The moves of an alias, the newest first; `limit` is 1 to `page_items_max`."""
    uow.require(Permission.MODEL_READ, project)
    owner = rows.find_model(uow, project, name)
    return _moves(uow, owner, _bare(alias))[: max(1, min(limit, uow.settings.page_items_max))]


def point(uow: UnitOfWork, owner: rows.Row, alias: str, *, version: int | None, release: str | None = None) -> None:
    """Let an alias point at a version, or at nothing; asks for no permission and records the audit event.

    Args:
        release: the release that moves it, or None if a person does.
    """
    mine = (model_alias.c.model == owner["uid"], model_alias.c.alias == alias)
    previous = uow.conn.execute(select(model_alias.c.version).where(*mine)).scalar()
    if version is None:
        uow.conn.execute(model_alias.delete().where(*mine))
    else:
        values = {"model": owner["uid"], "alias": alias, "version": version}
        upsert(uow.conn, model_alias, [values], keys=["model", "alias"], update=["version"])
    if version != previous:
        who = {"actor": uow.actor.uid, "actor_name": uow.actor.name, "release": release}
        move = {"uid": new_uid(), "model": owner["uid"], "alias": alias, "version": version, "at": uow.clock.now()}
        uow.conn.execute(insert(alias_move).values(**move, **who))
    uow.record(
        "model.unalias" if version is None else "model.alias",
        subject=f"model:{owner['uid']}",
        project=owner["project"],
        model=owner["name"],
        alias=alias,
        version=version,
        previous=previous,
        release=release,
    )


def unpoint_version(uow: UnitOfWork, owner: rows.Row, version: int | None = None) -> None:
    """Remove the aliases of a version that goes off the shelf, or all of a model's; asks for no permission."""
    query = select(model_alias.c.alias).where(model_alias.c.model == owner["uid"])
    if version is not None:
        query = query.where(model_alias.c.version == version)
    for alias in uow.conn.execute(query.order_by(model_alias.c.alias)).scalars().all():
        point(uow, owner, alias, version=None)


def start_following(uow: UnitOfWork, owner: rows.Row, alias: str, *, endpoint: str) -> None:
    """Hand an alias over to an endpoint's releases; asks for no permission, and records the audit event."""
    values = {"model": owner["uid"], "alias": alias, "project": owner["project"], "endpoint": endpoint}
    upsert(uow.conn, alias_follow, [values], keys=["model", "alias"], update=["endpoint"])
    uow.record(
        "model.follow",
        subject=f"model:{owner['uid']}",
        project=owner["project"],
        model=owner["name"],
        alias=alias,
        endpoint=endpoint,
    )


@act
def stop_following(uow: UnitOfWork, project: str, name: str, *, alias: str) -> None:
    """Free an alias: it stays where it points, and people move it again.

    Raises:
        NotFoundError: it follows nothing.
    """
    uow.require(Permission.MODEL_WRITE, project)
    owner, alias = rows.find_model(uow, project, name), _bare(alias)
    endpoint = _followed(uow, owner["uid"], alias)
    if endpoint is None:
        raise NotFoundError(f"The alias @{alias} of {name} follows no endpoint.", field="alias")
    mine = (alias_follow.c.model == owner["uid"], alias_follow.c.alias == alias)
    uow.conn.execute(alias_follow.delete().where(*mine))
    uow.record(
        "model.unfollow", subject=f"model:{owner['uid']}", project=project, model=name, alias=alias, endpoint=endpoint
    )


def followers(uow: UnitOfWork, project: str, endpoint: str) -> Sequence[Row[Any, Any]]:
    """The aliases that follow an endpoint, with their model's uid; asks for no permission."""
    query = (
        select(alias_follow.c.alias, alias_follow.c.model)
        .join(model, model.c.uid == alias_follow.c.model)
        .where(alias_follow.c.project == project, alias_follow.c.endpoint == endpoint, model.c.retired == "")
        .order_by(alias_follow.c.model, alias_follow.c.alias)
    )
    return uow.conn.execute(query).all()


def _followed(uow: UnitOfWork, owner: str, alias: str) -> str | None:
    mine = (alias_follow.c.model == owner, alias_follow.c.alias == alias)
    return uow.conn.execute(select(alias_follow.c.endpoint).where(*mine)).scalar()


def _require_free(uow: UnitOfWork, owner: str, name: str, alias: str) -> None:
    endpoint = _followed(uow, owner, alias)
    if endpoint is not None:
        raise InUseError(
            f"The alias @{alias} of {name} follows the endpoint {endpoint!r}: its releases move it, people do not.",
            hint=f"Release another version there, or `everline models unfollow {name} @{alias}` first.",
            field="alias",
        )


def _moves(uow: UnitOfWork, owner: rows.Row, alias: str) -> list[AliasMove]:
    """All moves of an alias, the newest first."""
    mine = (alias_move.c.model == owner["uid"], alias_move.c.alias == alias)
    found = uow.conn.execute(select(alias_move).where(*mine).order_by(alias_move.c.uid.desc())).all()
    ends = [None, *(row.at for row in found)]
    return [
        AliasMove(
            model=owner["name"],
            alias=alias,
            version=row.version,
            at=row.at,
            until=until,
            actor=row.actor,
            actor_name=row.actor_name,
            release=row.release,
        )
        for row, until in zip(found, ends, strict=False)
    ]


def _bare(alias: str) -> str:
    return check_alias(alias.removeprefix("@"), reserved=True)


def _check_moment(uow: UnitOfWork, at: datetime | None) -> datetime:
    now = uow.clock.now()
    if at is None:
        return now
    if at.tzinfo is None:
        raise InvalidInputError("The time has no zone.", hint="Write it like 2026-06-01T05:00:00Z.", field="at")
    if at > now:
        raise InvalidInputError(
            f"{at.isoformat()} is in the future.", hint="Ask for a moment that has passed.", field="at"
        )
    return at
