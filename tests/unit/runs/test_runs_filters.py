"""The search language: what it accepts, and what it refuses with a sentence."""

from __future__ import annotations

import pytest

from everline.errors import InvalidInputError
from everline.runs.filters import (
    EXPERIMENTS,
    MODEL_VERSIONS,
    MODELS,
    RUNS,
    Clause,
    Grammar,
    Order,
    fault_place,
    page_offset,
    page_token,
    parse_filter,
    parse_order,
)


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("metrics.auc > 0.7", Clause("metric", "auc", ">", 0.7)),
        ("metric.auc>=-1e-3", Clause("metric", "auc", ">=", -0.001)),
        ("metrics.`val loss` != 1", Clause("metric", "val loss", "!=", 1.0)),
        ('metrics."a/b" = .5', Clause("metric", "a/b", "=", 0.5)),
        ("metrics.a.b < 3", Clause("metric", "a.b", "<", 3.0)),
        ("params.depth = '6'", Clause("parameter", "depth", "=", "6")),
        ('params.depth = "6"', Clause("parameter", "depth", "=", "6")),
        ("param.name LIKE '%x_'", Clause("parameter", "name", "LIKE", "%x_")),
        ("parameters.name ilike 'X'", Clause("parameter", "name", "ILIKE", "X")),
        ("params.note = 'it''s'", Clause("parameter", "note", "=", "it's")),
        ("tags.team IS NULL", Clause("tag", "team", "IS NULL", None)),
        ("tags.`mlflow.source.name` is not null", Clause("tag", "mlflow.source.name", "IS NOT NULL", None)),
        ("`tags`.team = ''", Clause("tag", "team", "=", "")),
        ("attributes.status = 'RUNNING'", Clause("attribute", "status", "=", "RUNNING")),
        ("status = 'RUNNING'", Clause("attribute", "status", "=", "RUNNING")),
        ("run.start_time >= 1000", Clause("attribute", "start_time", ">=", 1000)),
        ("attr.Created < 1", Clause("attribute", "start_time", "<", 1)),
        ("attributes.`Run name` = 'x'", Clause("attribute", "run_name", "=", "x")),
        ("run_id IN ('a', 'b')", Clause("attribute", "run_id", "IN", ("a", "b"))),
        ("run_id not in ('a',)", Clause("attribute", "run_id", "NOT IN", ("a",))),
        ("dataset.name = 'flights'", Clause("dataset", "name", "=", "flights")),
        ("datasets.context IN ('train')", Clause("dataset", "context", "IN", ("train",))),
    ],
)
def test_one_condition_is_read(text: str, clause: Clause) -> None:
    assert parse_filter(text, RUNS) == [clause]


def test_conditions_are_joined_by_and_in_any_case() -> None:
    assert len(parse_filter("metrics.a > 1 and params.b='x' AND tags.c != 'y'", RUNS)) == 3


@pytest.mark.parametrize("text", ["", None])
def test_no_filter_means_everything(text: str | None) -> None:
    assert parse_filter(text, RUNS) == []


def test_an_and_too_many_says_nothing_wrong() -> None:
    assert parse_filter("AND tags.a = 'b' AND AND tags.c = 'd' AND", RUNS) == parse_filter(
        "tags.a = 'b' AND tags.c = 'd'", RUNS
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("metrics.auc > '0.7'", "numeric value"),
        ("metrics.auc LIKE 'x'", "Invalid comparator 'LIKE'"),
        ("metrics.auc == 1", "Invalid comparator '=='"),
        ("metrics.auc <> 1", "Invalid comparator '<>'"),
        ("metrics.auc IS NULL", "only supported"),
        ("params.depth = 6", "quoted string"),
        ("params.depth > '6'", "Invalid comparator '>'"),
        ("params.depth IN ('6')", "Invalid comparator 'IN'"),
        ("params.depth = `6`", "quoted string"),
        ("tags.a = 'b' OR tags.c = 'd'", "AND"),
        ("tags.a = 'b' tags.c = 'd'", "AND"),
        ("tags.a", "not complete"),
        ("tags.a =", "not complete"),
        ("'a' = 'b'", "Identifier"),
        ("color = 'red'", "Invalid attribute key 'color'"),
        ("attributes.color = 'red'", "Invalid attribute key 'color'"),
        ("colors.x = 'red'", "Invalid entity type 'colors'"),
        ("dataset.size = '1'", "Invalid dataset key 'size'"),
        ("status IN ('A')", "run_id"),
        ("run_id IN ()", "non-empty list"),
        ("run_id IN ('a' 'b')", "',' or ')'"),
        ("run_id IN (1)", "quoted string"),
        ("start_time = '1'", "numeric value"),
        ("start_time > 99999999999999999999", "64 bits"),
        ("tags.`` = 'x'", "needs a name"),
        ("; DROP TABLE run", "could not be parsed"),
        ("tags.a = 'unclosed", "could not be parsed"),
        ("   ", "Could not be parsed"),
        ("x" * 30_000, "characters"),
    ],
)
def test_everything_else_is_refused_with_a_reason(text: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said.replace("(", r"\(").replace(")", r"\)")) as caught:
        parse_filter(text, RUNS)
    assert caught.value.field == "filter"


