"""Blobs are what their names say, on the way in and on the way out."""

from __future__ import annotations

import msgspec
import pytest
from starlette.testclient import TestClient

from everline.errors import IntegrityError, InvalidInputError, NotFoundError
from everline.ids import digest_bytes
from everline.runs import uploads
from everline.server.app import create_app
from everline.storage.blobs import BlobStore
from everline.storage.paths import blob_path


def test_bytes_come_back_as_they_went(tmp_path):
    store = BlobStore(str(tmp_path))
    digest = store.put_bytes(b"every link provable")
    assert store.get_bytes(digest) == b"every link provable"
    assert store.fetch(digest, tmp_path / "out").read_bytes() == b"every link provable"
    assert (tmp_path / blob_path(digest)).exists()


def test_a_flipped_bit_is_found_and_named(tmp_path):
    store = BlobStore(str(tmp_path))
    digest = store.put_bytes(b"every link provable")
    (tmp_path / blob_path(digest)).write_bytes(b"every link provablf")
    with pytest.raises(IntegrityError, match=digest):
        store.get_bytes(digest)
    with pytest.raises(IntegrityError, match=digest):
        store.fetch(digest, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_digest_cannot_be_a_path(tmp_path):
    with pytest.raises(Exception, match="not a digest"):
        BlobStore(str(tmp_path)).get_bytes("sha256:../../etc/passwd")


def test_the_api_refuses_content_that_is_not_what_its_address_says(app):
    with TestClient(create_app(app), base_url="http://127.0.0.1") as client:
        digest = digest_bytes(b"abc")
        assert client.put(f"/api/v1/blobs/{digest}", content=b"abd").status_code == 422
        assert client.head(f"/api/v1/blobs/{digest}").status_code == 404
        assert client.put(f"/api/v1/blobs/{digest}", content=b"abc").status_code == 201
        assert client.get(f"/api/v1/blobs/{digest}").content == b"abc"


def test_the_client_keeps_no_altered_copy(client):
    digest = client.blobs.put_bytes(b"abc")
    copy = client.blobs.path(digest)
    copy.write_bytes(b"abd")
    assert client.blobs.get_bytes(digest) == b"abc"


def test_a_missing_blob_is_said_to_be_missing(client):
    with pytest.raises(NotFoundError, match="no blob"):
        client.blobs.get_bytes(digest_bytes(b"never stored"))


@pytest.mark.parametrize("kind", ["directory", "bucket"])
def test_a_body_is_seen_only_when_it_is_kept(kind, tmp_path):
    store = BlobStore(str(tmp_path / "blobs") if kind == "directory" else "memory:///", spool=tmp_path / "spool")
    with store.incoming() as body:
        body.write(b"ab")
        body.write(b"cd")
        with pytest.raises(IntegrityError):
            store.keep(body, digest=digest_bytes(b"other"))
        assert not store.exists(digest_bytes(b"abcd"))
        digest = store.keep(body)
    assert digest == digest_bytes(b"abcd")
    assert store.get_bytes(digest) == b"abcd"
    assert b"".join(store.stream(digest, start=1, end=3)) == b"bc"
    assert b"".join(store.stream(digest, start=2)) == b"cd"
    with store.incoming() as body:
        body.write(b"forgotten")
    parts = []
    for number, piece in ((1, b"one "), (2, b"two")):
        with store.incoming() as body:
            body.write(piece)
            parts.append((number, store.put_part("u", number, body)))
    with pytest.raises(InvalidInputError, match="larger"):
        store.join_parts("u", parts, bytes_max=5)
    with store.join_parts("u", parts, bytes_max=7) as body:
        assert store.get_bytes(store.keep(body)) == b"one two"
    store.drop_parts("u")
    with pytest.raises(InvalidInputError, match="never uploaded"):
        store.join_parts("u", parts, bytes_max=7)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "sha256" not in path.parts] == []


def test_a_bucket_signs_addresses_and_a_directory_does_not(tmp_path, monkeypatch):
    for name, value in (("ACCESS_KEY_ID", "k"), ("SECRET_ACCESS_KEY", "s"), ("REGION", "eu-central-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    digest = digest_bytes(b"a")
    assert BlobStore(str(tmp_path)).sign(digest, seconds=60) is None
    signed = BlobStore("s3://models", spool=tmp_path / "spool").sign(digest, seconds=60)
    assert digest.removeprefix("sha256:")[2:] in signed
    assert "X-Amz-Signature=" in signed


def test_uploads_that_nobody_finishes_are_collected(begin, app):
    with begin() as uow:
        made = uploads.begin_upload(uow, "default", "0/r/artifacts/x.bin", parts=2)
    with app.blobs.incoming() as body:
        body.write(b"x")
        app.blobs.put_part(made.upload, 1, body)
    for keep_s, collected in ((3600, 0), (-1, 1), (-1, 0)):
        with begin() as uow:
            uow.settings = msgspec.structs.replace(uow.settings, upload_keep_s=keep_s)
            assert uploads.collect(uow) == {"collected": collected}
    assert [path for path in (app.blobs.directory / "parts").rglob("*") if path.is_file()] == []
