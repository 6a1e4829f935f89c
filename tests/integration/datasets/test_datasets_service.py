"""Datasets on both databases, through the client and the REST face."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everline.access.types import Role
from everline.cli.app import run as everline
from everline.datasets import reading, service
from everline.datasets.digest import digest
from everline.datasets.types import AddVersion, DatasetFile
from everline.errors import ConflictError, ForbiddenError, IntegrityError, InvalidInputError, NotFoundError
from everline.sdk.client import Client
from everline.server.application import Application
from everline.storage.paths import blob_path


@pytest.fixture
def flights(tmp_path: Path) -> Path:
    path = tmp_path / "flights.parquet"
    pq.write_table(pa.table({"carrier": ["UA", "AA", None], "late": [True, False, True], "distance": [1, 2, 3]}), path)
    return path


def test_adding_gives_a_version_with_schema_and_profile(client: Client, flights: Path) -> None:
    added = client.datasets.add("flights", flights, label="2013-01")
    assert (added.version, added.created, added.labels, added.rows) == (1, True, ("2013-01",), 3)
    assert added.digest == added.table_digest == digest(flights)
    detail = client.datasets.show("flights", "2013-01")
    assert [(c.name, c.type, c.nulls) for c in detail.table.columns] == [
        ("carrier", "string", 1), ("late", "bool", 0), ("distance", "int64", 0),
    ]  # fmt: skip
    assert client.datasets.table("flights", 1).equals(pq.read_table(flights))


def test_the_same_content_again_is_the_same_version(client: Client, flights: Path, tmp_path: Path) -> None:
    first = client.datasets.add("flights", flights)
    rewritten = tmp_path / "other.parquet"
    pq.write_table(pq.read_table(flights), rewritten, compression="gzip", row_group_size=1)
    for again in (flights, rewritten, pq.read_table(flights)):
        found = client.datasets.add("flights", again, label="jan")
        assert (found.uid, found.created, found.labels) == (first.uid, False, ("jan",))
    assert len(client.datasets.versions("flights")) == 1


def test_versions_are_found_by_number_label_digest_and_newest(client: Client, tmp_path: Path) -> None:
    for n in (1, 2):
        client.datasets.add("numbers", pa.table({"n": [n]}), label=f"v-{n}")
    newest = client.datasets.version("numbers")
    assert newest.version == 2
    for selector in (2, "2", "v-2", newest.digest, "latest", None):
        assert client.datasets.version("numbers", selector).uid == newest.uid
    for selector in (3, "nope", "99999999999999999999", "sha256:" + "0" * 64):
        with pytest.raises(NotFoundError, match="no version"):
            client.datasets.version("numbers", selector)
    assert [v.version for v in client.datasets.versions("numbers")] == [2, 1]
    assert [(d.name, d.versions) for d in client.datasets.list()] == [("numbers", 2)]


def test_labels_never_move(client: Client) -> None:
    client.datasets.add("numbers", pa.table({"n": [1]}), label="final")
    with pytest.raises(ConflictError, match="names version 1"):
        client.datasets.add("numbers", pa.table({"n": [2]}), label="final")
    assert len(client.datasets.versions("numbers")) == 1, "a refused label leaves no version behind"
    for label in ("1", "latest", "../x", "sha256:abc"):
        with pytest.raises(InvalidInputError):
            client.datasets.add("numbers", pa.table({"n": [2]}), label=label)


def test_concurrent_additions_of_one_content_store_it_once(client: Client, app: Application) -> None:
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda n: client.datasets.add("numbers", pa.table({"n": [n % 2]})), range(8)))
    assert sum(version.created for version in added) == 2
    assert sorted({version.version for version in added}) == [1, 2]


def test_folders_are_added_verified_and_checked_out(client: Client, app: Application, tmp_path: Path) -> None:
    source = tmp_path / "folder"
    (source / "sub").mkdir(parents=True)
    (source / "a.bin").write_bytes(b"\x00\x01")
    (source / "sub" / "b.txt").write_text("b")
    version = client.datasets.add("files", source)
    assert version.digest == version.files_digest == digest(source)
    assert (version.table_digest, version.files, version.bytes) == (None, 2, 3)

    out = tmp_path / "out"
    paths = client.datasets.checkout("files", out)
    assert digest(out) == version.digest
    paths[0].write_bytes(b"edited")
    with pytest.raises(ConflictError, match="other content"):
        client.datasets.checkout("files", out)
    client.datasets.checkout("files", out, force=True)
    assert digest(out) == version.digest, "an edit of a checked-out file harms neither store nor cache"

    assert client.datasets.verify("files").verified
    damaged = next(file for file in client.datasets.show("files").files if file.path == "a.bin")
    assert app.blobs.directory is not None
    (app.blobs.directory / blob_path(damaged.digest)).write_bytes(b"rot")
    found = client.datasets.verify("files")
    assert not found.verified
    assert [bad.path for bad in found.bad] == ["a.bin"]


def test_an_altered_table_is_never_read(client: Client, app: Application, flights: Path, tmp_path: Path) -> None:
    client.datasets.add("flights", flights)
    file = client.datasets.show("flights").files[0]
    assert app.blobs.directory is not None
    (app.blobs.directory / blob_path(file.digest)).write_bytes(b"PAR1 altered")
    with pytest.raises(IntegrityError):
        client.datasets.table("flights")


def test_differences_come_with_numbers(client: Client, tmp_path: Path) -> None:
    client.datasets.add("t", pa.table({"id": [1, 2, 3], "x": [1.0, 2.0, 3.0], "gone": ["a", "b", "c"]}))
    client.datasets.add("t", pa.table({"id": [2, 3, 4], "x": [2.0, None, 9.0]}))
    found = client.datasets.diff("t", 1, 2, key=["id"])
    assert (found.identical, found.rows_before, found.rows_after) == (False, 3, 3)
    assert (found.rows.added, found.rows.removed, found.rows.changed, found.rows.unchanged) == (1, 1, 1, 1)
    by_name = {column.name: column for column in found.columns}
    assert by_name["gone"].change == "removed"
    assert (by_name["x"].missing_after, by_name["x"].rows_changed) == (pytest.approx(1 / 3), 1)
    assert client.datasets.diff("t", 2, 2).identical


def test_files_that_are_several_months_are_one_table(client: Client, tmp_path: Path) -> None:
    for month in (1, 2):
        pq.write_table(pa.table({"month": [month, month]}), tmp_path / f"{month}.parquet")
    version = client.datasets.add("flights", [tmp_path / "1.parquet", tmp_path / "2.parquet"])
    assert version.rows == 4
    assert client.datasets.table("flights")["month"].to_pylist() == [1, 1, 2, 2]


def test_a_broken_table_is_refused_and_leaves_nothing(client: Client, tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    with pytest.raises(InvalidInputError, match=r"bad\.parquet cannot be read"):
        client.datasets.add("flights", tmp_path / "bad.parquet")
    assert client.datasets.list() == []


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "x" * 200, "a b"])
def test_names_that_play_tricks_are_refused(client: Client, flights: Path, name: str) -> None:
    with pytest.raises(InvalidInputError):
        client.datasets.add(name, flights)


def test_the_server_trusts_no_manifest(client: Client) -> None:
    stored = client.blobs.put_bytes(b"hello")

    def add(path: str, *, content: str = stored, size: int = 5) -> None:
        body = AddVersion(files=[DatasetFile(path=path, digest=content, bytes=size)])
        client.call("POST", "/datasets/d/versions", body=body, returns=dict[str, Any])

    with pytest.raises(InvalidInputError, match="cannot be the path"):
        add("../../etc/passwd")
    with pytest.raises(NotFoundError, match="was not uploaded"):
        add("a", content="sha256:" + "0" * 64)
    with pytest.raises(InvalidInputError, match="5 bytes, not 7"):
        add("a", size=7)
    add("a")


def test_a_difference_shows_rows_and_fetches_nothing_for_columns_that_are_the_same(
    client: Client, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = pa.table({"id": list(range(100)), "x": [0] * 100, "same": ["a"] * 100})
    client.datasets.add("t", numbers)
    client.datasets.add("t", numbers.set_column(1, "x", pa.array([0] * 98 + [1, 2])))
    client.datasets.add("t", numbers.slice(0, 90).append_column("new", pa.array([True] * 90)))
    read: list[str] = []
    opened = reading.ParquetColumns.column
    monkeypatch.setattr(
        reading.ParquetColumns, "column", lambda self, at: read.append(self.names[at]) or opened(self, at)
    )
    found = client.datasets.diff("t", 1, 2, key=["id"], rows=1)
    assert set(read) == {"id", "x"}
    assert (found.rows.changed, found.rows.unchanged) == (2, 98)
    [shown] = found.rows.examples
    assert (shown.key, [(c.column, c.before, c.after) for c in shown.cells]) == ((98,), [("x", 0, 1)])
    fewer = client.datasets.diff("t", 1, 3, key=["id"]).rows
    assert (fewer.removed, fewer.added, len(fewer.examples)) == (10, 0, 5)
    read.clear()
    assert client.datasets.diff("t", 1, 1).identical
    assert read == []


def test_a_difference_on_the_command_line_names_rows_and_refuses_a_bad_key(
    client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    client.datasets.add("t", pa.table({"id": [1, 2], "x": ["a", "b"]}))
    client.datasets.add("t", pa.table({"id": [1, 3], "x": ["A", "c"]}))
    home = ["--home", str(client.settings.home)]
    assert everline(["data", "diff", "t", "1", "2", "--key", "id", *home]) == 0
    told = capfd.readouterr().out
    for line in ("+1 -1 ~1 =0", "+ 3  x c", "- 2  x b", "~ 1  x a → A"):
        assert line in told
    assert everline(["data", "diff", "t", "1", "2", "--key", "nope", *home]) == 2
    assert "Both versions have: id, x." in capfd.readouterr().err


@pytest.mark.parametrize(
    "shape", [pa.timestamp("s"), pa.list_(pa.timestamp("s")), pa.struct([("at", pa.timestamp("s"))])]
)
def test_moments_that_no_file_holds_are_refused_and_end_no_process(client: Client, shape: pa.DataType) -> None:
    near, far = ({pa.list_: [at], pa.struct: {"at": at}} for at in (0, 2**62))
    kind = pa.list_ if pa.types.is_list(shape) else pa.struct if pa.types.is_struct(shape) else None
    values = [near[kind], far[kind]] if kind else [0, 2**62]
    with pytest.raises(InvalidInputError, match="292 million years"):
        client.datasets.add("t", pa.table({"t": pa.array(values, shape)}))
    assert client.datasets.list() == []
    assert client.datasets.add("t", pa.table({"t": pa.array(values[:1], shape)})).rows == 1


def test_viewers_read_and_do_not_add(begin: Callable[..., Any], client: Client) -> None:
    client.datasets.add("t", pa.table({"n": [1]}))
    with begin(role=Role.VIEWER) as uow:
        assert service.get_version(uow, "default", "t").version.version == 1
        with pytest.raises(ForbiddenError):
            service.check_addition(uow, "default", "t", files=[])


def test_the_command_line_agrees_with_the_digest(
    client: Client, flights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home = str(client.settings.home)
    assert everline(["data", "add", "flights", str(flights), "--version", "jan", "--json", "--home", home]) == 0
    assert f'"digest": "{digest(flights)}"' in capfd.readouterr().out
    for command in (["list"], ["list", "flights"], ["show", "flights"], ["verify", "flights"], ["diff", "flights", "1"],
                    ["checkout", "flights", str(tmp_path / "out")]):  # fmt: skip
        assert everline(["data", *command, "--home", home]) == 0
        assert everline(["data", *command, "--home", home, "--json"]) == 0
    assert everline(["data", "show", "nothing", "--home", home]) == 2
    assert everline(["data", "add", "flights", str(tmp_path / "none"), "--home", home]) == 2
    assert "Traceback" not in capfd.readouterr().err
