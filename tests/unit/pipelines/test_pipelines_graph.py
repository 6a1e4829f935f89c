"""Pipelines are checked when they are built: before anything runs, with both ends of an edge named."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pandas as pd
import polars as pl
import pytest

import everline as el
from everline.errors import InvalidInputError
from everline.pipelines.graph import fits


@el.step
def rows(n: int) -> el.Table: ...


@el.step
def both(table: el.Table) -> tuple[el.Table, int]: ...


@el.step
def count(table: el.Table, factor: float = 1.0) -> int: ...


@el.step
def from_pandas(frame: pd.DataFrame) -> pl.DataFrame: ...


def build(body: Any, **parameters: Any) -> Any:
    @el.pipeline(name="p")
    def made(n: int = 3) -> Any:
        return body(n)

    return made.build(**parameters)


def test_calls_become_nodes_in_order_and_repeated_steps_get_names_of_their_own() -> None:
    graph = build(lambda n: count(both(rows(n))[0]) if False else [count(rows(n)), count(rows(n))])
    assert [node.name for node in graph.nodes] == ["rows", "count", "rows-2", "count-2"]


def test_a_fixed_tuple_is_taken_apart_while_the_graph_is_built() -> None:
    def body(n: int) -> Any:
        left, number = both(rows(n))
        return count(left, factor=number)

    assert [node.name for node in build(body).nodes] == ["rows", "both", "count"]


def test_a_wrong_edge_names_both_ends() -> None:
    with pytest.raises(InvalidInputError, match=r"Step 'count' takes table: el\.Table, but step 'count' gives int"):
        build(lambda n: count(count(rows(n))))


def test_a_wrong_constant_names_step_and_parameter() -> None:
    with pytest.raises(InvalidInputError, match=r"Step 'rows' takes n: int, but was given 'many'") as caught:
        build(lambda n: rows("many"))
    assert caught.value.field == "n"


def test_a_missing_argument_names_the_step() -> None:
    with pytest.raises(InvalidInputError, match="Step 'count' cannot be called like this: missing a required argument"):
        build(lambda n: count())


def test_tables_fit_whatever_library_an_annotation_names() -> None:
    graph = build(lambda n: count(from_pandas(rows(n))))
    assert len(graph.nodes) == 3


def test_a_result_has_no_truth_value_while_the_graph_is_built() -> None:
    with pytest.raises(InvalidInputError, match="'rows' is not known while the graph is built"):
        build(lambda n: rows(n) or None)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [({"m": 1}, "has no parameter 'm'"), ({"n": "three"}, "'n' of pipeline 'p' must be int")],
)
def test_wrong_parameters_are_named(parameters: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        build(lambda n: rows(n), **parameters)


def test_text_of_the_command_line_is_read_as_the_annotated_type() -> None:
    @el.pipeline
    def p(n: int, names: list[str], rate: float = 0.5, on: bool = False) -> None:
        rows(n)

    bound = p.bind({"n": "7", "names": '["a", "b"]', "on": "true"}, strict=False)
    assert bound == {"n": 7, "names": ["a", "b"], "rate": 0.5, "on": True}


def test_a_step_without_annotations_is_refused_at_once() -> None:
    with pytest.raises(InvalidInputError, match="does not say what type its parameter 'x' has"):

        @el.step
        def bad(x) -> int: ...  # type: ignore[no-untyped-def]

    with pytest.raises(InvalidInputError, match="does not say what it returns"):

        @el.step
        def worse(x: int): ...  # type: ignore[no-untyped-def]


def test_a_pipeline_without_steps_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="calls no step"):
        build(lambda n: None)


def test_a_dataset_outside_a_pipeline_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="called outside a pipeline"):
        el.dataset("flights")


def test_a_pipeline_inside_a_pipeline_joins_its_graph() -> None:
    @el.pipeline
    def inner(n: int) -> Any:
        return rows(n)

    assert [node.name for node in build(lambda n: count(inner(n))).nodes] == ["inner/rows", "count"]


def test_a_step_outside_a_pipeline_is_the_plain_function() -> None:
    @el.step
    def double(x: int) -> int:
        return 2 * x

    assert double(4) == 8


@pytest.mark.parametrize(
    ("given", "wanted", "fit"),
    [
        (int, float, True), (bool, int, True), (int, int | None, True), (int | None, int, False),
        (list[int], list[str], False), (list[int], list, True), (dict, Any, True), (str, int, False),
        (el.Model, el.Table, False), (el.Table, pd.DataFrame, True),
    ],
)  # fmt: skip
def test_which_types_fit(given: Any, wanted: Any, fit: bool) -> None:
    assert fits(given, wanted) is fit


def test_the_public_names_load_without_numpy_or_arrow() -> None:
    names = "el.step, el.pipeline, el.dataset, el.evaluate, el.candidate, el.Table, el.Model, el.Resources"
    heavy = "[m for m in ('numpy', 'pyarrow', 'pandas', 'sqlalchemy') if m in sys.modules]"
    code = f"import sys, everline as el; ({names}); print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
