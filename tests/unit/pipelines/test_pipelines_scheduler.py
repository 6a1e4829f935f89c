"""The scheduler: reuse, verification, retries, seeds, failures, shapes; on results and records in memory."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

import everline as el
from everline.clock import FixedClock
from everline.errors import InvalidInputError
from everline.ids import digest_bytes
from everline.pipelines.executors.inline import InlineExecutor
from everline.pipelines.executors.tasks import RunFacts
from everline.pipelines.executors.work import Workshop
from everline.pipelines.graph import DatasetRef
from everline.pipelines.scheduler import Scheduler
from everline.pipelines.types import DatasetUse, StepFailedError, StepStatus
from tests_support.results import Records, Results

CALLS: list[str] = []


class Data:
    table = pa.table({"x": [1, 2, 3]})

    def resolve(self, ref: DatasetRef) -> tuple[DatasetUse, ...]:
        return (DatasetUse(name=ref.name, version=1, digest=digest_bytes(str(self.table.to_pydict()).encode())),)


class World:
    """Everything that outlives a run."""

    def __init__(self, root: Path) -> None:
        self.records, self.results, self.data, self.root = Records(), Results(), Data(), root

    def run(
        self, pipeline: Any, *, cache: bool = True, skip: bool = False, environment: str = "e", done: Any = None,
        **parameters: Any,
    ) -> Any:  # fmt: skip
        CALLS.clear()
        clock = FixedClock(datetime(2013, 1, 1, tzinfo=UTC))
        workshop = Workshop(store=self.results, rows=lambda asked: self.data.table, client=None)
        self.scheduler = Scheduler(
            journal=self.records, executor=InlineExecutor(workshop, clock=clock), store=self.results, data=self.data,
            clock=clock, root=self.root, cache=cache, skip_effects=skip, done=done or {},
            facts=RunFacts(
                run="r2", origin="r2", pipeline="m:p", code="c", environment=environment, environment_recorded=True,
                code_recorded=True, seed=1,
            ),
        )  # fmt: skip
        self.graph = pipeline.build(**parameters)
        return {end.name: end for end in self.scheduler.run(self.graph)}

    def value(self) -> Any:
        """What the pipeline of the last run returned, read from its results."""
        return self.scheduler.results.plain(self.graph.result)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@el.step
def numbers(n: int) -> list[int]:
    CALLS.append("numbers")
    return list(range(n))


@el.step
def parity(values: list[int]) -> int:
    CALLS.append("parity")
    return len(values) % 2


@el.step
def last(value: int) -> int:
    CALLS.append("last")
    return value + 1


@el.pipeline
def chain(n: int = 4) -> int:
    return last(parity(numbers(n)))


def test_the_second_run_takes_everything_from_the_cache(world: World) -> None:
    first = world.run(chain)
    assert CALLS == ["numbers", "parity", "last"]
    second = world.run(chain)
    assert CALLS == []
    assert {end.status for end in second.values()} == {StepStatus.CACHED}
    assert [end.outputs for end in second.values()] == [end.outputs for end in first.values()]
    assert second["last"].cached_from == "r1"


def test_an_unchanged_result_cuts_off_what_would_run_again(world: World) -> None:
    world.run(chain, n=4)
    world.run(chain, n=6)
    assert CALLS == ["numbers", "parity"]


def test_another_environment_runs_everything_again(world: World) -> None:
    world.run(chain)
    world.run(chain, environment="other")
    assert CALLS == ["numbers", "parity", "last"]


def test_without_the_cache_everything_runs_and_is_kept(world: World) -> None:
    world.run(chain, cache=False)
    assert world.run(chain, cache=False)["last"].reason == "the cache was switched off for this run"
    assert CALLS == ["numbers", "parity", "last"]
    world.run(chain)
    assert CALLS == []


@el.step
def rows(n: int) -> el.Table:
    CALLS.append("rows")
    return pa.table({"x": list(range(n))})


@el.pipeline
def tabled(n: int = 3) -> int:
    return total(rows(n))


def test_an_altered_result_is_computed_again_and_the_record_says_so(world: World) -> None:
    first = world.run(tabled)
    digest = first["rows"].outputs[0].files[0].digest
    whole = world.results[digest]
    world.results[digest] = whole[:-1] + b"?"
    again = world.run(tabled)
    assert CALLS == ["rows"]
    assert "could not be trusted" in again["rows"].reason
    assert again["rows"].outputs == first["rows"].outputs
    assert world.results[digest] == whole


def test_an_altered_value_in_the_record_itself_is_computed_again_too(world: World) -> None:
    first = world.run(chain)
    key = first["parity"].key
    (ref,) = world.records.kept[key].outputs
    forged = msgspec.structs.replace(ref, files=(msgspec.structs.replace(ref.files[0], text="1"),))
    world.records.kept[key] = msgspec.structs.replace(world.records.kept[key], outputs=(forged,))
    again = world.run(chain)
    assert CALLS == ["parity"]
    assert again["parity"].outputs == first["parity"].outputs


def test_a_lost_result_is_computed_again(world: World) -> None:
    first = world.run(tabled)
    del world.results[first["rows"].outputs[0].files[0].digest]
    world.run(tabled)
    assert CALLS == ["rows"]


def test_a_running_step_is_recorded_before_its_work_starts(world: World) -> None:
    world.run(chain)
    statuses = [[(step.name, step.status.value) for step in batch] for batch in world.records.batches]
    assert statuses == [
        [("numbers", "running")],
        [("numbers", "succeeded"), ("parity", "running")],
        [("parity", "succeeded"), ("last", "running")],
        [("last", "succeeded")],
    ]


@el.step(retries=2, retry_wait_s=0)
def shaky(succeeds_at: int) -> int:
    CALLS.append("shaky")
    if len(CALLS) < succeeds_at:
        raise OSError("not yet")
    return 1


@el.pipeline
def retried(succeeds_at: int = 3) -> int:
    return last(shaky(succeeds_at))


def test_a_failing_step_is_tried_again_as_often_as_it_says(world: World) -> None:
    assert world.run(retried)["shaky"].attempts == 3


def test_a_step_that_fails_for_good_ends_the_run_with_its_name_and_reason(world: World) -> None:
    with pytest.raises(
        StepFailedError, match="Step 'shaky' of pipeline 'm:p' failed after 3 attempts: OSError: not yet"
    ):
        world.run(retried, succeeds_at=9)
    failed = world.records.batches[-1][-1]
    assert failed.status is StepStatus.FAILED
    assert failed.error is not None and failed.error.type == "OSError"
    assert "raise OSError" in failed.error.traceback
    assert "last" not in CALLS


@el.step
def noise(n: int) -> list[float]:
    return [random.random() for _ in range(n)] + [float(np.random.rand())]


@el.pipeline
def noisy(n: int = 2) -> list[float]:
    return noise(n)


def test_global_random_numbers_depend_on_the_step_alone(world: World) -> None:
    first = world.run(noisy, cache=False)
    random.random()
    np.random.rand()
    assert world.run(noisy, cache=False)["noise"].outputs == first["noise"].outputs
    assert world.run(noisy, n=3)["noise"].outputs != first["noise"].outputs


@el.step
def total(table: el.Table) -> int:
    CALLS.append("total")
    return sum(table["x"].to_pylist())


@el.pipeline
def from_data() -> int:
    return total(el.dataset("flights"))


def test_new_data_runs_the_step_again_and_lineage_reaches_it(world: World) -> None:
    world.run(from_data)
    world.run(from_data)
    assert CALLS == []
    world.data.table = pa.table({"x": [1, 2, 4]})
    world.run(from_data)
    assert CALLS == ["total"]


@el.step(effect=True)
def tell(value: int, context: el.RunContext | None = None) -> str:
    CALLS.append("tell")
    assert context is not None
    return context.run


@el.step
def after(text: str) -> str:
    CALLS.append("after")
    return text


@el.pipeline
def with_effect() -> str:
    return after(tell(total(el.dataset("flights"))))


def test_an_effect_happens_every_time_and_never_in_a_rebuild(world: World) -> None:
    world.run(with_effect)
    world.run(with_effect)
    assert CALLS == ["tell"]
    ends = world.run(with_effect, skip=True, cache=False)
    assert CALLS == ["total"]
    assert list(ends) == ["total"]


@el.step
def wrong(n: int) -> el.Table:
    return n  # type: ignore[return-value]


@el.pipeline
def announces() -> Any:
    return total(wrong(1))


def test_a_result_of_another_type_than_announced_fails_the_step_that_made_it(world: World) -> None:
    with pytest.raises(StepFailedError, match="Step 'wrong' .* announced el.Table and returned a int"):
        world.run(announces)


@el.step(variables=("A_REGION",), files=("rates.json",))
def priced() -> str:
    CALLS.append("priced")
    return "x"


@el.pipeline
def prices() -> str:
    return priced()


def test_declared_variables_and_files_count_by_what_they_hold(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match="The file 'rates.json' that a step declares is not in the project"):
        world.run(prices)
    rates = world.root / "rates.json"
    rates.write_text("1")
    monkeypatch.setenv("A_REGION", "north")
    world.run(prices)
    world.run(prices)
    assert CALLS == []
    monkeypatch.setenv("A_REGION", "south")
    world.run(prices)
    rates.write_text("2")
    world.run(prices)
    assert CALLS == ["priced"]


@el.step
def add_up(parts: list[int], by_name: dict[str, int]) -> int:
    return sum(parts) + sum(by_name.values())


@el.pipeline
def fan_in(n: int = 3) -> int:
    parts = [last(i) for i in range(n)]
    return add_up(parts, {"first": parts[0]})


def test_results_inside_lists_and_dicts_are_filled_in(world: World) -> None:
    ends = world.run(fan_in)
    assert world.value() == 7
    assert ends["add_up"].needs == ("last", "last-2", "last-3")


@el.step
def threads() -> list[int]:
    import threadpoolctl

    return [found["num_threads"] for found in threadpoolctl.threadpool_info()]


@el.step(resources=el.Resources(cpus=2))
def more_threads() -> list[int]:
    return threads()


@el.pipeline
def counted() -> list[int]:
    threads()
    return more_threads()


def test_numeric_libraries_get_as_many_threads_as_a_step_asks_for(world: World) -> None:
    ends = world.run(counted)
    seen = {name: set(json.loads(end.outputs[0].files[0].text)) for name, end in ends.items()}
    assert seen["threads"] == {1}
    assert ends["threads"].material.threads == 1 and ends["more_threads"].material.threads == 2
