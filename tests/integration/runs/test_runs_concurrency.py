"""Many writers at once, and a server that is killed: nothing acknowledged is lost, nothing is there twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from everline.errors import InvalidInputError
from everline.runs import service, tracking
from everline.runs.types import Metric
from everline.sdk.client import Client
from everline.server.application import Application

if TYPE_CHECKING:
    from conftest import Server

WRITERS = 4


def test_writers_of_one_run_do_not_lose_or_block_each_other(app: Application) -> None:
    with app.begin() as uow:
        run = service.create_run(uow, "default").run

    def write(writer: int) -> None:
        for batch in range(5):
            keys = [f"k{(number + writer) % 8}" for number in range(8)]
            points = [Metric(key=key, value=writer, at_ms=batch, step=batch * WRITERS + writer) for key in keys]
            with app.begin() as uow:
                tracking.log_batch(uow, "default", run, metrics=points, tags={f"w{writer}": str(batch)})

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    with app.begin() as uow:
        found = service.get_run(uow, "default", run)
        history, _ = tracking.metric_history(uow, "default", run, "k0")
    assert len(history) == WRITERS * 5
    assert found.metrics == {f"k{number}": float(WRITERS - 1) for number in range(8)}
    assert [found.tags[f"w{writer}"] for writer in range(WRITERS)] == ["4"] * WRITERS


def test_of_two_values_of_one_parameter_one_wins_and_the_other_is_told(app: Application) -> None:
    with app.begin() as uow:
        run = service.create_run(uow, "default").run

    def write(value: int) -> bool:
        try:
            with app.begin() as uow:
                tracking.log_batch(uow, "default", run, params={"depth": str(value)})
        except InvalidInputError:
            return False
        return True

    with ThreadPoolExecutor(WRITERS) as pool:
        outcomes = list(pool.map(write, range(WRITERS)))
    assert outcomes.count(True) == 1
    with app.begin() as uow:
        assert service.get_run(uow, "default", run).params == {"depth": str(outcomes.index(True))}


def test_experiments_made_at_the_same_time_are_one(app: Application) -> None:
    def create(number: int) -> str:
        with app.begin() as uow:
            return service.create_run(uow, "default", experiment="shared", name=str(number)).experiment_id

    with ThreadPoolExecutor(WRITERS) as pool:
        assert len(set(pool.map(create, range(WRITERS)))) == 1


def test_what_was_acknowledged_is_there_after_kill_9(server: Server) -> None:
    with Client(server.url) as client:
        run = client.runs.create(name="survivor", params={"depth": 6}).run
        for step in range(20):
            client.runs.log_batch(run, metrics=[Metric(key="loss", value=step, at_ms=step, step=step)])
        client.runs.log_bytes(run, b"hello", path="a.txt")
        server.kill()
        server.start()
        found = client.runs.get(run)
        assert (found.name, found.params, found.metrics) == ("survivor", {"depth": "6"}, {"loss": 19.0})
        assert len(client.runs.history(run, "loss").steps) == 20
        assert client.runs.artifact(run, "a.txt") == b"hello"
