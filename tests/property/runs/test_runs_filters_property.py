"""The search language on texts that nobody would write."""

from __future__ import annotations

import contextlib

from hypothesis import example, given, settings
from hypothesis import strategies as st

from everline.errors import InvalidInputError
from everline.runs.filters import RUNS, Clause, page_offset, page_token, parse_filter, parse_order

keys = st.text(st.characters(blacklist_characters="`\x00", blacklist_categories=("Cs",)), min_size=1, max_size=20)
values = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\\\x00"), max_size=30)


@given(st.text(max_size=200))
@example("'\\'" * 50)
@example("metrics.a" + ".a" * 90)
@example("(" * 100)
def test_any_text_is_parsed_or_refused_never_a_crash(text: str) -> None:
    for parse in (lambda: parse_filter(text, RUNS), lambda: parse_order([text], RUNS)):
        try:
            parse()
        except InvalidInputError as error:
            assert error.field in {"filter", "order_by"}


@given(keys, values)
def test_a_quoted_parameter_condition_comes_back_whole(key: str, value: str) -> None:
    quoted = value.replace("'", "''")
    assert parse_filter(f"params.`{key}` = '{quoted}'", RUNS) == [Clause("parameter", key, "=", value)]


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([">", ">=", "=", "!=", "<", "<="]))
def test_a_metric_condition_keeps_its_number(number: float, comparator: str) -> None:
    assert parse_filter(f"metrics.auc {comparator} {number!r}", RUNS) == [Clause("metric", "auc", comparator, number)]


@settings(deadline=2000)
@given(st.integers(min_value=1, max_value=40))
def test_time_grows_with_the_length_only(times: int) -> None:
    with contextlib.suppress(InvalidInputError):
        parse_filter("metrics.a = 1 AND " * times + "'" + "\\'" * 200, RUNS)


@given(st.integers(min_value=0, max_value=2**53 - 1))
def test_page_tokens_round_trip(offset: int) -> None:
    assert page_offset(page_token(offset)) == offset
