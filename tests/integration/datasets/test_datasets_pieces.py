"""Large files are kept as pieces: what is shared is stored once, and no reader sees a difference."""

from __future__ import annotations

import random
import struct
import threading
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from everline.datasets.cutting import cut
from everline.errors import EverlineError, IntegrityError
from everline.ids import digest_bytes
from everline.sdk.client import Client
from everline.server.app import create_app
from everline.server.application import Application
from everline.storage import tables
from everline.storage.bundle import write_head
from everline.storage.pieces import Piece, write_recipe

MIB = 1 << 20


def stored(app: Application) -> int:
    return sum(kept.bytes for kept in app.blobs.objects.list(""))


def keep(app: Application, content: bytes, **options: bool) -> str:
    with app.blobs.incoming() as body:
        body.write(content)
        return app.blobs.keep_cut(body, cut(body.path, parquet=False), **options)


def change(app: Application, statement: object) -> None:
    with app.database.begin() as connection:
        connection.execute(statement)


@pytest.fixture(params=["directory", "bucket"])
def store(request: pytest.FixtureRequest, settings) -> Application:
    url = "memory:///" if request.param == "bucket" else ""
    application = Application(msgspec.structs.replace(settings, blob_url=url))
    yield application
    application.close()


def test_a_changed_copy_stores_little_and_reads_like_any_other(store, tmp_path):
    first = random.Random(1).randbytes(8 * MIB)
    second = first[: 3 * MIB] + b"some more" + first[3 * MIB :]
    old = keep(store, first)
    before = stored(store)
    new = keep(store, second)
    assert stored(store) - before < MIB
    blobs = store.blobs
    for digest, content in ((old, first), (new, second)):
        assert digest == digest_bytes(content)
        assert blobs.exists(digest)
        assert blobs.missing([digest, digest_bytes(b"no")]) == [digest_bytes(b"no")]
        assert blobs.size(digest) == len(content)
        assert blobs.get_bytes(digest) == content
        assert blobs.is_intact(digest)
        assert blobs.fetch(digest, tmp_path / "out").read_bytes() == content
        assert blobs.sign(digest, seconds=1) is None
        for start, end in ((0, None), (0, 1), (3 * MIB - 5, 3 * MIB + 20), (len(content) - 1, None), (77, 5 * MIB)):
            assert b"".join(blobs.stream(digest, start=start, end=end)) == content[start:end]
    with TestClient(create_app(store), base_url="http://127.0.0.1") as http:
        part = http.get(f"/api/v1/blobs/{new}", headers={"Range": f"bytes={3 * MIB}-{3 * MIB + 8}"})
    assert (part.status_code, part.content) == (206, b"some more")
    before = stored(store)
    assert keep(store, second) == new
    assert stored(store) == before


def test_a_table_with_rows_inserted_or_one_column_changed_stores_a_fraction(client: Client):
    rng = np.random.default_rng(3)
    rows = 200_000
    columns = {f"x{i}": rng.normal(size=rows) for i in range(6)} | {"carrier": rng.choice(["UA", "AA", "B6"], rows)}
    table = pa.table(columns)
    packs = client.settings.home / "blobs"

    def size() -> int:
        return sum(path.stat().st_size for path in packs.rglob("*") if path.is_file())

    client.datasets.add("flights", table)
    whole = size()
    inserted = pa.concat_tables([table.slice(0, 90_000), table.slice(5, 2_000), table.slice(90_000)])
    client.datasets.add("flights", inserted)
    grown = size()
    assert grown - whole < whole / 4
    changed = table.set_column(2, "x2", pa.array(columns["x2"] + 1))
    client.datasets.add("flights", changed)
    assert size() - grown < whole / 5
    for version, expected in ((1, table), (2, inserted), (3, changed)):
        assert client.datasets.table("flights", version).equals(expected)
        assert client.datasets.verify("flights", version).verified
    out = client.datasets.checkout("flights", packs.parent / "out", 2)[0]
    assert pq.read_table(out).equals(inserted)


DAMAGES = {
    "a byte in a pack": (lambda app, path: flip(path, -1), "altered|digest"),
    "a pack cut short": (lambda app, path: path.write_bytes(path.read_bytes()[:-1]), "is gone, or shorter"),
    "a pack gone": (lambda app, path: path.unlink(), "is gone, or shorter"),
    "a place moved": (lambda app, path: change(app, tables.piece.update().values(start=tables.piece.c.start + 1)), "."),
    "a length changed": (lambda app, path: change(app, tables.piece.update().values(bytes=5)), "has 5 bytes in"),
    "a place far outside": (
        lambda app, path: change(app, tables.piece.update().values(start=1 << 40)),
        "is gone, or s",
    ),
    "places lost": (lambda app, path: change(app, tables.piece.delete()), "is in no pack"),
}


def flip(path: Path, index: int) -> None:
    data = bytearray(path.read_bytes())
    data[index] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_named_and_mended_by_adding_again(damage, client, app, tmp_path):
    content = random.Random(2).randbytes(3 * MIB)
    keep(app, content)
    source = tmp_path / "data.bin"
    source.write_bytes(content[:MIB] + b"!" + content[MIB:] + random.Random(3).randbytes(50_000))
    version = client.datasets.add("d", source)
    digest = client.datasets.show("d").files[0].digest
    assert app.blobs.is_intact(digest)
    packs = sorted((app.blobs.directory / "packs").rglob("*-*"), key=lambda path: path.stat().st_size)
    assert len(packs) == 2
    act, said = DAMAGES[damage]
    act(app, packs[0])
    found = client.datasets.verify("d", version.version)
    assert not found.verified
    assert found.bad[0].path == "data.bin"
    with pytest.raises(IntegrityError, match=said):
        app.blobs.get_bytes(digest)
    assert not app.blobs.is_intact(digest)
    keep(app, source.read_bytes(), repair=True)
    assert client.datasets.verify("d", version.version).verified


