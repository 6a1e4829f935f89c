"""Whatever text a stranger sends as a policy: refused with a sentence, or judged within its bounds; never a crash."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from everline.errors import InvalidInputError
from everline.governance.cel.evaluator import STEPS_MAX, Evaluator
from everline.governance.cel.program import compile_expression, together
from everline.governance.document import compile_document
from everline.governance.schemas import SCOPE
from everline.governance.types import Outcome

FACTS: dict[str, Any] = {
    "evaluation": {"n": 3, "metrics": {"auc": 0.7}, "slices": [{"by": "a", "value": None, "n": 1, "metrics": {}}]},
    "champion": None,
    "approvals": [],
    "evidence": {"x": [[1], {"a": float("nan")}, "s", None]},
    "now": "2026-11-28T00:00:00Z",
}
WORDS = (
    "evaluation", "evaluation.slices", "evaluation.n", "champion", "evidence", "evidence.x", "now", "approvals", "x",
    "s", "s.n", "1", "0", "-9223372036854775808", "9223372036854775807", "1e308", "'a'", "true", "null", "[]", "{}",
    "&&", "||", "!", "-", "==", "<", "in", "?", ":", "+", "*", "/", "%", "(", ")", "[", "]", ",", ".", ".all(s,",
    ".exists(s,", ".map(s,", ".filter(s,", ".size()", "size(", "sum(", "max(", "timestamp(", "duration(", "has(",
    "distinct(", "string(", "int(", "double(", ".getHours(", "\\", '"', "\x00", "€",
)  # fmt: skip
expressions = st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map(" ".join) | st.text(max_size=200)


@settings(max_examples=400, deadline=None)
@given(expressions)
def test_any_expression_is_refused_or_judged(source: str) -> None:
    try:
        program = compile_expression(source, scope=SCOPE)
    except InvalidInputError as error:
        assert error.message
        return
    clauses = program.judge(FACTS)
    assert together(clauses) in Outcome
    evaluator = Evaluator(source, FACTS)
    assert evaluator.steps <= STEPS_MAX


PIECES = (
    "[[rules]]\n", 'name = "a"\n', "a.b.c = 1\n", "[x", "]" * 50, '"""', "= {", "cases = [[[[", "\n", "reason = 'r'\n",
    "title = 't'\n", "expression = 'true'\n",
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=400) | st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_any_document_is_refused_or_compiled(source: str) -> None:
    try:
        compile_document(source)
    except InvalidInputError as error:
        assert error.message
