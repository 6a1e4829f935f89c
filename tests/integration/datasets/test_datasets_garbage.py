"""Garbage is collected, and never anything that something refers to."""

from __future__ import annotations

import os
import random
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, LargeBinary, String, Table, Text, func, select

from conftest import person
from everline.access.types import Role
from everline.cli.app import run as everline
from everline.datasets.cutting import cut
from everline.errors import ForbiddenError, IntegrityError, NotFoundError
from everline.ids import digest_bytes
from everline.migrations import history
from everline.sdk.client import Client
from everline.server import collecting
from everline.server.application import Application
from everline.storage import blobs as blobs_module
from everline.storage import collector, tables
from everline.storage.packs import pack_path
from everline.storage.schema import Digest, JsonValue, UtcTime

MIB = 1 << 20
HOUR = timedelta(hours=1)


def keep(app: Application, content: bytes) -> str:
    with app.blobs.incoming() as body:
        body.write(content)
        return app.blobs.keep_cut(body, cut(body.path, parquet=False))


def age(app: Application) -> None:
    """Let two days pass for everything that is stored."""
    then = datetime.now(UTC) - timedelta(days=2)
    for folder in ("sha256", "packs"):
        for path in (app.blobs.directory / folder).rglob("*"):
            if path.is_file():
                os.utime(path, (then.timestamp() - 60, then.timestamp() - 60))
    with app.database.begin() as connection:
        connection.execute(tables.pack.update().values(created_at=then))
        connection.execute(tables.pack.update().where(tables.pack.c.left_at.is_not(None)).values(left_at=then))
        connection.execute(tables.condemned.update().values(at=then))


def collect(app: Application, *, dry_run: bool = False) -> collector.Collection:
    return collector.collect(app.blobs, grace=HOUR, dry_run=dry_run)


def stored(app: Application) -> dict[str, int]:
    return {kept.path: kept.bytes for kept in app.blobs.objects.list("")}


def test_every_column_of_digests_says_whether_it_names_blobs():
    metadata = history.metadata
    assert collector.undeclared_columns() == []
    forgotten = Table("forgotten", metadata, Column("what", Digest), Column("other", String(20)))
    try:
        assert collector.undeclared_columns() == ["forgotten.what"]
    finally:
        metadata.remove(forgotten)


def test_whatever_stands_in_a_column_that_may_name_blobs_is_kept(app):
    """A row in every table, with a digest in every text that is long enough: all are found but those declared away."""
    expected: set[str] = set()
    behind = digest_bytes(b"named by a manifest only")
    with app.database.engine.connect() as connection, connection.begin() as transaction:
        if app.database.is_sqlite:
            connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        else:
            connection.exec_driver_sql("SET session_replication_role = replica")
        for table in history.metadata.sorted_tables:
            row = {}
            for number, column in enumerate(table.columns):
                if column.computed is not None:
                    continue
                digest = digest_bytes(f"{table.name}.{column.name}".encode())
                kind = column.type
                if isinstance(kind, JsonValue):
                    row[column.name] = {"deep": [{"inside": digest}]}
                elif isinstance(kind, String) and not isinstance(kind, Text) and (kind.length or 99) < 71:
                    row[column.name] = f"{number}"[: kind.length]
                    continue
                elif isinstance(kind, String):
                    if column.info.get("blob") == "manifest":
                        digest = app.blobs.put_bytes(b'{"files": ["%s"]}' % behind.encode())
                        expected.add(behind)
                    row[column.name] = digest
                elif isinstance(kind, UtcTime):
                    row[column.name] = datetime.now(UTC)
                    continue
                elif isinstance(kind, Boolean):
                    row[column.name] = False
                    continue
                elif isinstance(kind, LargeBinary):
                    row[column.name] = b"x"
                    continue
                elif isinstance(kind, (Integer, BigInteger, Float)):
                    row[column.name] = 1_000_000 + number
                    continue
                else:
                    pytest.fail(f"{table.name}.{column.name} is of a type that this test does not know: {kind}")
                if column.info.get("blob") != "none":
                    expected.add(digest)
            connection.execute(table.insert().values(row))
        found = collector.referenced(connection, app.blobs)
        transaction.rollback()
    assert expected - found == set()
    assert len(expected) > 50


