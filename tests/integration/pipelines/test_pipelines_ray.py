"""The same pipelines on Ray: the same digests, and a node that is lost in the middle is no matter."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from everline.pipelines.types import RunWaitingError, StepFailedError
from everline.sdk.client import Client

MODULE = """
import os
import time

import pyarrow as pa

import everline as el


@el.step
def part(i: int) -> el.Table:
    print("part", i)
    return pa.table({"x": list(range(i, i + 10))})


@el.step
def total(table: el.Table) -> int:
    return sum(table["x"].to_pylist())


@el.step
def add_up(values: list[int]) -> int:
    return sum(values)


@el.pipeline
def wide(n: int = 4) -> int:
    return add_up(el.map(total, el.map(part, list(range(n)))))


@el.step
def plain(i: int) -> int:
    return i * i


@el.pipeline
def many(n: int = 1000) -> int:
    return add_up(el.map(plain, list(range(n))))


@el.step
def fails(n: int) -> int:
    raise ValueError(f"no {n}")


@el.pipeline
def failing() -> int:
    return fails(3)


@el.step
def after(answer: el.Approval, n: int) -> int:
    return n + answer.approved


@el.pipeline
def gated() -> int:
    value = plain(3)
    return after(el.approval("Go?", show=value), value)


@el.step
def lasting(i: int) -> int:
    time.sleep(0.4)
    return i


@el.pipeline
def long(n: int = 30) -> int:
    return add_up(el.map(lasting, list(range(n))))
"""
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.fixture
def run(client: Client, tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "everline.toml").touch()
    (tmp_path / "on_ray.py").write_text(MODULE)

    def start(pipeline: str | None, **options: Any) -> Any:
        address = None if pipeline is None else f"on_ray:{pipeline}"
        return client.pipelines.run(address, directory=tmp_path, **options)

    yield start
    sys.modules.pop("on_ray", None)


def digests(result: Any) -> dict[str, Any]:
    return {step.name: step.outputs for step in result.steps}


def test_local_and_ray_give_the_same_digests(cluster: Any, run: Any, client: Client) -> None:
    there = run("wide", on="ray")
    assert there.value == sum(sum(range(i, i + 10)) for i in range(4))
    assert client.pipelines.output(there.run, "part[2]") == "part 2\n"
    here = run("wide", on="local", cache=False)
    assert digests(here) == digests(there)
    with pytest.raises(StepFailedError, match="Step 'fails' .* failed: ValueError: no 3"):
        run("failing", on="ray")


def test_a_run_that_waits_goes_on_elsewhere(cluster: Any, run: Any, client: Client) -> None:
    with pytest.raises(RunWaitingError) as caught:
        run("gated", on="ray")
    made = caught.value.result.run
    client.approvals.answer(made, "approval", approved=True)
    assert run(None, resume=made, on="local").value == 10


@pytest.mark.drill
def test_the_flights_pipeline_on_both(cluster: Any, client: Client, tmp_path: Path) -> None:
    from everline.demo import flight_delay, flights

    (tmp_path / "everline.toml").touch()
    (tmp_path / "flights_on_ray.py").write_bytes(Path(flight_delay.__file__).read_bytes())
    client.datasets.add_table("weather", flights.weather())
    for month in flights.MONTHS[:4]:
        client.datasets.add_table("flights", flights.flights_of(month), label=month)
    there, here = (
        client.pipelines.run("flights_on_ray:flight_delay", directory=tmp_path, on=on, cache=False, reproduces="0" * 32)
        for on in ("ray", "local")
    )
    assert digests(here) == digests(there) and len(here.steps) == 6


@pytest.mark.drill
def test_a_thousand_steps_on_both(cluster: Any, run: Any) -> None:
    there = run("many", on="ray")
    assert there.value == sum(i * i for i in range(1000))
    assert digests(run("many", on="local", cache=False)) == digests(there)


@pytest.mark.drill
def test_a_node_that_is_killed_in_the_middle_is_no_matter(run: Any, client: Client) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    ray.shutdown()  # the cluster of the tests before
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = nodes.add_node(num_cpus=2)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    seen: list[str] = []

    def watch(update: Any) -> None:
        if update.status == "succeeded":
            seen.append(update.name)
        if len(seen) == 6 and second in nodes.worker_nodes:
            nodes.remove_node(second, allow_graceful=False)

    try:
        result = run("long", on="ray", watch=watch)
    finally:
        ray.shutdown()
        nodes.shutdown()
    assert result.value == sum(range(30))
    assert {step.status for step in client.pipelines.steps(result.run)} == {"succeeded"}
