"""What MLflow's client logs takes the fast way: it is decoded in one step, and never field by field."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.message import Message
from mlflow.entities import Metric, Param, RunTag
from mlflow.protos.service_pb2 import LogBatch, LogMetric
from mlflow.utils.proto_json_utils import message_to_json

from everline.server.mlflow_compat import batches
from everline.server.mlflow_compat.wire import Fields


@pytest.fixture(autouse=True)
def _only_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: Any) -> None:
        raise AssertionError("read field by field")

    monkeypatch.setattr(Fields, "of", slow)


def sent(message: Message) -> Any:
    """A request with a message as the client writes it."""
    return SimpleNamespace(body=message_to_json(message).encode(), headers={"content-type": "application/json"})


def test_a_metric_of_the_client_is_read_in_one_step() -> None:
    message = LogMetric(run_uuid="a" * 32, run_id="a" * 32, key="loss", value=0.25, timestamp=1_700_000_000_123, step=7)
    batch = batches.metric(sent(message))
    (point,) = batch.metrics
    assert (batch.run, point.key, point.value, point.at_ms, point.step) == (
        "a" * 32,
        "loss",
        0.25,
        1_700_000_000_123,
        7,
    )


def test_a_batch_of_the_client_is_read_in_one_step() -> None:
    message = LogBatch(
        run_id="a" * 32,
        metrics=[Metric("loss", 3.0, 1_700_000_000_123, 7).to_proto()],
        params=[Param("depth", "6").to_proto()],
        tags=[RunTag("team", "delays").to_proto()],
    )
    batch = batches.batch(sent(message))
    (point,) = batch.metrics
    assert (point.key, point.value, point.at_ms, point.step) == ("loss", 3.0, 1_700_000_000_123, 7)
    assert (batch.params, batch.tags) == ({"depth": "6"}, {"team": "delays"})
