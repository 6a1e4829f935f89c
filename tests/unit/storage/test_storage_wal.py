"""What is answered as durable has reached the disk, and waiting for it is shared."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from everline.config import Settings
from everline.storage import wal
from everline.storage.db import Database


class Disk:
    """Counts flushes, and can be slow."""

    def __init__(self) -> None:
        self.flushes = 0
        self.pause_s = 0.0

    def __call__(self, descriptor: int) -> None:
        time.sleep(self.pause_s)
        os.fsync(descriptor)
        self.flushes += 1


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(wal, "_flush_to_disk", disk)
    return disk


@pytest.fixture
def database(tmp_path: Path, disk: Disk) -> Iterator[Database]:
    database = Database(Settings(home=tmp_path, metric_flush_s=0.02))
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE t (x INTEGER)"))
    yield database
    database.close()


def insert(database: Database, *, power_safe: bool = True) -> None:
    with database.begin(power_safe=power_safe) as connection:
        connection.execute(text("INSERT INTO t VALUES (1)"))


def test_a_power_safe_commit_returns_after_a_flush(database: Database, disk: Disk) -> None:
    before = disk.flushes
    insert(database)
    assert disk.flushes == before + 1


def test_reading_never_flushes(database: Database, disk: Disk) -> None:
    before = disk.flushes
    with database.begin(read_only=True) as connection:
        assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 0
    assert disk.flushes == before


def test_other_commits_are_flushed_soon_by_themselves(database: Database, disk: Disk) -> None:
    before = disk.flushes
    for _ in range(20):
        insert(database, power_safe=False)
    deadline = time.monotonic() + 5
    while disk.flushes == before and time.monotonic() < deadline:
        time.sleep(0.005)
    assert before < disk.flushes < before + 20


def test_without_a_delay_every_commit_waits(tmp_path: Path, disk: Disk) -> None:
    database = Database(Settings(home=tmp_path, metric_flush_s=0))
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE t (x INTEGER)"))
    before = disk.flushes
    insert(database, power_safe=False)
    assert disk.flushes == before + 1
    database.close()


def test_writers_at_the_same_time_share_a_flush(database: Database, disk: Disk) -> None:
    disk.pause_s = 0.05
    before = disk.flushes
    threads = [threading.Thread(target=insert, args=(database,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert disk.flushes - before < 8
    with database.begin(read_only=True) as connection:
        assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 16


def test_a_log_that_was_replaced_is_found_again(database: Database, disk: Disk, tmp_path: Path) -> None:
    insert(database)
    with pytest.raises(ZeroDivisionError), database.begin():
        _ = 1 / 0  # whoever fails gives the writer's connection back
    database.engine.dispose()  # the last connection goes, and takes the log's file with it
    before = disk.flushes
    insert(database)
    assert disk.flushes == before + 1
