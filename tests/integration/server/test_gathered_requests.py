"""Small requests are answered together, and none of them pays for another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from everline.access.types import LOCAL
from everline.runs import service, tracking
from everline.server.app import create_app
from everline.server.application import Application

LOG = "/api/2.0/mlflow/runs/log-batch"


@pytest.fixture
def client(app: Application) -> Iterator[TestClient]:
    with TestClient(create_app(app), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def runs(app: Application) -> list[str]:
    with app.begin(LOCAL) as uow:
        return [service.create_run(uow, "default").run for _ in range(2)]


def at_once(client: TestClient, bodies: list[dict[str, Any]]) -> list[int]:
    """Send all while the lane is held up by the first, so that the rest become one group."""
    statuses = [0] * len(bodies)

    def send(index: int) -> None:
        statuses[index] = client.post(LOG, json=bodies[index]).status_code

    threads = [threading.Thread(target=send, args=(index,)) for index in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def test_a_bad_batch_leaves_the_others_of_its_group_alone(
    client: TestClient, app: Application, runs: list[str]
) -> None:
    first, second = runs
    good = [{"run_id": run, "metrics": [{"key": "m", "value": n, "timestamp": n, "step": n}]}
            for n in range(10) for run in runs]  # fmt: skip
    bad = [
        {"run_id": "0" * 32, "metrics": [{"key": "m", "value": 1, "timestamp": 1}]},
        {"run_id": first, "metrics": [{"key": "m", "value": 1, "timestamp": -1}]},
        {"run_id": first, "params": [{"key": "../p", "value": "1"}]},
        {"run_id": ""},
    ]
    statuses = at_once(client, [*good, *bad])
    assert statuses == [200] * len(good) + [404, 400, 400, 400]
    with app.begin(LOCAL, read_only=True) as uow:
        for run in (first, second):
            points, _ = tracking.metric_history(uow, "default", run, "m")
            assert [point.step for point in points] == list(range(10))


def test_of_two_values_for_a_parameter_sent_at_once_one_is_kept_and_one_refused(
    client: TestClient, app: Application, runs: list[str]
) -> None:
    for turn in range(5):
        key = f"p{turn}"
        bodies = [{"run_id": runs[0], "params": [{"key": key, "value": str(value)}]} for value in range(4)]
        assert sorted(at_once(client, bodies)) == [200, 400, 400, 400]
    with app.begin(LOCAL, read_only=True) as uow:
        assert len(service.get_run(uow, "default", runs[0]).params) == 5


def test_what_fails_only_while_writing_is_tried_alone(
    app: Application, client: TestClient, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = tracking.put_points

    def fragile(uow: Any, points: Any) -> None:
        if any(point[3] == 13 for point in points):
            raise RuntimeError("the disk has a hole at 13")
        write(uow, points)

    monkeypatch.setattr(tracking, "put_points", fragile)
    bodies = [{"run_id": runs[0], "metrics": [{"key": "m", "value": 1, "timestamp": n, "step": n}]} for n in range(16)]
    statuses = at_once(client, bodies)
    assert [status for status in statuses if status != 200] == [statuses[13]] == [500]
    with app.begin(LOCAL, read_only=True) as uow:
        points, _ = tracking.metric_history(uow, "default", runs[0], "m")
        assert {point.step for point in points} == set(range(16)) - {13}
