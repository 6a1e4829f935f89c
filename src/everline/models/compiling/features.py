"""What fitted preprocessing does to single columns, as a chain of elementary operations on each.

A transformer that mixes columns (PCA, polynomials) has no such chain: it stays with its framework.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from everline.models.compiling.plan import Column
from everline.models.signature import ColumnType, Field

REFUSE = None
CATEGORIES_MAX = 100_000
_TEXT = frozenset({ColumnType.STRING})
_REALS = frozenset({ColumnType.INTEGER, ColumnType.LONG, ColumnType.FLOAT, ColumnType.DOUBLE})


class NotCompiledError(Exception):
    """The model has a part that is not compiled; the message says which. It then answers as its framework has it."""


@dataclass(frozen=True)
class Feature:
    """One column on its way to the model.

    Attributes:
        input: the input that it starts from.
        text: whether it still is text.
        fill: what text takes the place of null.
        table: by value, what number stands for it; NaN and None are both under None.
        unknown: the number of every other value; None refuses them.
        ops: what is done to the number then: `fill`, `sub`, `div`, `mul`, `add`, `equal`, each with a value.
    """

    input: str
    text: bool
    fill: str | None = None
    table: dict[Any, float] | None = None
    unknown: float | None = REFUSE
    ops: tuple[tuple[str, float], ...] = ()

    def then(self, op: str, value: float) -> Feature:
        """The feature with one more operation."""
        if self.text:
            raise NotCompiledError(f"the text {self.input!r} is calculated with")
        return replace(self, ops=(*self.ops, (op, float(value))))

    def filled(self, value: Any) -> Feature:
        """The feature with something in the place of what is missing."""
        if self.text:
            if not isinstance(value, str):
                raise NotCompiledError(f"missing text of {self.input!r} is replaced by a {type(value).__name__}")
            return self if self.fill is not None else replace(self, fill=value)
        return self.then("fill", float(value))

    def encoded(self, categories: list[Any], codes: list[float], *, unknown: float | None) -> Feature:
        """The feature with a number for each category.

        Args:
            categories: what the encoder was fitted on; a missing value is None.
            unknown: for values that are none of them; None refuses them.
        """
        if self.ops:
            raise NotCompiledError(f"the encoder of {self.input!r} follows arithmetic")
        if len(categories) > CATEGORIES_MAX:
            raise NotCompiledError(f"{self.input!r} has more than {CATEGORIES_MAX} categories")
        outer = {_key(category): float(code) for category, code in zip(categories, codes, strict=True)}
        if self.table is None:
            if self.text != all(isinstance(key, str) for key in outer if key is not None):
                raise NotCompiledError(f"the encoder of {self.input!r} was fitted on other types than it will see")
            table = dict(outer)
            if self.fill is not None and _key(self.fill) in outer:
                table[None] = outer[_key(self.fill)]
            elif self.fill is not None:
                table.pop(None, None)
            return replace(self, text=False, table=table, unknown=unknown)
        table, lost = {}, set()
        for key, number in self.table.items():
            code = outer.get(_key(number), unknown)
            if code is None:
                lost.add(key)
            else:
                table[key] = code
        after = None if self.unknown is None else outer.get(_key(self.unknown), unknown)
        if lost and after is not None:
            raise NotCompiledError(f"two encoders of {self.input!r} refuse different values")
        return replace(self, table=table, unknown=after)

    def column(self) -> Column:
        """How the matrix gets it."""
        if self.text:
            raise NotCompiledError(f"the text {self.input!r} reaches the model without an encoder")
        if self.table is None:
            return Column(input=self.input)
        known = {key: _written(number) for key, number in self.table.items() if key is not None}
        null = self.table.get(None, self.unknown)
        return Column(
            input=self.input,
            table={str(key) if isinstance(key, str) else repr(key): value for key, value in known.items()},
            numeric=any(not isinstance(key, str) for key in known),
            unknown=_written_or_refused(self.unknown),
            null=_written_or_refused(null),
        )


def first_features(fields: list[Field]) -> list[Feature]:
    """The inputs of a signature, as they come.

    Raises:
        NotCompiledError: an input is of a type that is not compiled.
    """
    found = []
    for field in fields:
        if field.type is ColumnType.DATETIME:
            raise NotCompiledError(f"the input {field.name!r} is a time")
        if field.type is ColumnType.BOOLEAN and field.nullable:
            raise NotCompiledError(f"the input {field.name!r} is true, false or null")
        found.append(Feature(field.name, text=field.type in _TEXT))
    return found


def _key(value: Any) -> Any:
    if value is None or value != value:
        return None
    if isinstance(value, str):
        return str(value)
    return float(value)


def _written(number: float) -> float | None:
    return None if math.isnan(number) else number


def _written_or_refused(number: float | None) -> float | str | None:
    return number if number is None or not math.isnan(number) else "nan"
