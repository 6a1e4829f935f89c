"""Evaluates an expression over facts: to a value, or to Unknown.

The third value follows CEL's rules for errors and unknowns: `false && unknown` is false, `true || unknown`
is true, and whatever else touches an unknown is unknown. A fact that is missing, of the wrong kind, or has no
answer (a division by zero) is unknown; nothing that a fact holds can raise.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from everline.governance.cel.functions import FUNCTIONS, TEXT_CHARS_MAX, EvaluationError, key_of, whole
from everline.governance.cel.kinds import Mismatch
from everline.governance.cel.syntax import (
    Binary,
    Call,
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
    Unary,
)

STEPS_MAX = 200_000
"""Most nodes visited for one expression: an endless comprehension ends here."""
EXAMPLES_MAX = 5
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Unknown:
    """Not known, and why."""

    why: str
    missing: bool = False
    """True if a fact is simply not there."""


class StepsExceededError(Exception):
    """The expression takes too long."""


_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Evaluator:
    """One evaluation of one expression; keeps what it saw."""

    def __init__(self, source: str, facts: Mapping[str, Any]) -> None:
        self.source = source
        self.facts = facts
        self.steps = 0
        self.seen: dict[str, Any] = {}
        """Values by path, as the expression met them; Unknown for what was missing."""

    def evaluate(self, node: Node, scope: Mapping[str, Any] | None = None) -> Any:
        """Return the value of a node, or Unknown.

        Raises:
            StepsExceededError: the work passes its bound.
        """
        return self.value(node, scope or {})

    def step(self, count: int = 1) -> None:
        self.steps += count
        if self.steps > STEPS_MAX:
            raise StepsExceededError

    def value(self, node: Node, scope: Mapping[str, Any]) -> Any:
        self.step()
        match node:
            case Literal():
                return node.value
            case Name() | Select() | Index():
                return self.path(node, scope)
            case Has():
                return self.has(node, scope)
            case Logic():
                return self.logic(node, scope)
            case Binary():
                return self.binary(node, scope)
            case Unary():
                return self.unary(node, scope)
            case Macro():
                return self.macro(node, scope)
            case _:
                return self.composed(node, scope)

    def composed(self, node: Node, scope: Mapping[str, Any]) -> Any:
        match node:
            case Conditional():
                test = self.value(node.test, scope)
                if isinstance(test, bool):
                    return self.value(node.yes if test else node.no, scope)
                return test if isinstance(test, Unknown) else Unknown("a condition is neither true nor false")
            case ListOf():
                return _first_unknown(items := [self.value(item, scope) for item in node.items]) or items
            case MapOf():
                pairs = [(self.value(key, scope), self.value(value, scope)) for key, value in node.entries]
                unknown = _first_unknown([part for pair in pairs for part in pair])
                if unknown or not all(isinstance(key, str) for key, _ in pairs):
                    return unknown or Unknown("the key of a map is not text")
                return dict(pairs)
            case Call():
                args = [self.value(arg, scope) for arg in node.args]
                if unknown := _first_unknown(args):
                    return unknown
                self.step(sum(len(arg) for arg in args if isinstance(arg, list | dict)))
                try:
                    return FUNCTIONS[node.function].run(args)
                except (EvaluationError, OverflowError) as error:
                    return Unknown(f"{node.function}(): {error}")
            case _:
                raise TypeError(f"no such node: {node}")

    # Paths into the facts: the outermost one is what a reader wants to see.

    def path(self, node: Node, scope: Mapping[str, Any]) -> Any:
        found = self.follow(node, scope)
        root = _root(node)
        if root is not None and root not in scope:
            self.seen.setdefault(self.text(node), found)
        return found

    def text(self, node: Node) -> str:
        return "".join(self.source[node.span.start : node.span.end].split())

    def follow(self, node: Node, scope: Mapping[str, Any]) -> Any:
        match node:
            case Name():
                found = scope[node.name] if node.name in scope else self.facts.get(node.name, _MISSING)
            case Select():
                operand = self.follow(node.operand, scope)
                if isinstance(operand, Unknown):
                    return operand
                found = self.get(operand, node.field, node.operand)
            case Index():
                operand, index = self.follow(node.operand, scope), self.value(node.index, scope)
                if unknown := _first_unknown([operand, index]):
                    return unknown
                found = self.get(operand, index, node.operand)
            case _:
                found = self.value(node, scope)
        if found is _MISSING:
            return Unknown(f"{self.text(node)} is missing", missing=True)
        return Unknown(f"{self.text(node)} {found.why}") if isinstance(found, Mismatch) else found

    def get(self, operand: Any, key: Any, node: Node) -> Any:
        self.step()
        if isinstance(operand, dict):
            return operand.get(key, _MISSING) if isinstance(key, str) else _MISSING
        if isinstance(operand, list):
            inside = isinstance(key, int) and not isinstance(key, bool) and 0 <= key < len(operand)
            return operand[key] if inside else _MISSING
        if operand is None:
            return Unknown(f"{self.text(node)} is null", missing=True)
        return Unknown(f"{self.text(node)} has no fields")

    def has(self, node: Has, scope: Mapping[str, Any]) -> Any:
        found = self.follow(node.select, scope)
        present: Any = not isinstance(found, Unknown)
        if isinstance(found, Unknown) and not found.missing:
            present = found
        root = _root(node.select)
        if root is not None and root not in scope:
            self.seen.setdefault(self.text(node.select), found)
        return present

    # Logic with three values.

    def logic(self, node: Logic, scope: Mapping[str, Any]) -> Any:
        decisive = node.operator == "||"
        unknown: Unknown | None = None
        for part in node.parts:
            value = self.value(part, scope)
            if value is decisive:
                return decisive
            if not isinstance(value, bool):
                unknown = unknown or _as_unknown(value)
        return unknown or (not decisive)

    def unary(self, node: Unary, scope: Mapping[str, Any]) -> Any:
        value = self.value(node.operand, scope)
        if isinstance(value, Unknown):
            return value
        if node.operator == "!":
            return not value if isinstance(value, bool) else _as_unknown(value)
        if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
            return Unknown("a number is expected after -")
        try:
            return whole(-value) if isinstance(value, int) else -value
        except EvaluationError as error:
            return Unknown(str(error))

    def binary(self, node: Binary, scope: Mapping[str, Any]) -> Any:
        left, right = self.value(node.left, scope), self.value(node.right, scope)
        if unknown := _first_unknown([left, right]):
            return unknown
        self.step(sum(len(side) for side in (left, right) if isinstance(side, list | dict)))
        try:
            return _apply(node.operator, left, right)
        except (EvaluationError, OverflowError) as error:
            return Unknown(f"{self.text(node)}: {error}")

    # Macros.

    def macro(self, node: Macro, scope: Mapping[str, Any]) -> Any:
        target = self.value(node.target, scope)
        if isinstance(target, Unknown):
            return target
        if isinstance(target, dict):
            target = list(target)
        if not isinstance(target, list):
            return Unknown(f"{self.text(node.target)} is no list")
        if node.macro == "map":
            return self.mapped(node, scope, target)
        verdicts = [self.value(node.body, {**scope, node.variable: item}) for item in target]
        if node.macro in {"all", "exists"}:
            return self.quantified(node, scope, target, verdicts)
        if unknown := next((_as_unknown(value) for value in verdicts if not isinstance(value, bool)), None):
            return unknown
        if node.macro == "exists_one":
            return sum(verdicts) == 1
        return [item for item, verdict in zip(target, verdicts, strict=True) if verdict]

    def quantified(self, node: Macro, scope: Mapping[str, Any], target: list[Any], verdicts: list[Any]) -> Any:
        """all() and exists(), and the items that decided."""
        decisive = node.macro == "exists"
        result: Any = not decisive
        if any(value is decisive for value in verdicts):
            result = decisive
        elif unknown := next((_as_unknown(value) for value in verdicts if not isinstance(value, bool)), None):
            result = unknown
        root = _root(node.target)
        if root is not None and root not in scope:
            self.show_items(self.text(node.target), target, [value is not (not decisive) for value in verdicts])
        return result

    def show_items(self, path: str, target: list[Any], decided: list[bool]) -> None:
        shown = [index for index, telling in enumerate(decided) if telling][:EXAMPLES_MAX]
        if shown:
            self.seen.pop(path, None)
            self.seen |= {f"{path}[{index}]": target[index] for index in shown}

    def mapped(self, node: Macro, scope: Mapping[str, Any], target: list[Any]) -> Any:
        result: list[Any] = []
        for item in target:
            inner = {**scope, node.variable: item}
            if node.transform is not None:
                wanted = self.value(node.body, inner)
                if not isinstance(wanted, bool):
                    return _as_unknown(wanted)
                if not wanted:
                    continue
            value = self.value(node.transform or node.body, inner)
            if isinstance(value, Unknown):
                return value
            result.append(value)
        return result


def _root(node: Node) -> str | None:
    while isinstance(node, Select | Index):
        node = node.operand
    return node.name if isinstance(node, Name) else None


def _first_unknown(values: list[Any]) -> Unknown | None:
    return next((value for value in values if isinstance(value, Unknown)), None)


def _as_unknown(value: Any) -> Unknown:
    return value if isinstance(value, Unknown) else Unknown("a condition is neither true nor false")


def _apply(sign: str, left: Any, right: Any) -> Any:
    if sign in {"==", "!="}:
        return (key_of(left) == key_of(right)) is (sign == "==")
    if sign in _ORDER:
        if not _ordered(left, right):
            raise EvaluationError("these cannot be put in order")
        return _ORDER[sign](left, right)
    if sign == "in":
        if isinstance(right, list):
            return any(key_of(left) == key_of(item) for item in right)
        if isinstance(right, dict):
            return isinstance(left, str) and left in right
        raise EvaluationError("this is no list or map")
    return _arithmetic(sign, left, right)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ordered(left: Any, right: Any) -> bool:
    if _number(left) and _number(right):
        return True
    return type(left) is type(right) and isinstance(left, str | bool | datetime | timedelta)


def _arithmetic(sign: str, left: Any, right: Any) -> Any:
    if _number(left) and _number(right):
        return _count(sign, left, right)
    if sign == "+" and isinstance(left, str) and isinstance(right, str):
        if len(left) + len(right) > TEXT_CHARS_MAX:
            raise EvaluationError("the text becomes too long")
        return left + right
    if sign == "+" and isinstance(left, list) and isinstance(right, list):
        return left + right
    times = (datetime, timedelta)
    if sign in {"+", "-"} and isinstance(left, times) and isinstance(right, times):
        try:
            return left + right if sign == "+" else left - right  # type: ignore[operator]
        except TypeError as error:
            raise EvaluationError("these times cannot be combined") from error
    raise EvaluationError(f"these cannot be combined with {sign}")


def _count(sign: str, left: int | float, right: int | float) -> int | float:
    """Arithmetic; division of whole numbers goes towards zero, as CEL and C have it."""
    if sign == "+":
        result = left + right
    elif sign == "-":
        result = left - right
    elif sign == "*":
        result = left * right
    elif right == 0:
        raise EvaluationError("division by zero")
    elif isinstance(left, float) or isinstance(right, float):
        if sign == "%":
            raise EvaluationError("% takes whole numbers")
        result = left / right
    else:
        quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        result = quotient if sign == "/" else left - quotient * right
    return whole(result) if isinstance(result, int) else result
