"""What a dataset promises to those who read it: columns, types, ranges, keys, freshness, and who answers for it.

A producer may add whatever version there is, for data are facts. Consumers that declare a contract are refused a
version that breaks it. Most rules are held against the exact profile of the version; only allowed values that the
profile does not list, and keys, need the rows.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from everline.canonical import canonical_digest
from everline.datasets.types import (
    Breach,
    Column,
    ColumnRule,
    Contract,
    DatasetVersionDetail,
    TableSummary,
)
from everline.errors import InvalidInputError
from everline.loader import late

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
else:  # only allowed values and keys need rows
    pa, pc = late("pyarrow"), late("pyarrow.compute")

COLUMNS_MAX = 5_000
KEY_COLUMNS_MAX = 16
VALUES_MAX = 1_000
TEXT_CHARACTERS_MAX = 2_000
_DURATION = re.compile(r"(\d{1,6})\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_TYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
    "string", "binary", "date", "time", "timestamp", "timestamp[utc]", "duration", "interval", "null",
)  # fmt: skip
_COMPOSED = re.compile(r"decimal\(\d+,-?\d+\)|binary\[\d+\]|list|struct|map")

ReadColumns = Callable[[Sequence[str]], "pa.Table"]


def check_contract(contract: Contract) -> Contract:
    """Return `contract` if it can be kept.

    Raises:
        InvalidInputError: nobody owns it, it promises nothing, or a rule contradicts itself or names what is not there.
    """
    if not contract.owner.strip() or len(contract.owner) > TEXT_CHARACTERS_MAX:
        raise InvalidInputError(
            f"A contract names its owner in 1 to {TEXT_CHARACTERS_MAX:,} characters: who is asked when it breaks.",
            field="owner",
        )
    if len(contract.columns) > COLUMNS_MAX or len(contract.key) > KEY_COLUMNS_MAX:
        raise InvalidInputError(
            f"A contract has at most {COLUMNS_MAX:,} columns, and {KEY_COLUMNS_MAX} of them in its key.",
            field="columns",
        )
    if not (contract.columns or contract.key or contract.fresh_within):
        raise InvalidInputError(
            "This contract promises nothing.", hint="Give it columns, a key or fresh_within.", field="columns"
        )
    for name, rule in contract.columns.items():
        _check_rule(name, rule)
    for name in contract.key:
        alike = difflib.get_close_matches(name, contract.columns, n=1, cutoff=0.8)
        if name not in contract.columns and (contract.closed or alike):
            raise InvalidInputError(
                f"The key names {name!r}, which is none of the contract's columns{_meant(name, contract.columns)}.",
                field="key",
            )
    if len(set(contract.key)) < len(contract.key):
        raise InvalidInputError("The key names a column twice.", field="key")
    if contract.fresh_within is not None:
        duration(contract.fresh_within)
    return contract


def duration(text: str) -> timedelta:
    """A duration such as `36h`: a whole number of seconds, minutes, hours, days or weeks (s, m, h, d, w).

    Raises:
        InvalidInputError: it is not written like that, or is nothing.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise InvalidInputError(
            f"{text[:80]!r} is no duration.", hint="Write a number and s, m, h, d or w: 36h, 40d.", field="fresh_within"
        )
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def digest_of(contract: Contract) -> str:
    """What tells contracts apart: the digest of their canonical JSON."""
    return canonical_digest(msgspec.to_builtins(contract))


def stale(contract: Contract, added_at: datetime, *, now: datetime) -> list[Breach]:
    """What a version breaks by its age."""
    age = now - added_at
    if contract.fresh_within is None or age <= duration(contract.fresh_within):
        return []
    return [Breach(rule="fresh_within", asked=contract.fresh_within, seen=f"{age.total_seconds() / 86_400:.1f}d")]


def breaches(contract: Contract, detail: DatasetVersionDetail, *, read: ReadColumns) -> list[Breach]:
    """What a version does not keep of a contract, by column; its age aside, this never changes.

    Args:
        read: gives some of the columns as a table; asked only where the profile does not answer.
    """
    found: list[Breach] = []
    if detail.table is None:
        return (
            [*found, Breach(rule="table", asked="a table", seen="files")] if contract.columns or contract.key else found
        )
    columns = {column.name: column for column in detail.table.columns}
    for name, rule in contract.columns.items():
        column = columns.get(name)
        if column is None:
            found.append(Breach(column=name, rule="column", asked="there", seen="missing"))
        else:
            found += _column_breaches(column, rule, read)
    if contract.closed:
        further = [name for name in columns if name not in contract.columns]
        found += [Breach(column=name, rule="closed", asked="no further column", seen="there") for name in further]
    found += _key_breaches(contract.key, detail.table, read)
    return found