def test_what_nothing_refers_to_goes_after_the_grace_and_the_rest_stays(
    app: Application, client: Client, tmp_path: Path
):
    rng = random.Random(1)
    first = rng.randbytes(4 * MIB)
    data = tmp_path / "data"
    data.mkdir()
    (data / "large.bin").write_bytes(first)
    for index in range(30):
        (data / f"{index}.txt").write_bytes(rng.randbytes(500))
    client.datasets.add("d", data)
    (data / "large.bin").write_bytes(first[:MIB] + b"!" + first[MIB:])
    client.datasets.add("d", data)
    kept = stored(app)
    half = rng.randbytes(6 * MIB) + first[: 2 * MIB]
    orphan = keep(app, half)
    loose = app.blobs.put_bytes(b"nobody wants me")
    wanted = app.blobs.put_bytes(b"somebody will")
    stray = app.blobs.directory / pack_path("stray-pack")
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"of somebody who died")
    everything = stored(app)
    assert collect(app).condemned >= 1  # the orphan; files are too young
    assert stored(app) == everything

    age(app)
    looked = collect(app, dry_run=True)
    assert looked.removed == 1
    assert stored(app) == everything
    found = collect(app)
    assert (found.removed, found.bytes_freed) == (1, 20)  # the orphan's name; and the stray pack's bytes
    assert not stray.exists()
    with pytest.raises(NotFoundError):
        app.blobs.get_bytes(orphan)

    age(app)
    assert app.blobs.exists(wanted)  # asked for, so pardoned
    again = collect(app)
    assert (again.removed, again.condemned > 10) == (1, True)  # the other loose one; now the orphan's pieces
    assert not app.blobs.exists(loose)
    assert app.blobs.get_bytes(wanted) == b"somebody will"
    for _ in range(4):
        age(app)
        collect(app)
    assert collect(app).waiting == collect(app).removed == 0
    assert sum(stored(app).values()) < sum(kept.values()) + 100_000
    assert set(kept) - set(stored(app)) == set()
    for version in (1, 2):
        assert client.datasets.verify("d", version).verified
    keep(app, half)
    assert app.blobs.get_bytes(orphan) == half


def test_a_pack_that_is_mostly_dead_is_rewritten_and_the_rest_reads_as_before(
    app: Application, client: Client, tmp_path
):
    rng = random.Random(2)
    small = {digest_bytes(part): part for part in (rng.randbytes(2000) for _ in range(100))}
    client.blobs.put_many(small)
    data = tmp_path / "data"
    data.mkdir()
    for index, part in enumerate(list(small.values())[:20]):
        (data / f"{index}").write_bytes(part)
    client.datasets.add("d", data)
    collect(app)
    age(app)
    found = collect(app)
    assert (found.removed, found.packs_rewritten) == (80, 1)
    assert client.datasets.verify("d").verified
    age(app)
    assert collect(app).bytes_freed > 200_000
    with app.database.begin(read_only=True) as connection:
        assert connection.execute(select(func.count()).select_from(tables.pack)).scalar() == 1
        assert connection.execute(select(func.count()).select_from(tables.condemned)).scalar() == 0
    assert client.datasets.verify("d").verified


def test_nothing_is_removed_if_a_manifest_cannot_be_read(app: Application, client: Client, tmp_path: Path):
    (tmp_path / "a").write_bytes(b"a")
    version = client.datasets.add("d", tmp_path / "a")
    loose = app.blobs.put_bytes(b"nobody wants me")
    age(app)
    collect(app)
    age(app)
    (app.blobs.directory / blobs_module.blob_path(version.files_digest)).write_bytes(b"{}")
    with pytest.raises(IntegrityError, match=version.files_digest):
        collect(app)
    assert app.blobs.get_bytes(loose) == b"nobody wants me"


def test_adding_and_collecting_at_the_same_time_loses_nothing(app: Application, client: Client, tmp_path, monkeypatch):
    """Files count as old at once, and the grace is only longer than any of these additions takes."""
    monkeypatch.setattr(blobs_module, "YOUNG", timedelta(0))
    monkeypatch.setattr(collector, "YOUNG", timedelta(0))
    until, grace_s, errors = time.monotonic() + 3, 1.5, []
    in_time: list[tuple[str, int]] = []
    shared = random.Random(3).randbytes(3 * MIB)

    def work(number: int) -> None:
        rng, made = random.Random(number), 0
        try:
            while time.monotonic() < until:
                folder = tmp_path / f"{number}-{made}"
                folder.mkdir()
                at = rng.randrange(2 * MIB)
                (folder / "large").write_bytes(shared[:at] + rng.randbytes(9) + shared[at:])
                for index in range(20):
                    (folder / f"{index}").write_bytes(b"%d" % rng.randrange(200))
                keep(app, shared[: MIB + rng.randrange(MIB)])  # that nobody will refer to
                began = time.monotonic()
                version = client.datasets.add(f"d{number}", folder)
                if time.monotonic() - began < grace_s:  # not on a machine that is busy with other things
                    in_time.append((version.dataset, version.version))
                made += 1
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    removed = 0
    while any(thread.is_alive() for thread in threads) or not removed:
        removed += collector.collect(app.blobs, grace=timedelta(seconds=grace_s)).removed
    for thread in threads:
        thread.join()
    assert errors == []
    for dataset, number in in_time:
        assert client.datasets.verify(dataset, number).bad == ()


def test_only_an_admin_of_the_server_collects_and_it_is_in_the_log(app: Application, client: Client, capsys):
    with pytest.raises(ForbiddenError, match="storage.collect"):
        collecting.collect(app, person(Role.ADMIN), dry_run=True)
    assert everline(["data", "gc", "--dry-run", "--home", str(client.settings.home)]) == 0
    assert "would be removed" in capsys.readouterr().out
    client.datasets.collect_garbage()
    events = [event for event in client.audit.list() if event.action == "storage.collect"]
    assert [event.data["removed"] for event in events] == [0]
