"""Fan-out, branches, parts that depend on results, questions and secrets: checked when built, right when run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import everline as el
from everline.clock import SystemClock
from everline.errors import InvalidInputError
from everline.pipelines.executors.inline import InlineExecutor
from everline.pipelines.executors.tasks import RunFacts
from everline.pipelines.executors.work import Workshop
from everline.pipelines.scheduler import Scheduler
from everline.pipelines.types import RunCancelledError, RunWaitingError, StepFailedError
from everline.pipelines.values import Approval
from tests_support.results import Records, Results

CALLS: list[Any] = []


class NoData:
    def resolve(self, ref: Any) -> Any:
        raise AssertionError("no datasets here")


class World:
    def __init__(self, root: Path) -> None:
        self.records, self.results, self.root = Records(), Results(), root

    def run(self, pipeline: Any, *, done: Any = None, **parameters: Any) -> Any:
        """What the pipeline returned; `ends` has how each step ended."""
        CALLS.clear()
        workshop = Workshop(store=self.results, rows=lambda asked: None, client=None)
        scheduler = Scheduler(
            journal=self.records, executor=InlineExecutor(workshop, clock=SystemClock()), store=self.results,
            data=NoData(), clock=SystemClock(), root=self.root, done=done or {},
            facts=RunFacts(
                run="r", origin="r", pipeline="m:p", code="c", environment="e", environment_recorded=True,
                code_recorded=True, seed=None,
            ),
        )  # fmt: skip
        graph = pipeline.build(**parameters)
        self.ends = {end.name: end for end in scheduler.run(graph)}
        return scheduler.results.plain(graph.result)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@el.step
def square(value: int, plus: int = 0) -> int:
    CALLS.append(value)
    return value * value + plus


@el.step
def add_up(values: list[int]) -> int:
    return sum(values)


@el.step
def numbers(n: int) -> list[int]:
    return list(range(n))


@el.step
def is_large(value: int) -> bool:
    return value > 10


@el.step
def say(word: str) -> str:
    CALLS.append(word)
    return word


@el.step
def table(n: int) -> el.Table:
    return pa.table({"x": list(range(n))})


@el.step
def count(table: el.Table) -> int:
    return table.num_rows


# --- fan-out ----------------------------------------------------------------------------------------------------------


@el.pipeline
def fan_out(n: int = 4) -> int:
    return add_up(el.map(square, list(range(n)), plus=1))


@el.pipeline
def fan_out_of_a_result(n: int = 4) -> int:
    return add_up(el.map(square, numbers(n), plus=1))


def test_a_step_is_called_for_each_item_of_a_list(world: World) -> None:
    assert world.run(fan_out) == 0 + 1 + 4 + 9 + 4
    assert [name for name in world.ends if name.startswith("square")] == [f"square[{i}]" for i in range(4)]


def test_a_list_whose_length_a_step_decides_gives_the_same_and_shares_the_cache(world: World) -> None:
    first = world.run(fan_out)
    assert world.run(fan_out_of_a_result) == first
    assert CALLS == []  # the same calls, under the same keys
    assert world.run(fan_out_of_a_result, n=6) == first + 17 + 26
    assert CALLS == [4, 5]
    assert world.run(fan_out_of_a_result, n=0) == 0


@el.pipeline
def squared_twice(value: int) -> int:
    return square(square(value))


@el.pipeline
def map_of_pipelines(n: int = 3) -> int:
    return add_up(el.map(squared_twice, numbers(n)))


def test_a_pipeline_is_mapped_too(world: World) -> None:
    assert world.run(map_of_pipelines) == 0 + 1 + 16
    assert "squared_twice[2]/square-2" in world.ends


def test_outside_of_a_pipeline_a_map_is_a_loop() -> None:
    assert el.map(square, [1, 2, 3], plus=1) == [2, 5, 10]


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda: el.map(square, count(table(2))), "takes a list, but was given step 'count' of type int"),
        (lambda: el.map(say, numbers(2)), "takes word: str, but the items of step 'numbers' are int"),
        (lambda: el.map(square, ["a"]), "takes value: int, but was given 'a'"),
        (lambda: el.map(square, [1], other=2), "has no parameter 'other'"),
        (lambda: add_up([square(1), say("x")]), "takes values: int, but step 'say' gives str"),
        (lambda: el.when(square(1), lambda: say("x")), "takes a condition of type bool, but was given step 'square'"),
        (lambda: el.map(len, [1]), "takes a step or a pipeline"),
        (lambda: el.dynamic(squared_twice, other=1), "has no parameter 'other'"),
        (lambda: el.approval("Ship?", role="king"), "There is no role 'king'"),
        (lambda: el.approval(" "), "A question has 1 to 2000 characters"),
        (lambda: say(el.secret("not a name")), "names no secret"),
        (lambda: square(el.secret("TOKEN")), "takes value: int, but a secret is text"),
    ],
)
def test_a_wrong_shape_is_an_error_before_anything_runs(function: Any, sentence: str) -> None:
    @el.pipeline
    def wrong() -> Any:
        return function()

    with pytest.raises(InvalidInputError) as caught:
        wrong.build()
    assert sentence in caught.value.message


def test_a_pipeline_that_forgets_its_return_or_returns_another_type_says_so() -> None:
    @el.pipeline
    def forgets() -> int:
        square(1)  # type: ignore[return]

    @el.pipeline
    def another() -> str:
        return square(1)  # type: ignore[return-value]

    with pytest.raises(InvalidInputError, match="says that it returns int, and returns nothing"):
        forgets.build()
    with pytest.raises(InvalidInputError, match="says that it returns str, but step 'square' gives int"):
        another.build()


# --- branches ---------------------------------------------------------------------------------------------------------


@el.pipeline
def branches(value: int = 2) -> str:
    large = is_large(square(value))
    return say(el.when(large, lambda: say("large"), lambda: say("small")))


def test_one_branch_runs_and_the_other_is_skipped_with_its_reason(world: World) -> None:
    assert world.run(branches) == "small"
    assert CALLS == [2, "small", "small"]
    assert world.ends["say"].status == "skipped"
    assert "step 'is_large' gave False" in world.ends["say"].reason
    assert world.run(branches, value=9) == "large"


@el.pipeline
def branch_without_another(value: int = 2) -> str | None:
    return el.when(is_large(value), lambda: say("large"))


def test_a_branch_that_is_not_there_gives_nothing(world: World) -> None:
    assert world.run(branch_without_another) is None
    assert world.run(branch_without_another, value=11) == "large"


def test_a_result_of_a_branch_cannot_be_taken_outside_of_it() -> None:
    @el.pipeline
    def leaks() -> str:
        inside = []
        el.when(is_large(1), lambda: inside.append(say("x")) or inside[0])
        return say(inside[0])

    with pytest.raises(InvalidInputError, match="takes the result of step 'say', whose branch may not be taken"):
        leaks.build()


# --- parts that depend on results -------------------------------------------------------------------------------------


@el.pipeline
def until_large(value: int) -> int:
    if value > 1000:
        return square(value, plus=1)
    return el.dynamic(until_large, value=square(value))


@el.pipeline
def loop(start: int = 2) -> int:
    return el.dynamic(until_large, value=square(start))


def test_a_dynamic_pipeline_decides_on_values_and_may_call_itself(world: World) -> None:
    assert world.run(loop) == 65536 * 65536 + 1
    assert CALLS == [2, 4, 16, 256, 65536]


@el.pipeline
def sized(rows: int, data: el.Table) -> int:
    return add_up([count(data) for _ in range(rows)])


@el.pipeline
def passes_tables_on(n: int = 3) -> int:
    return el.dynamic(sized, rows=count(table(n)), data=table(n))


def test_tables_go_through_a_dynamic_pipeline_by_reference(world: World) -> None:
    assert world.run(passes_tables_on) == 9


# --- people and secrets -----------------------------------------------------------------------------------------------


@el.pipeline
def asks(value: int = 3, required: bool = True) -> str:
    found = square(value)
    answer = el.approval("Go on?", role="approver", show=found, required=required)
    return describe(answer)


@el.step
def describe(answer: el.Approval) -> str:
    return f"{answer.by} said {answer.approved}: {answer.reason}"


def test_a_run_waits_for_an_answer_and_goes_on_with_it(world: World) -> None:
    with pytest.raises(RunWaitingError, match="waits for an answer to 'approval'"):
        world.run(asks)
    (asked, *_) = world.records.asked
    assert (asked.question, asked.role, asked.shown) == ("Go on?", "approver", {"shown": 9})
    world.records.answers["approval"] = Approval(approved=True, by="ann", role="approver", reason="fine")
    assert world.run(asks) == "ann said True: fine"
    assert world.ends["approval"].reason == "ann said yes"


def test_a_no_fails_the_run_unless_it_may_be_an_answer(world: World) -> None:
    world.records.answers["approval"] = Approval(approved=False, by="bob", role="approver", reason="too early")
    with pytest.raises(StepFailedError, match=r"Rejected: bob \(approver\) said no: too early"):
        world.run(asks)
    assert world.run(asks, required=False) == "bob said False: too early"


def test_an_answer_holds_for_what_was_shown(world: World) -> None:
    with pytest.raises(RunWaitingError):
        world.run(asks)
    with pytest.raises(RunWaitingError):
        world.run(asks, value=4)
    first, second = world.records.asked
    assert first.material != second.material


@el.step
def login(token: str) -> int:
    return len(token)


@el.pipeline
def logs_in() -> int:
    return login(el.secret("MY_TOKEN"))


def test_a_secret_reaches_the_step_and_no_record(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StepFailedError, match="The secret MY_TOKEN has no value here"):
        world.run(logs_in)
    monkeypatch.setenv("MY_TOKEN", "s3cr3t-value")
    assert world.run(logs_in) == 12
    assert world.ends["login"].material.inputs == {"token": {"secret": "MY_TOKEN"}}
    assert "s3cr3t" not in repr(world.records.batches)


# --- going on, and stopping -------------------------------------------------------------------------------------------


@el.step(cache=False)
def uncached(value: int) -> int:
    CALLS.append("uncached")
    return value + 1


@el.step
def fails_once(value: int) -> int:
    if not (fails_once.ready):  # type: ignore[attr-defined]
        raise OSError("not now")
    return value


@el.pipeline
def stops() -> int:
    return fails_once(uncached(1))


def test_a_resumed_run_does_not_even_do_again_what_is_never_cached(world: World) -> None:
    fails_once.ready = False  # type: ignore[attr-defined]
    with pytest.raises(StepFailedError):
        world.run(stops)
    done = {u.name: u for batch in world.records.batches for u in batch if u.status == "succeeded"}
    fails_once.ready = True  # type: ignore[attr-defined]
    world.run(stops, done=done)
    assert CALLS == []
    world.run(stops)
    assert CALLS == ["uncached"]


def test_a_cancelled_run_stops_before_its_next_step(world: World) -> None:
    world.records.cancelled_by = "ann"
    with pytest.raises(RunCancelledError, match="was cancelled by ann"):
        world.run(fan_out)
    assert CALLS == []
    assert {update.status for update in world.records.batches[-1]} <= {"cancelled", "running"}
