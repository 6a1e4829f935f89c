"""Taking models and versions off the shelf: what an endpoint serves, or may be given, stays.

Rules that hold here:
1. Whoever holds `model.delete` may delete; without it, `model.write` is enough for what only the actor made.
2. A version whose release is on its way or live is not deleted, nor one that a live release would be rolled back to.
3. Deleting erases nothing: row, evidence, moves and blobs stay, and the number is never given out again.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import or_, select

from everline.access.declare import act
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ForbiddenError, InUseError
from everline.models import registry
from everline.models import rows as model_rows
from everline.models.tables import model_version
from everline.releases.states import PENDING, State
from everline.releases.tables import release
from everline.serving.tables import revision

_LIVE = [state.value for state in PENDING | {State.PROMOTED}]


@act
def delete_version(uow: UnitOfWork, project: str, model: str, version: int | str) -> None:
    """Take a version off the shelf, with the aliases that point at it.

    Raises:
        ForbiddenError: somebody else made it, and the actor lacks `model.delete`.
        InUseError: a release of it is on its way or live, or would be gone back to; nothing is changed.
    """
    uow.require(Permission.MODEL_READ, project)
    row = model_rows.find_version(uow, project, model, version, lock=True)
    _require_deletion(uow, project, {row["author"]}, what=f"{model}/{row['version']}")
    _refuse_needed(uow, project, {row["uid"]})
    registry.retire_version(uow, row)


@act
def delete_model(uow: UnitOfWork, project: str, model: str) -> None:
    """Take a model and all its versions off the shelf; its name may be used again.

    Raises:
        ForbiddenError: somebody else made one of its versions, and the actor lacks `model.delete`.
        InUseError: one of its versions may not be deleted; nothing is changed.
    """
    uow.require(Permission.MODEL_READ, project)
    row = model_rows.find_model(uow, project, model)
    kept = model_rows.kept_versions(uow, row["uid"])
    _require_deletion(uow, project, {one.author for one in kept}, what=model)
    _refuse_needed(uow, project, {one.uid for one in kept})
    registry.retire_model(uow, row)


def require_kept(uow: UnitOfWork, version: str) -> None:
    """Hold a version against deletion until this transaction ends; whoever releases it asks first.

    Raises:
        InUseError: it was deleted in between.
    """
    row = uow.conn.execute(select(model_version).where(model_version.c.uid == version).with_for_update()).one()
    if row.deleted:
        raise InUseError("This version was deleted while it was about to be released.", field="version")


def _require_deletion(uow: UnitOfWork, project: str, authors: Collection[str], *, what: str) -> None:
    if uow.actor.may(Permission.MODEL_DELETE, project):
        uow.require(Permission.MODEL_DELETE, project)
        return
    uow.require(Permission.MODEL_WRITE, project)
    if set(authors) - {uow.actor.uid}:
        raise ForbiddenError(
            f"{uow.actor.name} may not delete {what}: others made it, or a part of it, and "
            f"{Permission.MODEL_DELETE.value} is needed for what is not one's own.",
            hint="Ask its author, or somebody with the role approver or admin.",
        )


def _refuse_needed(uow: UnitOfWork, project: str, versions: Collection[str]) -> None:
    """Refuse if an endpoint has, may get, or may go back to one of these versions."""
    back = select(release.c.previous).where(release.c.project == project, release.c.state == State.PROMOTED.value)
    query = (
        select(release.c.uid, release.c.endpoint, release.c.model, release.c.version, release.c.state)
        .outerjoin(revision, revision.c.uid == release.c.revision)
        .where(
            release.c.project == project,
            release.c.model_version.in_(sorted(versions)),
            or_(release.c.state.in_(_LIVE), revision.c.uid.in_(back)),
        )
        .order_by(release.c.uid.desc())
    )
    found = uow.conn.execute(query.limit(1)).first()
    if found is None:
        return
    state = found.state.replace("_", " ")
    why = f"is what endpoint {found.endpoint!r} would go back to" if found.state not in _LIVE else (
        f"has a release to endpoint {found.endpoint!r} that is {state}"
    )  # fmt: skip
    raise InUseError(
        f"{found.model}/{found.version} is not deleted: it {why} (release {found.uid}).",
        hint="Release another version there, or reject this release, then delete.",
        field="version",
    )