def _column_breaches(column: Column, rule: ColumnRule, read: ReadColumns) -> Iterator[Breach]:
    kind = _kind(column)
    if rule.type is not None and rule.type != kind:
        yield Breach(column=column.name, rule="type", asked=rule.type, seen=kind)
        return  # what follows compares values of that type
    if not rule.nullable and column.nulls:
        yield Breach(
            column=column.name, rule="nullable", asked=False, seen=f"{column.nulls:,} of {column.rows:,} missing"
        )
    low, high = _extremes(column, rule, read)
    if rule.min is not None and low is not None and _below(low, rule.min):
        yield Breach(column=column.name, rule="min", asked=rule.min, seen=_shown(low))
    if rule.max is not None and high is not None and _below(rule.max, high):
        yield Breach(column=column.name, rule="max", asked=rule.max, seen=_shown(high))
    if rule.values is not None and not isinstance(column.type, str):
        yield Breach(column=column.name, rule="type", asked="a plain type, for its values", seen=kind)
    elif rule.values is not None:
        other = _other_values(column, rule.values, read)
        if other:
            yield Breach(column=column.name, rule="values", asked=rule.values, seen=other)


def _extremes(column: Column, rule: ColumnRule, read: ReadColumns) -> tuple[Any, Any]:
    """The least and the greatest value. The profile leaves infinities out, and keeps large whole numbers as text."""
    kind = _kind(column)
    if kind.startswith("float") and (rule.min is not None or rule.max is not None):
        found = pc.min_max(read([column.name]).column(0).cast("float64")).as_py()
        return found["min"], found["max"]
    if kind.startswith(("int", "uint")) and kind != "interval":
        return tuple(int(value) if isinstance(value, str) else value for value in (column.minimum, column.maximum))  # type: ignore[return-value]
    return column.minimum, column.maximum


def _shown(value: Any) -> Any:
    """A value as JSON can say it."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _other_values(column: Column, allowed: Sequence[Any], read: ReadColumns) -> list[Any]:
    """Values that are not allowed, at most five."""
    if column.distinct is not None and column.distinct <= len(column.top):
        return [top.value for top in column.top if top.value not in allowed][:5]
    present = pc.unique(read([column.name]).column(0)).to_pylist()
    said = [value.isoformat() if isinstance(value, date | time) else value for value in present]
    return [value for value in said if value is not None and value not in allowed][:5]


def _key_breaches(key: Sequence[str], table: TableSummary, read: ReadColumns) -> Iterator[Breach]:
    columns = {column.name: column for column in table.columns}
    missing = [name for name in key if name not in columns]
    for name in missing:
        yield Breach(column=name, rule="key", asked="there", seen="missing")
    for name in key:
        if name in columns and columns[name].nulls:
            nulls = columns[name].nulls
            yield Breach(column=name, rule="key", asked="never missing", seen=f"{nulls:,} of {table.rows:,} missing")
    nested = [name for name in key if name in columns and not isinstance(columns[name].type, str)]
    for name in nested:
        yield Breach(column=name, rule="key", asked="a plain type", seen=_kind(columns[name]))
    if key and not missing and not nested:
        different = read(key).group_by(list(key)).aggregate([([], "count_all")]).num_rows
        if different < table.rows:
            seen = f"{table.rows - different:,} of {table.rows:,} rows repeat {', '.join(key)}"
            yield Breach(column=None, rule="key", asked="unique", seen=seen)


def _check_rule(name: str, rule: ColumnRule) -> None:
    field = f"columns.{name[:80]}"
    if rule.type is not None and rule.type not in _TYPES and not _COMPOSED.fullmatch(rule.type):
        raise InvalidInputError(f"{rule.type[:80]!r} is no type{_meant(rule.type, _TYPES)}.", field=f"{field}.type")
    for word, value in (("min", rule.min), ("max", rule.max)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float | str)):
            raise InvalidInputError(f"{word} is a number, or a date as text.", field=f"{field}.{word}")
    if rule.min is not None and rule.max is not None:
        if isinstance(rule.min, str) != isinstance(rule.max, str):
            raise InvalidInputError("min and max are not of one kind.", field=field)
        if _below(rule.max, rule.min):
            raise InvalidInputError(f"min {rule.min} is above max {rule.max}: nothing would fit.", field=field)
    if rule.values is not None and not 1 <= len(rule.values) <= VALUES_MAX:
        raise InvalidInputError(f"values lists 1 to {VALUES_MAX:,} values.", field=f"{field}.values")


def _below(one: Any, other: Any) -> bool:
    """Whether one value comes before another; a number and a text are never in order."""
    return isinstance(one, str) != isinstance(other, str) or bool(one < other)


def _kind(column: Column) -> str:
    return column.type if isinstance(column.type, str) else str(next(iter(column.type)))


def _meant(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
