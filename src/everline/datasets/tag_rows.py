"""Tags as they lie in tables: those of some datasets or versions, and the condition that one has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Column, ColumnElement, Table, exists, select

from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError

WANTED_MAX = 20
"""Tags that one list may ask for."""


def tagged(table: Table, owner: Column[str], uid: Column[str], wanted: Sequence[str]) -> list[ColumnElement[bool]]:
    """The conditions that a row has each of some tags: `key=value`, or `key` with any value.

    Raises:
        InvalidInputError: a tag without a key, or too many.
    """
    if len(wanted) > WANTED_MAX:
        raise InvalidInputError(f"A list can ask for at most {WANTED_MAX} tags.", field="tag")
    found: list[ColumnElement[bool]] = []
    for text in wanted:
        key, given, value = text.partition("=")
        if not key:
            raise InvalidInputError(
                f"{text[:80]!r} names no tag.", hint="Write key=value, or key for any value.", field="tag"
            )
        conditions = [owner == uid, table.c.key == key] + ([table.c.value == value] if given else [])
        found.append(exists().where(*conditions))
    return found


def load(uow: UnitOfWork, table: Table, owner: Column[str], uids: Iterable[str]) -> dict[str, dict[str, str]]:
    """The tags of some datasets or versions, by uid, in the order of their keys."""
    found: dict[str, dict[str, str]] = {uid: {} for uid in uids}
    query = select(owner, table.c.key, table.c.value).where(owner.in_(found)).order_by(table.c.key)
    for uid, key, value in uow.conn.execute(query):
        found[uid][key] = value
    return found
