"""Saved views: looks at the table of runs that people gave a name, for themselves or for their project.

A view is the address of the table after the question mark. Its own is for whoever saved it and needs no more
than the right to look; one for everybody changes what colleagues see, and needs the right to write runs.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, InvalidInputError, NotFoundError, TooLargeError
from everline.ids import new_uid
from everline.runs.tables import saved_view
from everline.runs.types import SavedView

VIEW_NAME_CHARACTERS_MAX = 200
VIEW_QUERY_CHARACTERS_MAX = 30_000
VIEWS_PER_OWNER_MAX = 500
_EVERYBODY = ""


@act
def save_view(uow: UnitOfWork, project: str, name: str, *, query: str, shared: bool = False) -> SavedView:
    """Keep a look at the table of runs under a name; the actor's view of the same name is replaced.

    Args:
        name: 1 to 200 printable characters, unique among the actor's views, or among those of the project.
        query: the address after the question mark, at most 30,000 characters.
        shared: for everybody in the project, which needs the permission to write runs.

    Raises:
        InvalidInputError: the name or the query is out of its limits.
        TooLargeError: there are 500 views already.
    """
    uow.require(Permission.RUN_WRITE if shared else Permission.RUN_READ, project)
    name = _check(name.strip(), query)
    owner = _EVERYBODY if shared else uow.actor.uid
    mine = (saved_view.c.project == project, saved_view.c.owner == owner)
    now = uow.clock.now()
    values: dict[str, Any] = {
        "query": query,
        "author": uow.actor.uid,
        "author_name": uow.actor.name,
        "updated_at": now,
    }
    row = uow.conn.execute(select(saved_view).where(*mine, saved_view.c.name == name)).mappings().first()
    if row is not None:
        uow.conn.execute(update(saved_view).where(saved_view.c.uid == row["uid"]).values(values))
        kept = {**row, **values}
    else:
        count = uow.conn.execute(select(func.count()).select_from(saved_view).where(*mine)).scalar_one()
        if count >= VIEWS_PER_OWNER_MAX:
            raise TooLargeError(
                f"There are {count} saved views already.", hint="Delete some: `everline views delete NAME`."
            )
        kept = {"uid": new_uid(), "project": project, "owner": owner, "name": name, "created_at": now, **values}
        try:
            uow.conn.execute(insert(saved_view).values(kept))
        except IntegrityError:
            raise ConflictError(f"The view {name!r} is being saved by someone else.", hint="Try again.") from None
    uow.record("view.save", subject=f"view:{kept['uid']}", project=project, name=name, shared=shared)
    return _view(kept)


@read
def list_views(uow: UnitOfWork, project: str) -> list[SavedView]:
    """The actor's own views and those of the project, by name, the actor's own first."""
    uow.require(Permission.RUN_READ, project)
    found = uow.conn.execute(_visible(uow, project).order_by(saved_view.c.name, saved_view.c.owner.desc())).mappings()
    return [_view(row) for row in found]


@read
def get_view(uow: UnitOfWork, project: str, view: str) -> SavedView:
    """A view by its uid or name; of two with one name the actor's own.

    Raises:
        NotFoundError: there is none that the actor may see.
    """
    uow.require(Permission.RUN_READ, project)
    return _view(_find(uow, project, view))


@act
def delete_view(uow: UnitOfWork, project: str, view: str) -> None:
    """Delete a view by its uid or name; one of the project needs the permission to write runs."""
    uow.require(Permission.RUN_READ, project)
    row = _find(uow, project, view)
    if row["owner"] == _EVERYBODY:
        uow.require(Permission.RUN_WRITE, project)
    uow.conn.execute(delete(saved_view).where(saved_view.c.uid == row["uid"]))
    uow.record("view.delete", subject=f"view:{row['uid']}", project=project, name=row["name"])


def _visible(uow: UnitOfWork, project: str) -> Select[Any]:
    owner = saved_view.c.owner
    return select(saved_view).where(saved_view.c.project == project, or_(owner == _EVERYBODY, owner == uow.actor.uid))


def _find(uow: UnitOfWork, project: str, view: str) -> Any:
    # No name has a NUL, and PostgreSQL takes no text that has one.
    named = view.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    wanted = or_(saved_view.c.uid == named, saved_view.c.name == named)
    # An actor's uid sorts after the empty text: one's own view comes first.
    found = uow.conn.execute(_visible(uow, project).where(wanted).order_by(saved_view.c.owner.desc())).mappings()
    row = found.first()
    if row is None:
        raise NotFoundError(
            f"There is no view {view[:200]!r} that you may see.", hint="`everline views list` shows them.", field="view"
        )
    return row


def _check(name: str, query: str) -> str:
    if not name or len(name) > VIEW_NAME_CHARACTERS_MAX or not name.isprintable():
        raise InvalidInputError(
            f"A view's name has 1 to {VIEW_NAME_CHARACTERS_MAX} printable characters.", field="name"
        )
    if len(query) > VIEW_QUERY_CHARACTERS_MAX or "\x00" in query:
        raise InvalidInputError(
            f"A view's query has at most {VIEW_QUERY_CHARACTERS_MAX} characters and no NUL.", field="query"
        )
    return name


def _view(row: Any) -> SavedView:
    return SavedView(
        view=row["uid"],
        name=row["name"],
        query=row["query"],
        shared=row["owner"] == _EVERYBODY,
        author=row["author_name"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
