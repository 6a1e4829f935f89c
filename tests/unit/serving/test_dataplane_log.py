"""The prediction log: a torn end costs nothing that was answered, and a segment always gives the same Parquet."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everline.errors import ConflictError, UnavailableError
from everline.models.signature import ColumnType, Field, OutputField, Signature, check_columns
from everline.serving.dataplane.log.packing import Packer
from everline.serving.dataplane.log.parquet_segments import convert_segment
from everline.serving.dataplane.log.raw_segments import (
    PredictionLog,
    PredictionRecord,
    adopt_open_segments,
    finish,
    read_segment,
)
from everline.serving.dataplane.store import LocalStore
from tests_support.loops import run_apart

EVERY_TYPE = Signature(
    inputs=[Field(name=str(kind), type=kind, nullable=True) for kind in ColumnType],
    outputs=[OutputField(name="probability", type=ColumnType.DOUBLE)],
)


COLUMNS = {
    "boolean": [True, None],
    "integer": [1, None],
    "long": [1 << 40, None],
    "float": [0.5, None],
    "double": [0.1, None],
    "string": ["é", None],
    "datetime": ["2013-06-01T05:00:00Z", None],
}


def record(number: int, *, rows: int = 2, endpoint: str = "flight-delay") -> PredictionRecord:
    given = check_columns(EVERY_TYPE, {name: values[:rows] for name, values in COLUMNS.items()}).arrays
    return PredictionRecord(
        at_us=1_370_000_000_000_000 + number,
        project="default",
        endpoint=endpoint,
        revision="r",
        package="sha256:p",
        release="x",
        requests=[f"request-{number}"],
        rows=[rows],
        latency_us=[5],
        predictions=[f"{number}-{row}" for row in range(rows)],
        event_time_us=[None, 1_370_000_000_000_000][:rows] if number % 2 else [],
        inputs=Packer(EVERY_TYPE.inputs).pack(given),
        outputs=Packer(EVERY_TYPE.outputs).pack({"probability": np.array([0.25, 0.75][:rows])}),
    )


def new_log(directory: Path, **limits: float) -> PredictionLog:
    values = {"segment_bytes_max": 1 << 20, "segment_s": 1000.0, "spool_bytes_max": 1 << 20} | limits
    return PredictionLog(directory, **values)  # type: ignore[arg-type]


def test_a_segment_that_is_cut_anywhere_keeps_every_whole_request(tmp_path: Path) -> None:
    log = new_log(tmp_path)
    ends = []
    for number in range(4):
        log.append(record(number), EVERY_TYPE)
        ends.append(next(tmp_path.glob("*.open")).stat().st_size)
    data = next(tmp_path.glob("*.open")).read_bytes()
    cut = tmp_path / "cut.raw"
    for size in range(len(data) + 1):
        cut.write_bytes(data[:size])
        content = read_segment(cut)
        assert len(content.records) == sum(end <= size for end in ends)
    for position in range(ends[1] + 8, ends[2]):
        damaged = bytearray(data)
        damaged[position] ^= 0x40
        cut.write_bytes(damaged)
        assert [item.requests for item in read_segment(cut).records] == [["request-0"], ["request-1"]]


def test_every_answer_is_in_the_file_before_append_returns_and_a_dead_process_loses_nothing(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        log = new_log(tmp_path)
        for number in range(3):
            log.append(record(number), EVERY_TYPE)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert adopt_open_segments(tmp_path) == 1
    content = read_segment(next(tmp_path.glob("*.raw")))
    assert [item.requests for item in content.records] == [["request-0"], ["request-1"], ["request-2"]]
    assert content.torn_bytes == 0


def test_a_closed_segment_becomes_parquet_per_endpoint_the_same_bytes_each_time(tmp_path: Path) -> None:
    log = new_log(tmp_path)
    for number in range(3):
        log.append(record(number), EVERY_TYPE)
    log.append(record(3, endpoint="other"), EVERY_TYPE)
    detached = log.detach()
    assert detached is not None
    finish(detached)
    raw = next(tmp_path.glob("*.raw"))
    outbox = tmp_path / "outbox"
    outbox.mkdir()
    first, torn = convert_segment(raw, outbox=outbox)
    before = [path.read_bytes() for path in first]
    again, _ = convert_segment(raw, outbox=outbox)
    assert (torn, len(first)) == (0, 2)
    assert again == first
    assert [path.read_bytes() for path in again] == before
    table = pq.read_table(first[0])
    assert table.schema.field("at").type == pa.timestamp("us", tz="UTC")
    assert str(table.schema.field("inputs").type) == (
        "struct<boolean: bool, integer: int32, long: int64, float: float, double: double, string: string, "
        "datetime: timestamp[us, tz=UTC]>"
    )
    rows = table.to_pylist()
    assert [row["prediction"] for row in rows] == ["0-0", "0-1", "1-0", "1-1", "2-0", "2-1"]
    assert [row["row"] for row in rows] == [0, 1] * 3
    assert [row["event_time"] is None for row in rows] == [True, True, True, False, True, True]
    assert rows[0]["inputs"]["string"] == "é"
    assert rows[1]["inputs"] == dict.fromkeys(rows[1]["inputs"])


def test_a_segment_is_due_by_size_and_by_age(tmp_path: Path) -> None:
    by_size, by_age = new_log(tmp_path, segment_bytes_max=500), new_log(tmp_path, segment_s=0.0)
    assert not by_size.due()
    by_age.append(record(0), EVERY_TYPE)
    assert by_age.due()
    by_size.append(record(0), EVERY_TYPE)
    by_size.append(record(1), EVERY_TYPE)
    assert by_size.due()


def test_a_full_spool_refuses_before_it_writes(tmp_path: Path) -> None:
    log = new_log(tmp_path, spool_bytes_max=10)
    log.spool_bytes = 11
    with pytest.raises(UnavailableError, match="prediction log waits with 11 bytes"):
        log.append(record(0), EVERY_TYPE)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_an_error_and_the_log_recovers(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    log = new_log(directory)
    with pytest.raises(UnavailableError, match="cannot be written: No such file or directory"):
        log.append(record(0), EVERY_TYPE)
    directory.mkdir()
    log.append(record(1), EVERY_TYPE)
    assert [item.requests for item in read_segment(next(directory.glob("*.open"))).records] == [["request-1"]]


def test_only_one_process_takes_a_home_and_the_replica_keeps_its_name(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with store.lock(), pytest.raises(ConflictError, match="Another data plane"):
        LocalStore(tmp_path).lock()
    LocalStore(tmp_path).lock().close()
    assert store.replica() == LocalStore(tmp_path).replica()


def test_rows_that_may_wait_are_written_in_time_in_order_and_before_the_segment_ends(tmp_path: Path) -> None:
    async def act() -> None:
        log = new_log(tmp_path)
        log.append(record(0), EVERY_TYPE, within_s=30.0)
        assert not list(tmp_path.glob("*.open"))
        log.append(record(1), EVERY_TYPE)  # another endpoint's, which may not wait: nothing overtakes
        (path,) = tmp_path.glob("*.open")
        assert [one.requests for one in read_segment(path).records] == [record(0).requests, record(1).requests]
        log.append(record(2), EVERY_TYPE, within_s=0.05)
        assert len(read_segment(path).records) == 2
        await asyncio.sleep(0.06)
        assert len(read_segment(path).records) == 3
        log.append(record(3), EVERY_TYPE, within_s=30.0)
        detached = log.detach()
        assert detached is not None
        finish(detached)
        assert len(read_segment(path.with_suffix(".raw")).records) == 4

    run_apart(act())


def test_rows_that_could_not_be_written_are_kept_and_hold_up_further_answers(tmp_path: Path) -> None:
    async def act() -> None:
        folder = tmp_path / "spool"
        log = new_log(folder)
        folder.mkdir()
        log.append(record(0), EVERY_TYPE, within_s=0.02)
        folder.rmdir()
        await asyncio.sleep(0.05)
        with pytest.raises(UnavailableError):
            log.append(record(1), EVERY_TYPE, within_s=0.02)
        assert log.detach() is None
        folder.mkdir()
        log.append(record(2), EVERY_TYPE, within_s=0.02)
        (path,) = folder.glob("*.open")
        assert [one.requests for one in read_segment(path).records] == [record(0).requests, record(2).requests]

    run_apart(act())
