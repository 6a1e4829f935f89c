"""Folders of many files: what changed is found, what did not is neither read nor sent again."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from everline.canonical import canonical_json
from everline.cli import data
from everline.datasets import inspection
from everline.datasets.manifest import check_files, check_path, files_manifest
from everline.datasets.profile import summarise
from everline.datasets.reading import open_columns
from everline.datasets.types import DatasetFile
from everline.errors import ConflictError, IntegrityError, InvalidInputError
from everline.sdk.client import Client
from everline.sdk.seen import Folder
from everline.server.worker import Worker


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "many"
    rng = random.Random(7)
    for index in range(60):
        path = root / f"{index % 4}" / f"{index}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.randrange(0, 3000)))
    (root / "same.bin").write_bytes((root / "0" / "0.bin").read_bytes())
    (root / "empty").touch()
    (root / "large.bin").write_bytes(rng.randbytes(3 << 20))
    (root / ".hidden ünïcode").write_text("x")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def settle(root: Path) -> None:
    """As if the files had been there for a while: one that was just written is not remembered."""
    for path in root.rglob("*"):
        os.utime(path, (1e9 + 0.5, 1e9 + 0.5))


def test_what_changed_in_a_folder_is_found_and_only_that_is_sent(client: Client, folder: Path, tmp_path: Path):
    client.datasets.add("d", folder)
    assert client.datasets.status("d", folder).clean
    (folder / "0" / "0.bin").write_bytes(b"changed")
    (folder / "1" / "1.bin").unlink()
    (folder / "new.bin").write_bytes(b"new")
    found = client.datasets.status("d", folder)
    assert (found.added, found.removed, found.changed) == (("new.bin",), ("1/1.bin",), ("0/0.bin",))
    assert (found.version, found.files, found.unchanged) == (1, 64, 62)
    packs = client.settings.home / "blobs" / "packs"
    before = sum(path.stat().st_size for path in packs.rglob("*") if path.is_file())
    assert client.datasets.add("d", folder).version == 2
    assert sum(path.stat().st_size for path in packs.rglob("*") if path.is_file()) - before < 1000
    assert client.datasets.status("d", folder).clean
    assert client.datasets.status("d", folder, 1).changed == ("0/0.bin",)
    out = tmp_path / "out"
    client.datasets.checkout("d", out)
    assert contents(out) == contents(folder)
    assert client.datasets.status("d", out).clean
    assert client.datasets.verify("d").verified


def test_an_edit_that_hides_behind_size_and_time_is_found(client: Client, folder: Path):
    path = folder / "large.bin"
    stat = path.stat()
    client.datasets.add("d", folder)
    data = bytearray(path.read_bytes())
    data[77] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert client.datasets.status("d", folder).changed == ("large.bin",)


def test_an_unchanged_folder_asks_nobody(settings, client: Client, folder: Path):
    client.datasets.add("d", folder)
    with Client(home=client.settings.home) as other:
        assert other.datasets.status("d", folder).unchanged == 64
        assert "transport" not in other.__dict__  # no control plane was started
        assert other.datasets.status("d", folder, "latest").version == 1


def test_a_file_written_just_now_is_not_remembered(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"1")
    stat = path.stat()
    for later_ns, known in ((10_000_000, None), (5_000_000_000, "sha256:x")):
        seen = Folder(tmp_path / "cache", str(tmp_path))
        seen.remember("a", stat, "sha256:x", at_ns=stat.st_ctime_ns + later_ns)
        seen.save()
        assert Folder(tmp_path / "cache", str(tmp_path)).digest("a", stat) == known
    (tmp_path / "cache").rename(tmp_path / "other")
    for file in (tmp_path / "other").iterdir():
        file.write_bytes(b"\xff broken")
    assert Folder(tmp_path / "other", str(tmp_path)).digest("a", stat) is None


def test_a_checkout_that_fails_leaves_nothing(client: Client, folder: Path, tmp_path: Path):
    client.datasets.add("d", folder)
    out = tmp_path / "out"
    out.mkdir()
    (out / "same.bin").write_bytes(b"mine")
    with pytest.raises(ConflictError, match="same.bin"):
        client.datasets.checkout("d", out)
    assert list(out.iterdir()) == [out / "same.bin"]
    client.datasets.checkout("d", out, force=True)
    assert contents(out) == contents(folder)
    for pack in (client.settings.home / "blobs" / "packs").rglob("*-*"):
        pack.write_bytes(bytes(pack.stat().st_size))
    with pytest.raises(IntegrityError, match="altered"):
        client.datasets.checkout("d", tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir() if "other" in path.name) == []
    bad = {one.path for one in client.datasets.verify("d").bad}
    assert bad == {path for path, content in contents(folder).items() if content}


def test_status_exits_1_if_anything_changed(client: Client, folder: Path):
    client.datasets.add("d", folder)
    options = ["status", "d", str(folder), "--home", str(client.settings.home)]
    clean = CliRunner().invoke(data.command, options, standalone_mode=False)
    assert (clean.return_value, clean.output) == (0, "unchanged: 64 files are those of d@1\n")
    (folder / "empty").write_text("no more")
    changed = CliRunner().invoke(data.command, options, standalone_mode=False)
    assert (changed.return_value, changed.output) == (
        1,
        "~ empty\n1 changed, 0 added, 0 removed, 63 as in d@1\n",
    )


def test_the_manifest_is_canonical_and_the_short_way_past_the_rules_is_none():
    paths = ["b/a", "a", "b", 'ü/ñ "x"', "b.c/d-e_f", "0"]
    files = [DatasetFile(path=path, digest="sha256:" + "0" * 64, bytes=7) for path in paths]
    rows = [{"path": file.path, "digest": file.digest, "bytes": file.bytes} for file in sorted(files)]
    assert files_manifest(files) == canonical_json({"schema": 1, "kind": "files", "files": rows})
    with pytest.raises(InvalidInputError, match="below a path"):
        check_files(files)
    for path in ("a/../b", "a/./b", "a//b", "a.", "a /b", "/a", "a\\b", "a:b", "a\n", "", ".", "a/", "a/b."):
        with pytest.raises(InvalidInputError):
            check_path(path)
    assert check_path(".hidden") == ".hidden"


def test_a_large_table_gets_its_profile_later_and_it_is_the_same(client, app, tmp_path, monkeypatch):
    monkeypatch.setattr(inspection, "PROFILE_AT_ONCE_BYTES", 0)
    rng = np.random.default_rng(1)
    path = tmp_path / "t.parquet"
    for number in (1, 2, 3):
        pq.write_table(pa.table({"x": rng.normal(size=500), "s": ["a", "b"] * 250, "n.m": [None, number] * 250}), path)
        assert client.datasets.add("t", path).digest == client.datasets.version("t", number).table_digest
    exact = summarise(open_columns([path], "parquet"))
    early = client.datasets._detail("t", 3).table
    assert not early.profiled
    assert [(c.name, c.digest, c.nulls) for c in early.columns] == [(c.name, c.digest, c.nulls) for c in exact.columns]
    assert client.datasets.show("t", 3).table == exact
    assert client.datasets._detail("t", 3).table == exact
    assert client.datasets.diff("t", 1, 3).columns[0].distance > 0
    assert client.datasets._detail("t", 1).table.profiled
    assert not client.datasets._detail("t", 2).table.profiled
    worker = Worker(app)
    while worker.run_one():
        pass
    assert client.datasets._detail("t", 2).table.profiled
