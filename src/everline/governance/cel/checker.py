"""Checks an expression against the kinds of the facts, when a policy is saved.

What is wrong is refused then, with a caret under it and the nearest known name; at release time nothing
but missing evidence is left to go wrong. Deviation from CEL: whole numbers and doubles mix, since JSON
does not tell 1 from 1.0.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from everline.governance.cel.functions import FUNCTIONS, KindError
from everline.governance.cel.kinds import (
    BOOL,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    NULL,
    NUMBERS,
    STRING,
    TIMESTAMP,
    Kind,
    ListKind,
    MapKind,
    RecordKind,
    comparable,
    joined,
    list_of,
    map_of,
    numeric,
)
from everline.governance.cel.parser import MACROS
from everline.governance.cel.syntax import (
    Binary,
    Call,
    CelError,
    Conditional,
    Has,
    Index,
    ListOf,
    Literal,
    Logic,
    Macro,
    MapOf,
    Name,
    Node,
    Select,
    Span,
    Unary,
)

_LITERALS: dict[type, Kind] = {type(None): NULL, bool: BOOL, int: INT, float: DOUBLE, str: STRING}
_ORDERED = (*NUMBERS, STRING, BOOL, TIMESTAMP, DURATION)
_ARITHMETIC: dict[tuple[str, Kind, Kind], Kind] = {
    ("+", STRING, STRING): STRING,
    ("+", TIMESTAMP, DURATION): TIMESTAMP,
    ("+", DURATION, TIMESTAMP): TIMESTAMP,
    ("+", DURATION, DURATION): DURATION,
    ("-", TIMESTAMP, TIMESTAMP): DURATION,
    ("-", TIMESTAMP, DURATION): TIMESTAMP,
    ("-", DURATION, DURATION): DURATION,
}

Scope = Mapping[str, Kind]


def check(node: Node, *, source: str, scope: Scope) -> Kind:
    """Return the kind of an expression.

    Args:
        scope: the kinds of the facts by name.

    Raises:
        CelError: an unknown name, or kinds that do not go together.
    """
    return _Checker(source).kind(node, scope)


class _Checker:
    def __init__(self, source: str) -> None:
        self.source = source

    def error(self, why: str, span: Span, *, hint: str | None = None) -> CelError:
        return CelError(why, source=self.source, span=span, hint=hint)

    def unknown(self, what: str, name: str, span: Span, known: Iterable[str]) -> CelError:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known are: {', '.join(names) or 'none'}."
        return self.error(f"There is no {what} {name!r}. {hint}", span)

    def kind(self, node: Node, scope: Scope) -> Kind:
        match node:
            case Literal():
                return _LITERALS[type(node.value)]
            case Name():
                if node.name not in scope:
                    raise self.unknown("fact", node.name, node.span, scope)
                return scope[node.name]
            case Select():
                return self.select(node, scope)
            case Has():
                self.select(node.select, scope)
                return BOOL
            case Index():
                return self.index(node, scope)
            case Logic():
                for part in node.parts:
                    self.expect_bool(part, scope, f"on each side of {node.operator}")
                return BOOL
            case _:
                return self.composed(node, scope)

    def composed(self, node: Node, scope: Scope) -> Kind:
        match node:
            case Unary():
                return self.unary(node, scope)
            case Binary():
                return self.binary(node, scope)
            case Conditional():
                self.expect_bool(node.test, scope, "before the question mark")
                return joined([self.kind(node.yes, scope), self.kind(node.no, scope)])
            case ListOf():
                return list_of(joined([self.kind(item, scope) for item in node.items]))
            case MapOf():
                for key, _ in node.entries:
                    if self.kind(key, scope) not in (STRING, DYN):
                        raise self.error("The key of a map is text here.", key.span)
                return map_of(joined([self.kind(value, scope) for _, value in node.entries]))
            case Macro():
                return self.macro(node, scope)
            case Call():
                return self.call(node, scope)
            case _:
                raise TypeError(f"no such node: {node}")

    def expect_bool(self, node: Node, scope: Scope, where: str) -> None:
        kind = self.kind(node, scope)
        if kind not in (BOOL, DYN):
            raise self.error(f"A condition is expected {where}, but this is {kind}.", node.span)

    def select(self, node: Select, scope: Scope) -> Kind:
        operand = self.kind(node.operand, scope)
        if isinstance(operand, RecordKind):
            if node.field in operand.fields:
                return operand.fields[node.field]
            error = self.unknown(f"field of {operand}", node.field, node.field_span, operand.fields)
            if operand.extra is not None:
                error.hint = f'For a name of your own write ["{node.field}"] behind {operand}.'
            raise error
        if isinstance(operand, MapKind):
            return operand.value
        if operand == DYN:
            return DYN
        raise self.error(f"{operand} has no fields.", node.field_span)

    def index(self, node: Index, scope: Scope) -> Kind:
        operand, index = self.kind(node.operand, scope), self.kind(node.index, scope)
        if isinstance(operand, ListKind):
            if index not in (INT, DYN):
                raise self.error(f"The index of a list is a whole number, not {index}.", node.index.span)
            return operand.item
        if isinstance(operand, MapKind | RecordKind):
            if index not in (STRING, DYN):
                raise self.error(f"The key of {operand} is text, not {index}.", node.index.span)
            if isinstance(operand, MapKind):
                return operand.value
            return self.record_item(node, operand)
        if operand == DYN:
            return DYN
        raise self.error(f"{operand} has no items.", node.operand.span)

    def record_item(self, node: Index, operand: RecordKind) -> Kind:
        if isinstance(node.index, Literal) and isinstance(node.index.value, str):
            name = node.index.value
            if name in operand.fields:
                return operand.fields[name]
            if operand.extra is None:
                raise self.unknown(f"field of {operand}", name, node.index.span, operand.fields)
        return operand.extra or DYN

    def unary(self, node: Unary, scope: Scope) -> Kind:
        if node.operator == "!":
            self.expect_bool(node.operand, scope, "after !")
            return BOOL
        kind = self.kind(node.operand, scope)
        if not numeric(kind) and kind != DURATION:
            raise self.error(f"A number is expected after -, but this is {kind}.", node.operand.span)
        return kind

    def binary(self, node: Binary, scope: Scope) -> Kind:
        left, right = self.kind(node.left, scope), self.kind(node.right, scope)
        match node.operator:
            case "==" | "!=":
                if not comparable(left, right):
                    raise self.mixed(node, left, right, "can never be equal")
                return BOOL
            case "<" | "<=" | ">" | ">=":
                ordered = all(kind == DYN or kind in _ORDERED for kind in (left, right))
                if not ordered or not comparable(left, right) or NULL in (left, right):
                    raise self.mixed(node, left, right, "cannot be put in order")
                return BOOL
            case "in":
                return self.member(node, left, right)
            case _:
                return self.arithmetic(node, left, right)

    def mixed(self, node: Binary, left: Kind, right: Kind, why: str) -> CelError:
        culprit = node.right if isinstance(node.right, Literal) else node
        return self.error(f"{left} and {right} {why}.", culprit.span)

    def member(self, node: Binary, left: Kind, right: Kind) -> Kind:
        if isinstance(right, ListKind):
            if not comparable(left, right.item):
                raise self.mixed(node, left, right, "do not go together: the list can never hold it")
        elif isinstance(right, MapKind | RecordKind):
            if left not in (STRING, DYN):
                raise self.mixed(node, left, right, "do not go together: the keys are text")
        elif right != DYN:
            raise self.error(f"A list or map is expected after in, but this is {right}.", node.right.span)
        return BOOL

    def arithmetic(self, node: Binary, left: Kind, right: Kind) -> Kind:
        if numeric(left) and numeric(right):
            if node.operator == "%" and DOUBLE in (left, right):
                raise self.mixed(node, left, right, "have no remainder: % takes whole numbers")
            return DYN if DYN in (left, right) else joined([left, right])
        if DYN in (left, right):
            return DYN
        if node.operator == "+" and isinstance(left, ListKind) and isinstance(right, ListKind):
            return list_of(joined([left.item, right.item]))
        found = _ARITHMETIC.get((node.operator, left, right))
        if found is None:
            raise self.mixed(node, left, right, f"cannot be combined with {node.operator}")
        return found

    def macro(self, node: Macro, scope: Scope) -> Kind:
        target = self.kind(node.target, scope)
        if isinstance(target, ListKind):
            item = target.item
        elif isinstance(target, MapKind | RecordKind):
            item = STRING
        elif target == DYN:
            item = DYN
        else:
            raise self.error(f"{node.macro}() takes a list or a map, but this is {target}.", node.target.span)
        inner = dict(scope) | {node.variable: item}
        if node.macro == "map":
            if node.transform is None:
                return list_of(self.kind(node.body, inner))
            self.expect_bool(node.body, inner, "as the filter of map()")
            return list_of(self.kind(node.transform, inner))
        self.expect_bool(node.body, inner, f"in {node.macro}()")
        return list_of(item) if node.macro == "filter" else BOOL

    def call(self, node: Call, scope: Scope) -> Kind:
        function = FUNCTIONS.get(node.function)
        if function is None:
            if node.function == "matches":
                raise self.error(
                    "matches() is not offered: use startsWith, endsWith, contains or ==.", node.function_span
                )
            raise self.unknown("function", node.function, node.function_span, [*FUNCTIONS, *MACROS, "has"])
        if function.method_only and not node.method:
            raise self.error(f"{node.function}() stands behind a dot, as in x.{node.function}(…).", node.function_span)
        if not function.args_min <= len(node.args) <= function.args_max:
            raise self.error(f"{node.function}() takes {function.takes}.", node.span)
        try:
            return function.check([self.kind(arg, scope) for arg in node.args])
        except KindError as error:
            raise self.error(f"{node.function}() takes {function.takes}: {error}.", node.span) from None
