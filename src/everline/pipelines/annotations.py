"""What the annotations of steps say: which values fit where, and how they are shown to people."""

from __future__ import annotations

import types
import typing
from typing import Any

_TABLES = {
    ("everline.pipelines.values", "Table"),
    ("pyarrow.lib", "Table"),
    ("pandas", "DataFrame"),
    ("pandas.core.frame", "DataFrame"),
    ("pandas.DataFrame", "DataFrame"),
    ("polars.dataframe.frame", "DataFrame"),
    ("polars", "DataFrame"),
}


def is_table(annotation: Any) -> bool:
    """Whether an annotation means a table in any of the frame libraries."""
    return (getattr(annotation, "__module__", ""), getattr(annotation, "__qualname__", "")) in _TABLES


def fits(given: Any, wanted: Any) -> bool:
    """Whether a value of the type `given` may go where `wanted` is asked for.

    Example:
        >>> fits(int, float), fits(int, int | None), fits(list[int], list), fits(str, int)
        (True, True, True, False)
    """
    if given is Any or wanted is Any or given == wanted:
        return True
    if is_table(given) or is_table(wanted):
        wants = typing.get_args(wanted) if _is_union(wanted) else (wanted,)
        return is_table(given) and any(is_table(option) for option in wants)
    if _is_union(given):
        return all(fits(option, wanted) for option in typing.get_args(given))
    if _is_union(wanted):
        return any(fits(given, option) for option in typing.get_args(wanted))
    given_base, wanted_base = typing.get_origin(given) or given, typing.get_origin(wanted) or wanted
    if given_base is int and wanted_base is float:
        return True
    if not isinstance(given_base, type) or not isinstance(wanted_base, type):
        return False
    if not issubclass(given_base, wanted_base):
        return False
    ours, theirs = typing.get_args(given), typing.get_args(wanted)
    return not ours or not theirs or (len(ours) == len(theirs) and all(map(fits, ours, theirs)))


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def show(annotation: Any) -> str:
    """An annotation as people write it."""
    if is_table(annotation):
        module = annotation.__module__.partition(".")[0]
        return "el.Table" if module == "everline" else f"{module}.{annotation.__qualname__}"
    if getattr(annotation, "__module__", "") == "everline.pipelines.values":
        return f"el.{annotation.__qualname__}"
    return (
        annotation.__qualname__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)
    )


def item_of(annotation: Any) -> Any:
    """What the items of a list are; None if the annotation is no list.

    Example:
        >>> item_of(list[int]), item_of(list), item_of(int)
        (<class 'int'>, typing.Any, None)
    """
    if annotation is Any or annotation is list:
        return Any
    if typing.get_origin(annotation) is list:
        return typing.get_args(annotation)[0]
    return None


def union_of(first: Any, second: Any) -> Any:
    """The annotation of a value that is one or the other."""
    if first == second:
        return first
    if first is Any or second is Any:
        return Any
    return typing.Union[first, second]  # noqa: UP007 - a table's stand-in is no class that `|` knows
