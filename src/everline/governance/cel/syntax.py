"""The syntax tree of an expression, and the error that points into its text.

Every node knows where it stands in the source, so that messages and verdicts can quote it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal as Choice

from everline.errors import InvalidInputError

SOURCE_CHARS_MAX = 4_000
NESTING_MAX = 32
"""Deepest nesting in brackets; the language's own specification asks for 12 at least."""
DEPTH_MAX = 64
"""Highest tree, of a long chain of additions for example."""


@dataclass(frozen=True, slots=True)
class Span:
    """From the first character up to, without, the second."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What all nodes have."""

    span: Span
    depth: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal(Node):
    """A constant: null, bool, int, float or str."""

    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Name(Node):
    """A fact, or a variable of a macro."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Select(Node):
    """`operand.field`."""

    operand: Node
    field: str
    field_span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Has(Node):
    """`has(operand.field)`."""

    select: Select


@dataclass(frozen=True, slots=True, kw_only=True)
class Index(Node):
    """`operand[index]`."""

    operand: Node
    index: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Node):
    """A function or method; the target of a method is the first argument."""

    function: str
    function_span: Span
    args: tuple[Node, ...]
    method: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unary(Node):
    """`!x` or `-x`."""

    operator: Choice["!", "-"]
    operand: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary(Node):
    """Arithmetic, comparison or `in`."""

    operator: str
    operator_span: Span
    left: Node
    right: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Logic(Node):
    """A chain of `&&` or of `||`."""

    operator: Choice["&&", "||"]
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditional(Node):
    """`test ? yes : no`."""

    test: Node
    yes: Node
    no: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOf(Node):
    """`[a, b]`."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOf(Node):
    """`{a: b}`."""

    entries: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Macro(Node):
    """`target.all(variable, body)` and its kin; `transform` is the third argument of `map`."""

    macro: str
    target: Node
    variable: str
    body: Node
    transform: Node | None = None


class CelError(InvalidInputError):
    """An expression that is refused, with a caret under what is wrong in it."""

    code = "invalid_expression"

    def __init__(self, why: str, *, source: str, span: Span, hint: str | None = None) -> None:
        self.why = why
        super().__init__(f"{why}\n{caret(source, span)}", hint=hint, field="expression")


def caret(source: str, span: Span) -> str:
    """Quote the line that a span begins in, with carets under the span.

    Example:
        >>> print(caret("model.auc > 1", Span(6, 9)))
        model.auc > 1
              ^^^
    """
    start = source.rfind("\n", 0, span.start) + 1
    end = source.find("\n", span.start)
    line = source[start : end if end >= 0 else len(source)]
    width = max(1, min(span.end, start + len(line)) - span.start)
    return f"{line}\n{' ' * (span.start - start)}{'^' * width}"
