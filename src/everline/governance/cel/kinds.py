"""The static types of expressions, and how evidence schemas turn into them.

A record is an object with known fields. Its fields may be missing at run time: that is what `unknown` is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import inspect


@dataclass(frozen=True, slots=True)
class Kind:
    """A static type."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class ListKind(Kind):
    """A list of one kind of item."""

    item: Kind


@dataclass(frozen=True, slots=True)
class MapKind(Kind):
    """A map from text to one kind of value."""

    value: Kind


@dataclass(frozen=True, slots=True)
class RecordKind(Kind):
    """An object with known fields; `extra` is the kind of values under other keys, if those are allowed."""

    fields: Mapping[str, Kind] = field(default_factory=dict)
    extra: Kind | None = None


DYN = Kind("dyn")
NULL = Kind("null")
BOOL = Kind("bool")
INT = Kind("int")
DOUBLE = Kind("double")
STRING = Kind("string")
TIMESTAMP = Kind("timestamp")
DURATION = Kind("duration")

NUMBERS = (INT, DOUBLE)


def list_of(item: Kind) -> ListKind:
    """The kind of a list."""
    return ListKind(f"list({item})", item)


def map_of(value: Kind) -> MapKind:
    """The kind of a map from text."""
    return MapKind(f"map(string, {value})", value)


def record(name: str, fields: Mapping[str, Kind], *, extra: Kind | None = None) -> RecordKind:
    """The kind of an object."""
    return RecordKind(name, fields, extra)


def numeric(kind: Kind) -> bool:
    """Whether values of this kind can be counted with."""
    return kind in NUMBERS or kind == DYN


def comparable(left: Kind, right: Kind) -> bool:
    """Whether `==` between two kinds can ever be meant."""
    if DYN in (left, right) or NULL in (left, right) or left == right:
        return True
    if left in NUMBERS and right in NUMBERS:
        return True
    if isinstance(left, ListKind) and isinstance(right, ListKind):
        return comparable(left.item, right.item)
    objects = (MapKind, RecordKind)
    return isinstance(left, objects) and isinstance(right, objects)


def joined(kinds: list[Kind]) -> Kind:
    """The one kind of several values: the same, double among numbers, else dyn."""
    if not kinds:
        return DYN
    if all(kind == kinds[0] for kind in kinds):
        return kinds[0]
    return DOUBLE if all(kind in NUMBERS for kind in kinds) else DYN


def kind_of_struct(struct: type[msgspec.Struct], *, name: str) -> RecordKind:
    """Turn a msgspec Struct into a record kind; the class attribute `OPEN_NUMBERS` lets it hold other numbers too."""
    info = inspect.type_info(struct)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{struct} is not a Struct")
    return _record(info, name)


def _record(info: inspect.StructType, name: str) -> RecordKind:
    fields = {entry.encode_name: _kind(entry.type, f"{name}.{entry.name}") for entry in info.fields}
    extra = DOUBLE if getattr(info.cls, "OPEN_NUMBERS", False) else None
    return record(name, fields, extra=extra)


_SCALARS: dict[type[inspect.Type], Kind] = {
    inspect.BoolType: BOOL,
    inspect.IntType: INT,
    inspect.FloatType: DOUBLE,
    inspect.StrType: STRING,
    inspect.DateTimeType: TIMESTAMP,
    inspect.TimeDeltaType: DURATION,
    inspect.NoneType: NULL,
}


def _kind(info: inspect.Type, name: str) -> Kind:
    scalar = _SCALARS.get(type(info))
    if scalar is not None:
        return scalar
    if isinstance(info, inspect.UnionType):
        known = [entry for entry in info.types if not isinstance(entry, inspect.NoneType | inspect.CustomType)]
        return _kind(known[0], name) if len(known) == 1 else DYN
    if isinstance(info, inspect.ListType):
        return list_of(_kind(info.item_type, f"{name}[]"))
    if isinstance(info, inspect.DictType):
        return map_of(_kind(info.value_type, f"{name}[]"))
    return _record(info, name) if isinstance(info, inspect.StructType) else DYN


class Mismatch:
    """Stands for a value that is there but is not of the kind that it should be: not known, so to say."""

    def __init__(self, found: str, kind: Kind) -> None:
        self.why = f"is {found}, where {kind} is expected"


def conform(value: Any, kind: Kind) -> Any:
    """Bring a JSON value to its kind: whole numbers to doubles, text to times; what does not fit becomes a Mismatch."""
    if value is None or isinstance(value, Mismatch):
        return value
    if isinstance(kind, RecordKind) and isinstance(value, Mapping):
        extra = kind.extra or DYN
        return {key: conform(item, kind.fields.get(key, extra)) for key, item in value.items()}
    if isinstance(kind, MapKind) and isinstance(value, Mapping):
        return {key: conform(item, kind.value) for key, item in value.items()}
    if isinstance(kind, ListKind) and isinstance(value, list | tuple):
        return [conform(item, kind.item) for item in value]
    return _conform_scalar(value, kind)


def _conform_scalar(value: Any, kind: Kind) -> Any:
    if kind == DYN:
        return value
    if kind == DOUBLE and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind == INT and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == TIMESTAMP and isinstance(value, str):
        try:
            return msgspec.convert(value, datetime)
        except msgspec.ValidationError:
            return Mismatch("text that is no time", kind)
    fits = _PYTHON.get(kind)
    if fits is not None and isinstance(value, fits) and (kind == BOOL or not isinstance(value, bool)):
        return value
    return Mismatch(_describe(value), kind)


_PYTHON: dict[Kind, type | tuple[type, ...]] = {
    BOOL: bool,
    INT: int,
    STRING: str,
    TIMESTAMP: datetime,
    DURATION: timedelta,
}


def _describe(value: Any) -> str:
    names = {bool: "a bool", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