@pytest.mark.parametrize(
    ("item", "order"),
    [
        ("metrics.auc DESC", Order("metric", "auc", False)),
        ("metrics.auc", Order("metric", "auc", True)),
        ("params.`max depth` asc", Order("parameter", "max depth", True)),
        ("`tags`.`a.b` desc", Order("tag", "a.b", False)),
        ("start_time  DESC", Order("attribute", "start_time", False)),
        ("attributes.run_name", Order("attribute", "run_name", True)),
        ("attribute.`Created` asc", Order("attribute", "start_time", True)),
    ],
)
def test_one_sort_key_is_read(item: str, order: Order) -> None:
    assert parse_order([item], RUNS) == [order]


@pytest.mark.parametrize(
    "items",
    [
        ["metrics.auc sideways"],
        ["metrics.auc DESC DESC"],
        [""],
        ["nothing"],
        ["dataset.name"],
        ["metrics.a", "metrics.a DESC"],
        ["a; b"],
    ],
)
def test_a_wrong_sort_key_is_refused(items: list[str]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_order(items, RUNS)
    assert caught.value.field == "order_by"


@pytest.mark.parametrize(
    ("text", "grammar"),
    [
        ("name = 'flight-delay'", MODELS),
        ("name ILIKE '%flight%' AND tags.team = 'x'", MODELS),
        ("name='m' AND version_number >= 2", MODEL_VERSIONS),
        ("run_id IN ('a')", MODEL_VERSIONS),
        ("source_path LIKE 'x%'", MODEL_VERSIONS),
        ("creation_time > 5 AND name LIKE 'a%'", EXPERIMENTS),
        ("tags.x IS NULL", EXPERIMENTS),
        ("experiment_id IN ('1', '2')", EXPERIMENTS),
    ],
)
def test_the_other_searches_have_their_own_words(text: str, grammar: Grammar) -> None:
    assert parse_filter(text, grammar)


@pytest.mark.parametrize(
    ("text", "grammar"),
    [("version_number = 1", MODELS), ("metrics.a = 1", MODEL_VERSIONS), ("status = 'x'", EXPERIMENTS)],
)
def test_a_word_of_another_search_is_refused(text: str, grammar: Grammar) -> None:
    with pytest.raises(InvalidInputError):
        parse_filter(text, grammar)


@pytest.mark.parametrize("token", ["x", "e30=", "bm90IGpzb24=", "eyJvZmZzZXQiOiAtMX0=", "é", "bnVsbA=="])
def test_a_foreign_page_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidInputError, match="page token"):
        page_offset(token)


def test_a_page_token_says_where_its_page_starts() -> None:
    assert page_offset(page_token(1000)) == 1000
    assert page_offset(None) == page_offset("") == 0


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("metrics.auc > 0.7", None),
        ("metrics.auc > 0.7 OR params.a = 'b'", 18),
        ("metrics.auc > 'high'", 14),
        ("metrics.auc >", 13),
        ("metrics.auc > 1 AND colour.x = 1", 20),
        ("metrics.auc > 1 AND ;", 20),
        ("   ", 0),
    ],
)
def test_a_fault_has_a_place_in_the_text(text: str, place: int | None) -> None:
    assert fault_place(text, RUNS) == place
