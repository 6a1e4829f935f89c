"""A rule's expression, ready to be judged: parsed, checked, and cut into its clauses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from everline.clock import rfc3339
from everline.governance.cel.checker import Scope, check
from everline.governance.cel.evaluator import STEPS_MAX, Evaluator, StepsExceededError, Unknown
from everline.governance.cel.kinds import BOOL, DYN, conform
from everline.governance.cel.parser import parse
from everline.governance.cel.syntax import CelError, Logic, Node
from everline.governance.types import ClauseVerdict, Outcome, Seen

_ITEMS_SHOWN_MAX = 8
_FIELDS_SHOWN_MAX = 16
_TEXT_SHOWN_MAX = 200


@dataclass(frozen=True, slots=True)
class Program:
    """One expression that says yes, no, or not known."""

    source: str
    scope: Scope
    clauses: tuple[Node, ...]

    def judge(self, facts: Mapping[str, Any]) -> list[ClauseVerdict]:
        """Say for each clause whether it holds, and what it saw.

        Args:
            facts: JSON values by name; brought to their kinds here, and unknown where they don't fit.
        """
        known = {name: conform(value, self.scope[name]) for name, value in facts.items() if name in self.scope}
        return [self._clause(node, known) for node in self.clauses]

    def _clause(self, node: Node, facts: Mapping[str, Any]) -> ClauseVerdict:
        evaluator = Evaluator(self.source, facts)
        try:
            value = evaluator.evaluate(node)
        except StepsExceededError:
            value = Unknown(f"it was stopped after {STEPS_MAX} steps")
        if isinstance(value, bool):
            outcome, note = Outcome.PASS if value else Outcome.FAIL, None
        else:
            outcome = Outcome.UNKNOWN
            note = value.why if isinstance(value, Unknown) else "it is neither true nor false"
        seen = [_seen(path, found) for path, found in evaluator.seen.items()]
        text = " ".join(self.source[node.span.start : node.span.end].split())
        return ClauseVerdict(text=text, outcome=outcome, values=seen, note=note)


def compile_expression(source: str, *, scope: Scope) -> Program:
    """Parse and check an expression.

    Raises:
        CelError: not an expression, or one that does not go with the facts; shows where.
    """
    root = parse(source)
    kind = check(root, source=source, scope=scope)
    if kind not in (BOOL, DYN):
        raise CelError(f"A rule says true or false, but this is {kind}.", source=source, span=root.span)
    clauses = root.parts if isinstance(root, Logic) and root.operator == "&&" else (root,)
    return Program(source=source, scope=scope, clauses=clauses)


def together(clauses: list[ClauseVerdict]) -> Outcome:
    """The outcome of several clauses: one failure fails, else one unknown leaves it unknown."""
    outcomes = {clause.outcome for clause in clauses}
    for outcome in (Outcome.FAIL, Outcome.UNKNOWN):
        if outcome in outcomes:
            return outcome
    return Outcome.PASS


def _seen(path: str, value: Any) -> Seen:
    if isinstance(value, Unknown):
        return Seen(path=path, value=None, missing=True)
    return Seen(path=path, value=_shown(value))


def _shown(value: Any) -> Any:
    """A value as a verdict shows it: short, and in JSON."""
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, str):
        return value if len(value) <= _TEXT_SHOWN_MAX else value[:_TEXT_SHOWN_MAX] + "…"
    if isinstance(value, list):
        scalars = all(not isinstance(item, list | dict) for item in value)
        short = scalars and len(value) <= _ITEMS_SHOWN_MAX
        return [_shown(item) for item in value] if short else f"{len(value)} items"
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in list(value.items())[:_FIELDS_SHOWN_MAX]}
    return value if value is None or isinstance(value, int | float) else str(getattr(value, "why", value))
