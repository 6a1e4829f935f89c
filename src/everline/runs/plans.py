"""Which way a search of runs takes through the indexes, so that it stays fast at a million runs.

A database guesses how many rows a condition leaves and often guesses wrong, by seconds. Here it is looked up: an
index says within a millisecond whether a condition leaves a few runs or many.

    few      a condition, or the experiments, leave at most `FEW` runs: those are read and everything is tested on them
    walk     many runs, sorted by a metric first: its index is walked in order, and left when the page is full
    general  everything else: in order of start, which has an index, or by sorting what the filter leaves

Whatever the way, every condition is tested on every run: a plan changes how long an answer takes, never the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Table,
    any_,
    bindparam,
    false,
    func,
    select,
)
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import UnaryExpression

from everline.runs.filters import Clause, Order
from everline.runs.tables import HEAD_CHARACTERS, latest_metric, metric_key, run, run_param, run_tag

FEW = 2_000
_NUMERIC = {"=": "__eq__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}
_PRESENT = frozenset({"=", "!=", "LIKE", "ILIKE", "IS NOT NULL"})


class Plan(NamedTuple):
    """The way of one search.

    Attributes:
        ids: internal ids among which all matching runs are, at most `FEW`; None where that is not known.
        walk: number of the metric whose index is walked; None for the other ways.
        complete: whether runs without a number for that metric are refused by the filter anyway.
    """

    ids: list[int] | None = None
    walk: int | None = None
    complete: bool = False


def choose(conn: Connection, *, experiments: Sequence[int], clauses: Sequence[Clause], orders: Sequence[Order]) -> Plan:
    """Look the way up; at most one short question for each condition."""
    keys = _key_numbers(conn, clauses, orders)
    for clause in clauses:
        narrow = _narrowing(clause, keys)
        if narrow is not None and (ids := _few(conn, narrow)) is not None:
            return Plan(ids=ids)
    parents = run.c.experiment == experiments[0] if len(experiments) == 1 else run.c.experiment.in_(experiments)
    if (ids := _few(conn, select(run.c.id).where(parents))) is not None:
        return Plan(ids=ids)
    first = orders[0] if orders else None
    if first is not None and first.entity == "metric" and first.key in keys:
        asked = any(
            clause.entity == "metric" and clause.key == first.key and clause.comparator in _NUMERIC
            for clause in clauses
        )
        return Plan(walk=keys[first.key], complete=asked)
    return Plan()


def among(ids: Sequence[int], *, sqlite: bool) -> ColumnElement[bool]:
    """The condition that a run is one of `ids`, however many those are."""
    if sqlite:
        listed = func.json_each(msgspec.json.encode(list(ids)).decode()).table_valued("value")
        return run.c.id.in_(select(listed.c.value))
    return run.c.id == any_(bindparam("ids", list(ids), type_=ARRAY(BigInteger)))


def unindexed(column: ColumnElement[Any], *, sqlite: bool) -> ColumnElement[Any]:
    """`column` in a form that makes SQLite look for another way than its index.

    Source: sqlite.org/optoverview.html, section 7, "Manual Control Of Query Plans Using unary +".
    """
    if not sqlite:
        return column
    return UnaryExpression(column, operator=operators.custom_op("+"), type_=column.type)


def _key_numbers(conn: Connection, clauses: Sequence[Clause], orders: Sequence[Order]) -> dict[str, int]:
    named = {clause.key for clause in clauses if clause.entity == "metric"}
    named |= {order.key for order in orders[:1] if order.entity == "metric"}
    if not named:
        return {}
    statement = select(metric_key.c.name, metric_key.c.id).where(metric_key.c.name.in_(sorted(named)))
    return {row.name: row.id for row in conn.execute(statement)}


def _few(conn: Connection, statement: Select[Any]) -> list[int] | None:
    """The ids that a statement gives, unless they are more than a few."""
    # First whether there is one more: the database skips rows many times faster than it hands them over.
    if conn.execute(statement.limit(1).offset(FEW)).first() is not None:
        return None
    return list(conn.execute(statement).scalars().all())


def _narrowing(clause: Clause, keys: dict[str, int]) -> Select[Any] | None:
    """The ids of the runs that a condition leaves, or more; None where no index knows."""
    if clause.entity == "metric":
        compare = _NUMERIC.get(clause.comparator)
        if clause.key not in keys:  # logged by nobody
            return select(run.c.id).where(false())
        mine = select(latest_metric.c.run).where(latest_metric.c.key == keys[clause.key])
        if compare is None:
            return mine
        return mine.where(latest_metric.c.is_nan == false(), getattr(latest_metric.c.value, compare)(clause.value))
    if clause.entity in ("parameter", "tag"):
        return _keyed(run_param if clause.entity == "parameter" else run_tag, clause)
    if (clause.entity, clause.key) == ("attribute", "run_id"):
        if clause.comparator == "=":
            return select(run.c.id).where(run.c.uid == clause.value)
        if clause.comparator == "IN" and isinstance(clause.value, tuple):
            return select(run.c.id).where(run.c.uid.in_(clause.value))
    return None


def _keyed(table: Table, clause: Clause) -> Select[Any] | None:
    if clause.comparator not in _PRESENT:
        return None
    mine = select(table.c.run).where(table.c.key == clause.key)
    if clause.comparator == "=":
        head = str(clause.value)[:HEAD_CHARACTERS]
        return mine.where(table.c.head == head, table.c.value == clause.value)
    return mine
