"""The table and the comparison of runs, without a browser or a database."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everline.errors import InvalidInputError
from everline.runs.filters import RUNS, Clause, parse_filter, parse_order
from everline.runs.types import Difference, Run, RunStatus
from everline.server.console import runs as page
from everline.server.console.view import comparison, metrics, parallel, run_table
from everline.server.console.view.run_table import Look

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).map(str.strip).filter(bool)
COLUMNS = st.one_of(st.sampled_from(sorted(run_table.FACTS)), WORDS.map("metrics.{}".format))
LOOKS = st.builds(
    Look,
    project=st.sampled_from(["default", "fraud"]),
    text=st.one_of(st.just(""), WORDS),
    experiments=st.lists(WORDS, unique=True, max_size=3).map(tuple),
    statuses=st.lists(st.sampled_from(RunStatus), unique=True).map(tuple),
    pipeline=st.one_of(st.none(), WORDS),
    without_pipeline=st.booleans(),
    sort=st.sampled_from(["", "metrics.auc DESC"]),
    group=st.sampled_from(["", "params.depth"]),
    columns=st.one_of(st.none(), st.lists(COLUMNS, unique=True, min_size=1, max_size=5).map(tuple)),
    nested=st.booleans(),
    rows=st.sampled_from(run_table.ROWS_CHOICES),
    page=st.integers(1, 9_999_999),
)


def made(name: str, **values: Any) -> Run:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    usual: dict[str, Any] = {
        "run": name.encode().hex().ljust(32, "0"), "name": name, "experiment": "e", "experiment_id": "1",
        "project": "default", "status": RunStatus.FINISHED, "started_at": now, "ended_at": now, "pipeline": None,
        "author": "a", "user": "maya", "artifact_uri": "",
    }  # fmt: skip
    return Run(**(usual | values))


@given(LOOKS)
def test_an_address_holds_all_that_was_chosen(look: Look) -> None:
    pairs = parse_qsl(look.query())
    assert run_table.read_look(pairs, project=look.project) == look
    assert run_table.read_look(parse_qsl(look.query(nested=True)), project=look.project).page == 1


@pytest.mark.parametrize(
    "address", ["col=colour", "col=metrics.", "status=sleeping", "page=-1", "page=1e9", "rows=%00", "q=%00", "page=٣"]
)
def test_an_address_that_means_nothing_is_told_so(address: str) -> None:
    with pytest.raises(InvalidInputError):
        run_table.read_look(parse_qsl(address))


@given(st.sampled_from(["params", "tags"]), WORDS, st.one_of(st.none(), st.text(max_size=12)))
def test_the_condition_of_a_group_says_what_it_means(kind: str, key: str, value: str | None) -> None:
    said = run_table.condition(kind, key, value)
    if said is None or "\x00" in said or not key.strip("."):  # no such key can be logged
        return
    entity = {"params": "parameter", "tags": "tag"}[kind]
    comparator = "IS NULL" if value is None else "="
    assert parse_filter(said, RUNS) == [Clause(entity, key, comparator, value)]
    name = run_table.quoted("metrics", key)
    assert name is not None
    assert parse_order([f"{name} DESC"], RUNS)[0].key == key


def test_bare_words_look_for_a_name() -> None:
    assert Look(text="o'hara 7").filter == "attributes.run_name ILIKE '%o''hara 7%'"
    assert Look(text="metrics.auc > 1").filter == "metrics.auc > 1"


def test_a_cell_is_the_best_only_where_the_name_tells_what_is_good() -> None:
    runs = [made("a", metrics={"auc": 0.7, "log_loss": 0.3, "epoch": 3.0}), made("b", metrics={"auc": 0.8})]
    runs.append(made("c", metrics={"auc": None, "log_loss": 0.2, "epoch": 9.0}))
    cells = run_table.cells(["metrics.auc", "metrics.log_loss", "metrics.epoch"], runs)
    assert [[cell["best"] for cell in row] for row in cells] == [
        [False, False, False],
        [True, False, False],
        [False, True, False],
    ]
    assert [row[0]["text"] for row in cells] == ["0.7", "0.8", "NaN"]
    assert [metrics.direction(key) for key in ("valid_0-rmse", "f1_macro", "latency_ms", "memory_mb")] == [-1, 1, -1, 0]


def test_a_spreadsheet_reads_no_formula() -> None:
    assert [page._csv_cell(value) for value in ("=1+1", "-0.5", "@x", "+", "plain", 3.0, None)] == [
        "'=1+1", "-0.5", "'@x", "'+", "plain", 3.0, None,
    ]  # fmt: skip


def test_a_change_is_good_or_bad_by_the_sense_of_the_metric() -> None:
    lines = [
        Difference(key="log_loss", values=[0.4, 0.3, 0.5, None], differs=True),
        Difference(key="same", values=[1.0, 1.0, 1.0, 1.0], differs=False),
    ]
    (row,) = comparison.metric_rows(lines, baseline=0, every=False)
    assert [(cell["change"], cell["tone"], cell["best"]) for cell in row["cells"]] == [
        ("", "", False),
        ("−0.1 (25 %)", "good", True),
        ("+0.1 (25 %)", "bad", False),
        ("", "", False),
    ]
    assert comparison.labels([made("a"), made("b"), made("a", run="f" * 32)]) == ["a …000000", "b", "a …ffffff"]


VALUES = st.one_of(st.none(), st.floats(allow_nan=False, width=32), st.sampled_from(["adam", "sgd", "lion"]))


@given(st.integers(1, 6).flatmap(lambda n: st.lists(st.lists(VALUES, min_size=n, max_size=n), min_size=2, max_size=14)))
def test_any_runs_are_drawn_inside_of_the_picture(columns: list[list[float | str | None]]) -> None:
    runs = [(f"{at}", f"run {at}") for at in range(len(columns[0]))]
    colour = [value if isinstance(value, float) else None for value in columns[0]]
    drawn = parallel.draw([(f"params.{at}", values) for at, values in enumerate(columns)], runs, colour=colour)
    assert drawn is not None
    assert len(drawn.axes) == min(len(columns), parallel.AXES_MAX)
    for line in drawn.lines:
        assert all(math.isfinite(height) and drawn.top - 1 <= height <= drawn.height for height in line.heights)
        assert line.tone is None or 0 <= line.tone < parallel.TONES
