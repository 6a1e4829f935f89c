"""A model that is slow and fails on some requests: the others are answered, and the event loop stays free meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from everline.models.package import Package
from everline.models.predictor import Predictor
from everline.serving.dataplane.http.messages import Reply, Request
from everline.serving.dataplane.in_process import OnlinePath
from tests_support.live import small_package

FAILS_ABOVE = 1e6


class Slow:
    """A model of which a batch takes 5 ms, and fails as a whole where one distance is too large."""

    rows_alone = False

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[str] = set()

    def predict(self, arrays: Mapping[str, Any], *, rows: int) -> dict[str, Any]:
        """The distance as a share of the largest."""
        time.sleep(0.005)
        self.batches.append(rows)
        self.threads.add(threading.current_thread().name.partition("_")[0])
        if (arrays["distance"] > FAILS_ABOVE).any():
            raise RuntimeError("out of range")
        return {"probability": arrays["distance"] / FAILS_ABOVE, "label": np.zeros(rows, bool)}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return small_package(tmp_path_factory.mktemp("package") / "package")


def test_a_failing_request_is_found_without_holding_up_the_loop(package: Package) -> None:
    model = Slow()
    predictor = Predictor(package, {"native": lambda: model})
    assert predictor.cost_us["native"][0] > 2_000
    model.batches.clear()
    model.threads.clear()
    distances = [100.0, 200.0, 2 * FAILS_ABOVE, 300.0, 400.0, 500.0]

    async def together(path: OnlinePath) -> list[Reply]:
        loop = asyncio.get_running_loop()
        replies = []
        for distance in distances:
            answered: asyncio.Future[Reply] = loop.create_future()
            body = json.dumps({"distance": distance, "temp": None}).encode()
            path._app.handle(Request(b"POST", b"/endpoints/scored/predict", {}, body), answered.set_result)
            replies.append(answered)
        return list(await asyncio.gather(*replies))

    with OnlinePath(predictor) as path:
        replies = path._thread.submit(path._runner.run, together(path)).result()
    assert [reply.status for reply in replies] == [200, 200, 500, 200, 200, 200]
    said = [json.loads(reply.body)["outputs"]["probability"] for reply in replies if reply.status == 200]
    assert said == [distance / FAILS_ABOVE for distance in distances if distance < FAILS_ABOVE]
    assert model.batches == [6, 1, 1, 1, 1, 1, 1]
    assert model.threads == {"predict"}