HOSTILE = {
    "no recipe": b"{}",
    "half an entry": write_recipe([Piece("sha256:" + "0" * 64, 5)])[:-1],
    "empty pieces": write_recipe([Piece("sha256:" + "0" * 64, 0)] * 10),
    "another length": write_recipe([Piece("sha256:" + "0" * 64, 5)]),
    "a huge count": write_recipe([]) + struct.pack("<32sI", b"x" * 32, 1) * 4_000_001,
    "unknown pieces": write_recipe([Piece("sha256:" + "0" * 64, 3 * MIB)]),
    "huge pieces": write_recipe([Piece("sha256:" + "0" * 64, (1 << 32) - 1)] * 1000),
}


@pytest.mark.parametrize("recipe", HOSTILE)
def test_a_recipe_that_lies_is_refused(recipe, app):
    digest = keep(app, random.Random(4).randbytes(3 * MIB))
    change(app, tables.pieced.update().values(recipe=app.blobs.put_bytes(HOSTILE[recipe]), pack=None))
    with pytest.raises(IntegrityError, match=digest):
        app.blobs.get_bytes(digest)


def test_the_same_added_by_many_at_once_is_stored_once(app):
    content = random.Random(5).randbytes(4 * MIB)
    small = {digest_bytes(part): part for part in (bytes([i]) * 100 for i in range(50))}
    gate = threading.Barrier(4)

    def add() -> None:
        gate.wait()
        keep(app, content)
        with TestClient(create_app(app), base_url="http://127.0.0.1") as http:
            head = write_head([(digest, len(data)) for digest, data in small.items()])
            http.post("/api/v1/blobs/bundle", content=head + b"".join(small.values())).raise_for_status()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stored(app) < len(content) + 10_000  # the small ones, what the bundle says of them, and a recipe
    assert dict(app.blobs.get_many(list(small))) == small
    assert app.blobs.is_intact(digest_bytes(content))


def _bundle(*entries: tuple[str, int], contents: bytes) -> bytes:
    return write_head(entries) + contents


ABC = digest_bytes(b"abc")
BUNDLES = {
    "empty": b"",
    "no head": b"\xff\xff\xff\x7f[]",
    "no JSON": struct.pack("<I", 3) + b"abc",
    "another shape": struct.pack("<I", 7) + b'{"a":1}',
    "no digest": _bundle(("../../x", 3), contents=b"abc"),
    "negative": _bundle((ABC, -3), contents=b"abc"),
    "longer than the body": _bundle((ABC, 1 << 60), contents=b"abc"),
    "shorter than the body": _bundle((ABC, 3), contents=b"abcd"),
    "twice": _bundle((ABC, 3), (ABC, 3), contents=b"abcabc"),
    "another content": _bundle((ABC, 3), contents=b"abd"),
    "too many": _bundle(*((ABC, 1) for _ in range(10_001)), contents=b"x" * 10_001),
}


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_that_lies_is_refused_and_leaves_nothing(name, app, browser):
    answer = browser.post("/api/v1/blobs/bundle", content=BUNDLES[name])
    assert answer.status_code in (400, 422), answer.text
    assert stored(app) == 0


def test_contents_are_handed_out_only_if_all_are_there(browser, client):
    client.blobs.put_many({ABC: b"abc", digest_bytes(b""): b""})
    assert dict(client.blobs.get_many([(ABC, 3), (digest_bytes(b""), 0)])) == {ABC: b"abc", digest_bytes(b""): b""}
    lost = browser.post("/api/v1/blobs/contents", json={"digests": [ABC, digest_bytes(b"no")]})
    assert (lost.status_code, digest_bytes(b"no") in lost.text) == (404, True)
    assert browser.post(
        "/api/v1/blobs/contents", json={"digests": [f"sha256:{i:064x}" for i in range(10_001)]}
    ).is_error


@pytest.mark.parametrize("content", [b"PAR1" + b"x" * 3 * MIB + b"PAR1", b"x" * 3 * MIB, b"PAR1"])
def test_what_calls_itself_parquet_and_is_none_is_cut_all_the_same(content, tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    lengths = cut(path, parquet=True)
    assert sum(lengths) == len(content)
    assert min(lengths) > 0


def test_parquet_with_damaged_pages_is_cut_without_an_error(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": np.random.default_rng(1).normal(size=500_000)}), path)
    data = bytearray(path.read_bytes())
    whole = cut(path, parquet=True)
    for seed in range(50):
        broken = bytearray(data)
        rng = random.Random(seed)
        for _ in range(200):
            broken[rng.randrange(len(broken) - 2_000)] ^= rng.randrange(1, 256)
        broken[4:40] = rng.randbytes(36)
        path.write_bytes(broken)
        assert sum(cut(path, parquet=True)) == len(data)
    assert len(whole) > 5


def test_errors_of_a_bundle_are_ours(client):
    with pytest.raises(EverlineError, match="no bundle"):
        client.send("POST", "/api/v1/blobs/bundle", content=b"\0\0\0\0")
