"""Parameters with facts in them: `{slot:%Y-%m-%d}` becomes the day of the slot.

A text that is nothing but one fact becomes the fact in its own type (`"{version}"` becomes a number); in longer texts
facts are written out. Times take a strftime format and are told in the schedule's zone. Two braces are one that is
meant. There is nothing else: no attributes, no indices, no conversions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from string import Formatter
from typing import Any

import msgspec

from everline.clock import rfc3339
from everline.errors import InvalidInputError

PARAMETERS_BYTES_MAX = 64 * 1024
DEPTH_MAX = 16
_BODY = re.compile(r"body(\.[A-Za-z0-9_-]{1,64}){1,8}")


def check(value: Any, known: Mapping[str, Any], *, body: bool = False) -> None:
    """Refuse templates that could not be filled in when their time comes.

    Args:
        value: parameters, JSON.
        known: the facts that there will be, with an example of each.
        body: whether there will also be a body, of which nothing is known yet: `{body.name}`.

    Raises:
        InvalidInputError: an unknown fact, a format that fits none, or too much of it all.
    """
    try:
        size = len(msgspec.json.encode(value))
    except (TypeError, UnicodeEncodeError, msgspec.MsgspecError, RecursionError) as error:
        raise InvalidInputError(f"The parameters are not JSON: {error}.", field="params") from None
    if size > PARAMETERS_BYTES_MAX:
        raise InvalidInputError(
            f"The parameters have {size} bytes; {PARAMETERS_BYTES_MAX} are allowed.",
            hint="Name a dataset or a file instead of its content.",
            field="params",
        )
    for text in _texts(value):
        for _, name, spec, conversion in _parsed(text):
            if name is None:
                continue
            if body and _BODY.fullmatch(name) and not spec and not conversion:
                continue
            if name not in known or conversion:
                offered = ", ".join(f"{{{one}}}" for one in known) + (", {body.…}" if body else "")
                raise InvalidInputError(
                    f"The parameter {text[:80]!r} names {'{' + name[:40] + '}'}, which this trigger does not know.",
                    hint=f"It knows {offered}. Two braces, {{{{ and }}}}, are one that is meant.",
                    field="params",
                )
            _written(known[name], spec or "", text=text)


def fill(value: Any, facts: Mapping[str, Any]) -> Any:
    """The parameters with the facts in their places.

    Args:
        facts: JSON values and times by name; a body under `body`.

    Raises:
        InvalidInputError: a fact is not there, such as a field that a body lacks.
    """
    if isinstance(value, str):
        return _filled(value, facts)
    if isinstance(value, dict):
        return {name: fill(one, facts) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [fill(one, facts) for one in value]
    return value


def _filled(text: str, facts: Mapping[str, Any]) -> Any:
    parts = _parsed(text)
    if len(parts) == 1 and parts[0][0] == "" and parts[0][1] is not None and not parts[0][2]:
        found = _fact(parts[0][1], facts, text=text)
        return _written(found, "", text=text) if isinstance(found, datetime) else found
    return "".join(
        literal + ("" if name is None else _written(_fact(name, facts, text=text), spec or "", text=text))
        for literal, name, spec, _ in parts
    )


def _fact(name: str, facts: Mapping[str, Any], *, text: str) -> Any:
    first, *path = name.split(".")
    found: Any = facts.get(first)
    known = first in facts
    for step in path:
        known = known and isinstance(found, dict) and step in found
        found = found[step] if known else None
    if not known:
        raise InvalidInputError(
            f"There is no {name[:80]!r} for the parameter {text[:80]!r}.",
            hint="Send it, or take it out of the schedule's parameters.",
            field="params",
        )
    return found


def _written(value: Any, spec: str, *, text: str) -> str:
    if isinstance(value, datetime):
        if not spec:
            return rfc3339(value)
        written = value.strftime(spec) if "%" in spec and "\0" not in spec else ""
        if written:
            return written
    elif not spec:
        return value if isinstance(value, str) else msgspec.json.encode(value).decode()
    raise InvalidInputError(
        f"The parameter {text[:80]!r} has a format {spec[:40]!r} that does not fit.",
        hint="Only times take a format, one of strftime, such as {slot:%Y-%m-%d}.",
        field="params",
    )


def _parsed(text: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise InvalidInputError(
            f"The parameter {text[:80]!r} cannot be read: {error}.",
            hint="Facts stand in braces, such as {slot:%Y-%m-%d}; two braces, {{ and }}, are one that is meant.",
            field="params",
        ) from None
    return parts


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    if depth > DEPTH_MAX:
        raise InvalidInputError(f"The parameters are nested deeper than {DEPTH_MAX}.", field="params")
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one, depth + 1)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _texts(one, depth + 1)
