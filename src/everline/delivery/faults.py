"""Errors in `everline.toml`: what, where, and the nearest name that is known."""

from __future__ import annotations

import difflib
import re
import tomllib
import types
import typing
from collections.abc import Iterable
from enum import Enum
from typing import Any

import msgspec

from everline.delivery.spots import Path, Spot, find_spots, nearest_spot
from everline.errors import InvalidInputError

_PLACE = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_PART = re.compile(r"\.([A-Za-z0-9_-]+)|\[(\d+)\]|\[\.\.\.\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_SYNTAX = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
_HIDDEN = {"name"}
_SHOWN_CHARACTERS_MAX = 110


class Text:
    """The text of a file, for errors that point into it."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self._lines = text.split("\n")
        self._spots: dict[Path, Spot] | None = None

    def spot(self, path: Path) -> Spot | None:
        """Where `path` stands, or what holds it."""
        if self._spots is None:
            self._spots = find_spots(self.text)
        return nearest_spot(self._spots, path)

    def fault(self, message: str, path: Path = (), *, hint: str | None = None, spot: Spot | None = None) -> Any:
        """An error that says where, with the line and a caret under it."""
        found = spot or self.spot(path)
        field = ".".join(str(part) for part in path) or None
        if found is None:
            return InvalidInputError(f"{self.name}: {message}", hint=hint, field=field)
        line = self._lines[found.line - 1].rstrip("\r") if found.line <= len(self._lines) else ""
        shown, number = line.replace("\t", " ")[:_SHOWN_CHARACTERS_MAX], str(found.line)
        caret = " " * (found.column - 1) + "^" * max(1, min(found.length, len(shown) - found.column + 1))
        picture = f"\n  {number} | {shown}\n  {' ' * len(number)} | {caret}" if found.column <= len(shown) + 1 else ""
        return InvalidInputError(f"{self.name}:{found.line}:{found.column}: {message}{picture}", hint=hint, field=field)

    def parse(self) -> dict[str, Any]:
        """Read the TOML.

        Raises:
            InvalidInputError: it is none, or is nested too deeply.
        """
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            match = _SYNTAX.fullmatch(str(error))
            message = match[1] if match else str(error)
            end = Spot(len(self._lines), len(self._lines[-1]) + 1, 1)
            spot = Spot(int(match[2]), int(match[3]), 1) if match and match[2] else end
            raise self.fault(f"This is not TOML: {message}.", spot=spot) from None
        except RecursionError:
            raise InvalidInputError(f"{self.name} is nested too deeply.", field="text") from None

    def convert(self, value: Any, kind: Any, path: Path) -> Any:
        """Read a value as a struct.

        Raises:
            InvalidInputError: a key is unknown or missing, or a value does not fit; says where and what was meant.
        """
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise self._explain(str(error), value, kind, path) from None
        except RecursionError:
            raise self.fault("This is nested too deeply.", path) from None

    def _explain(self, said: str, value: Any, kind: Any, path: Path) -> InvalidInputError:
        match = _PLACE.search(said)
        message, inner = (said[: match.start()], _parts(match[1])) if match else (said, ())
        owner = _kind_at(kind, inner, value)
        if (unknown := _UNKNOWN.fullmatch(message)) is not None:
            return self.unknown(unknown[1], known_keys(owner), (*path, *inner))
        if (missing := _MISSING.fullmatch(message)) is not None:
            return self.fault(f"{_table(path, inner)} needs the key {missing[1]!r}.", (*path, *inner))  # type: ignore[no-any-return]
        values = _names_of(owner)
        given = _value_at(value, inner)
        meant = nearest(str(given), values) if values else ""
        return self.fault(  # type: ignore[no-any-return]
            f"{_table(path, inner)}: {message}{meant or '.'}",
            (*path, *inner),
            hint=f"Known are {', '.join(values)}." if values else None,
        )

    def unknown(self, name: str, known: Iterable[str], path: Path) -> InvalidInputError:
        """The error of a key that there is none of."""
        names = list(known)
        where = f"[{'.'.join(map(str, path))}] has" if path else "The file has"
        return self.fault(  # type: ignore[no-any-return]
            f"{where} no key {name!r}{nearest(name, names) or '.'}",
            (*path, name),
            hint=f"Known keys are {', '.join(sorted(names))}." if names else None,
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or nothing if no known name is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def known_keys(kind: Any) -> list[str]:
    """The keys of the table that a struct stands for."""
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return []
    tag = [kind.__struct_config__.tag_field] if kind.__struct_config__.tag_field else []
    return tag + [one.name for one in msgspec.structs.fields(kind) if one.name not in _HIDDEN or one.required]


def _table(path: Path, inner: Path) -> str:
    return ".".join(str(part) for part in (*path, *inner)) or "The file"


def _parts(text: str) -> Path:
    found: list[str | int] = []
    for match in _PART.finditer(text):
        if match[1] is None and match[2] is None:
            break  # a key of a table by name: the validator does not say which
        found.append(match[1] if match[1] is not None else int(match[2]))
    return tuple(found)


def _value_at(value: Any, path: Path) -> Any:
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return ""
    return value


def _kind_at(kind: Any, path: Path, value: Any) -> Any:
    """The type that stands at a path: a struct, an enumeration, or the list of tags that choose a struct."""
    for number, part in enumerate(path):
        given = _value_at(value, path[:number])
        choices = _choices(kind)
        if choices and part == choices[0].__struct_config__.tag_field:
            return [str(one.__struct_config__.tag) for one in choices]
        kind = _struct_of(kind, given)
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (list, tuple) and isinstance(part, int):
            kind = arguments[0]
        elif origin is dict:
            kind = arguments[1]
        elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            kind = typing.get_type_hints(kind).get(str(part), Any)
        else:
            return Any
    return _struct_of(kind, _value_at(value, path))


def _choices(kind: Any) -> list[Any]:
    """The structs of a choice that a tag decides."""
    given = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else ()
    found = [one for one in given if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    return found if all(one.__struct_config__.tag is not None for one in found) else []


def _struct_of(kind: Any, value: Any) -> Any:
    """Of a choice of types the one that the value's tag names, else the one that has keys or names of its own."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    for one in _choices(kind):
        config = one.__struct_config__
        if isinstance(value, dict) and value.get(config.tag_field) == config.tag:
            return one
    rich = [one for one in typing.get_args(kind) if one is not type(None) and one not in (str, int, float, bool)]
    return rich[0] if rich else kind


def _names_of(kind: Any) -> list[str]:
    """What may be written where an enumeration or a tag is asked for."""
    if isinstance(kind, list):
        return kind
    return [str(one.value) for one in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []
