"""Pictures of runs of pipelines, and what terminals are told, without a browser."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everline.pipelines.history import Outline
from everline.pipelines.types import StepStatus
from everline.server.console.view import folding, shown, terminal, timeline

START = datetime(2026, 3, 1, tzinfo=UTC)


def step(name: str, start: float, end: float | None, status: str = "succeeded") -> Outline:
    return Outline(
        uid=f"{name} {start}", name=name, position=0, status=StepStatus(status), attempts=1, reason="",
        started_at=START + timedelta(seconds=start),
        ended_at=None if end is None else START + timedelta(seconds=end),
    )  # fmt: skip


def draw(steps: list[Outline], *, now: float, lost: list[Outline] | None = None) -> timeline.Timeline:
    made = timeline.draw(steps, lost or [], now=START + timedelta(seconds=now), href=lambda uid: uid)
    assert made is not None
    return made


SPANS = st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e5), st.sampled_from("abc")), min_size=1, max_size=60)


@given(spans=SPANS)
def test_every_bar_lies_inside_of_its_picture(spans: list[tuple[float, float, str]]) -> None:
    steps = [step(f"{name}[{i}]", start, start + took) for i, (start, took, name) in enumerate(spans)]
    made = draw(steps, now=2e6)
    assert sum(bar.count for bar in made.bars) == len(steps)
    for bar in made.bars:
        assert bar.x >= timeline.LABELS - 0.1
        assert bar.x + bar.width <= made.width + 6
        assert bar.y + bar.height <= made.height - 20
    assert len(made.ticks) < 30


def test_a_thousand_calls_take_one_row_and_those_at_the_same_time_lie_side_by_side() -> None:
    steps = [step(f"fit[{i}]", i // 4, i // 4 + 0.9) for i in range(1_000)]
    made = draw([step("load", 0, 1), *steps], now=300)
    assert [(row.label, row.count) for row in made.rows] == [("load", 1), ("fit[…]", 1_000)]
    assert len({bar.y for bar in made.bars}) == 5
    assert len(made.bars) < 600
    assert sum(bar.count for bar in made.bars) == 1_001


def test_a_night_of_waiting_is_cut_short_and_what_died_ends_where_it_was_done_again() -> None:
    night = 12 * 3600.0
    made = draw(
        [step("load", 0, 10), step("ask", 10, night, "waiting"), step("publish", night, night + 10)],
        lost=[step("load", -5, None, "running")], now=night + 10,
    )  # fmt: skip
    assert "12.0 h" in made.breaks[-1].title
    by_state = {bar.state: bar for bar in made.bars}
    assert by_state["succeeded"].width > 250  # of 10 s in 12 hours
    assert by_state["lost"].title.startswith("load: lost with its driver, 5.0 s")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["fit[0]", "fit[1]"], {"fit[0]", "fit[1]"}),
        ([f"fit[{i}]" for i in range(5)], {"fit[…]"}),
        (["add", *(f"add-{i}" for i in range(2, 7))], {"add-…"}),
        ([f"part[{i}]/fit" for i in range(6)] + ["part"], {"part[…]/fit", "part"}),
    ],
)
def test_many_calls_of_one_step_have_one_name(names: list[str], found: set[str]) -> None:
    shown_as = folding.families(names)
    assert set(shown_as.values()) == found
    for name, key in shown_as.items():
        assert folding.belongs(name, key)


def test_what_many_are_in_is_what_needs_eyes_first() -> None:
    assert folding.state_of({"succeeded": 900, "failed": 1, "pending": 5}) == "failed"
    assert folding.state_of({"succeeded": 900, "pending": 5}) == "running"
    assert folding.state_of({"succeeded": 1, "cached": 9}) == "succeeded"
    assert folding.state_of({"cached": 9}) == "cached"
    assert folding.state_of({}) == "pending"


@pytest.mark.parametrize(
    ("printed", "seen"),
    [
        ("\x1b[1;31mred\x1b[0m\n", "red\n"),
        ("10 %\r20 %\r30 %\r\nnext", "30 %\nnext"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x07", "link"),
        ("\x1b[2J\x1b[Hcleared\x07\x08", "cleared"),
        ("a\x1b[", "a"),
        ("\u202eright to left", "right to left"),
        ("x" * 300_000 + "\r" + "y", "y"),
        ("\x1b]" * 100_000, ""),
    ],
)
def test_output_is_shown_as_it_would_stand_on_a_terminal(printed: str, seen: str) -> None:
    assert terminal.plain(printed) == seen


def test_metrics_of_two_stand_side_by_side_and_the_rest_is_there_too() -> None:
    evaluation = {
        "dataset": "flights",
        "n": 9,
        "metrics": {"auc": 0.8},
        "slices": [{"by": "hour", "metrics": {"auc": 1}}],
    }
    found = shown.of({"new": {"name": "m", "evaluation": evaluation}, "old": {"auc": 0.75}, "note": "try 2"})
    assert found.metrics is not None
    assert found.metrics.columns == ["Metric", "new.evaluation", "old", "Difference"]
    assert found.metrics.rows == [["auc", "0.8", "0.75", "+0.05"]]
    assert ("note", "try 2") in found.facts
    assert ("new.evaluation.n", "9") in found.facts
    assert found.tables[0].rows == [["hour", "1"]]
    assert shown.of({}).whole == ""
    assert shown.of({"a": None, "b": [], "c": {"d": [[1]]}}).metrics is None
