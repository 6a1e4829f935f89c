"""Streams: many points at once, each batch once, and what breaks a rule is named while the rest is kept."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from everline.access.types import Role
from everline.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError, TooLargeError
from everline.runs import service, streaming, tracking
from everline.runs.columns import Series, StreamBatch, body, decode_body, series
from everline.runs.types import Run, RunInput
from everline.sdk.client import Client

STREAM = "a" * 32


def batch(sequence: int, *points: tuple[int, int, float], key: str = "loss", **rest: Any) -> StreamBatch:
    return StreamBatch(sequence, [series(key, points)] if points else [], **rest)


def test_batches_are_taken_once_and_the_newest_value_counts(begin: Any) -> None:
    with begin() as uow:
        run = service.create_run(uow, "default").run
        first = [batch(1, (0, 10, 3.0), (2, 12, 1.0), (1, 11, 2.0)), batch(2, (9, 5, math.nan), key="nan")]
        answer = streaming.append(uow, "default", run, stream=STREAM, batches=first)
        assert (answer.acknowledged, answer.points, answer.refused) == (2, 4, [])
    with begin() as uow:
        again = [*first, batch(3, (3, 13, math.inf), (4, 14, -math.inf), tags={"t": "1"})]
        answer = streaming.append(uow, "default", run, stream=STREAM, batches=again)
        assert (answer.acknowledged, answer.points) == (3, 2)
        other = streaming.append(uow, "default", run, stream="b" * 32, batches=first)  # another process, its own count
        assert (other.acknowledged, other.points) == (2, 4)
    with begin() as uow:
        points, _ = tracking.metric_history(uow, "default", run, "loss")
        largest = tracking.DOUBLE_MAX
        assert [(p.step, p.value) for p in points] == [(0, 3.0), (1, 2.0), (2, 1.0), (3, largest), (4, -largest)]
        found = service.get_run(uow, "default", run)
        assert found.metrics == {"loss": -largest, "nan": None}
        assert found.tags["t"] == "1"


def test_what_breaks_a_rule_is_named_and_the_rest_is_kept(begin: Any) -> None:
    with begin() as uow:
        run = service.create_run(uow, "default", params={"depth": "6"}).run
        mixed = StreamBatch(
            7,
            [series("../x", [(0, 1, 1.0)]), series("early", [(0, -1, 1.0)]), series("good", [(0, 1, 1.0)])],
            {"depth": "7", "rate": "x", "long": "x" * 6001} | {f"p{n}": str(n) for n in range(150)},
            {"a/../b": "x", "fine": "y"},
            [RunInput(name="x" * 501, digest="d"), RunInput(name="flights", digest="d")],
        )
        answer = streaming.append(uow, "default", run, stream=STREAM, batches=[mixed])
        assert {refusal.field for refusal in answer.refused} == {
            "metrics.../x", "metrics.early", "params.depth", "params.long", "tags.a/../b", f"inputs.{'x' * 80}"
        }  # fmt: skip
        assert all(refusal.sequence == 7 and refusal.message for refusal in answer.refused)
    with begin() as uow:
        found = service.get_run(uow, "default", run)
        assert set(found.metrics) == {"good"}
        assert (found.params["depth"], found.params["rate"], len(found.params)) == ("6", "x", 152)
        assert found.tags["fine"] == "y"
        assert [given.name for given in found.inputs] == ["flights"]


def test_a_broken_request_keeps_nothing(begin: Any, app: Any) -> None:
    with begin() as uow:
        run = service.create_run(uow, "default").run
    broken = Series("loss", b"1234567", b"", b"")
    for batches, error in (
        ([batch(2, (0, 1, 1.0)), batch(2, (1, 1, 1.0))], InvalidInputError),
        ([batch(0, (0, 1, 1.0))], InvalidInputError),
        ([batch(1, (0, 1, 1.0)), StreamBatch(2, [broken])], InvalidInputError),
        ([batch(1, *[(n, 1, 1.0) for n in range(app.settings.stream_rows_max + 1)])], TooLargeError),
    ):
        with pytest.raises(error), begin() as uow:
            streaming.append(uow, "default", run, stream=STREAM, batches=batches)
    with pytest.raises(InvalidInputError), begin() as uow:
        streaming.append(uow, "default", run, stream="mine", batches=[])
    with pytest.raises(ForbiddenError), begin(role=Role.VIEWER) as uow:
        streaming.append(uow, "default", run, stream=STREAM, batches=[batch(1, (0, 1, 1.0))])
    with begin() as uow:
        assert service.get_run(uow, "default", run).metrics == {}
        service.delete_run(uow, "default", run)
    with pytest.raises(InvalidInputError, match="active"), begin() as uow:
        streaming.append(uow, "default", run, stream=STREAM, batches=[batch(1, (0, 1, 1.0))])
    with pytest.raises(NotFoundError), begin() as uow:
        streaming.append(uow, "default", "0" * 32, stream=STREAM, batches=[])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xc1",
        msgspec.msgpack.encode([2, STREAM, []]),
        msgspec.msgpack.encode([1, STREAM, [[1, [["a", 1, 2, 3]]]]]),
        b"\x91" * 100_000,
    ],
)
def test_a_body_of_another_shape_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInputError):
        decode_body(content)


def test_a_run_may_be_asked_for_twice_under_the_clients_own_uid(client: Client) -> None:
    mine = {"run": "c" * 32, "experiment": "e", "name": "n", "params": {"a": "1"}}
    with ThreadPoolExecutor(4) as threads:  # also at once, as after an answer that came too late
        asked = [threads.submit(client.call, "POST", "/runs", body=mine, returns=Run) for _ in range(8)]
    assert {answer.result().run for answer in asked} == {"c" * 32}
    assert client.runs.get("c" * 32).params == {"a": "1"}
    with pytest.raises(ConflictError):
        client.call("POST", "/runs", body=mine | {"experiment": "other"})
    with pytest.raises(InvalidInputError):
        client.call("POST", "/runs", body=mine | {"run": "C" * 32})
    content = body(STREAM, [msgspec.msgpack.encode(batch(1, (0, 1, 0.5)))])
    answer = client.send("POST", f"/api/v1/runs/{'c' * 32}/stream", content=content).json()
    assert (answer["acknowledged"], answer["points"], answer["refused"]) == (1, 1, [])
    assert client.blobs.missing(["sha256:" + "0" * 64]) == ["sha256:" + "0" * 64]
