"""Blobs are what their names say, on the way in and on the way out."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from everline.errors import IntegrityError, NotFoundError
from everline.ids import digest_bytes
from everline.server.app import create_app
from everline.storage.blobs import BlobStore, blob_path


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
