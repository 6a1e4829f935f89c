"""Files count by what they say, not by when and where they were made; and no less."""

from __future__ import annotations

import gzip
import io
import json
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LinearRegression

from everline.reproduction.contents import content_digest


def archive(members: dict[str, bytes], *, year: int = 2020) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, content in members.items():
            target.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), content)
    return buffer.getvalue()


def test_archives_count_by_their_members() -> None:
    first = content_digest("a.npz", archive({"x.npy": b"1", "y.npy": b"2"}))
    assert content_digest("a.npz", archive({"y.npy": b"2", "x.npy": b"1"}, year=2026)) == first
    for other in ({"x.npy": b"1", "y.npy": b"3"}, {"x.npy": b"1"}, {"x.npy": b"1", "z.npy": b"2"}):
        assert content_digest("a.npz", archive(other)) != first
    early, late = gzip.compress(b"same", mtime=1), gzip.compress(b"same", mtime=2)
    assert content_digest("a.gz", early) == content_digest("a.gz", late)
    assert content_digest("a.gz", early) != content_digest("a.gz", gzip.compress(b"other", mtime=1))


def test_models_of_skops_count_without_addresses() -> None:
    X = np.arange(6.0).reshape(3, 2)

    def model(last: float) -> LinearRegression:
        return LinearRegression().fit(X, np.array([1.0, 2.0, last]))

    first = skops.io.dumps(model(3.5))
    again = skops.io.dumps(model(3.5))
    assert first != again, "skops has come to write equal models as equal bytes: then this is needed no more"
    assert content_digest("m.skops", first) == content_digest("m.skops", again)
    assert content_digest("m.skops", first) != content_digest("m.skops", skops.io.dumps(model(3.6)))
    # Which members share one object is part of what a model is.
    shared, apart = ({"__loader__": "x", "a": {"__id__": 7}, "b": {"__id__": number}} for number in (7, 8))
    digests = {content_digest("m", archive({"schema.json": json.dumps(one).encode()})) for one in (shared, apart)}
    assert len(digests) == 2


def test_a_model_description_counts_without_its_occasion() -> None:
    def described(run: str, flavor: str = "sklearn") -> bytes:
        place = f"artifacts: {{weights: {{path: artifacts/w.npz, uri: /tmp/{run}/w.npz}}}}"
        return f"run_id: {run}\nutc_time_created: '{run}'\nflavors:\n  {flavor}:\n    {place}\n".encode()

    assert content_digest("model/MLmodel", described("a")) == content_digest("MLmodel", described("b"))
    assert content_digest("MLmodel", described("a")) != content_digest("MLmodel", described("a", "xgboost"))
    assert content_digest("notes.txt", described("a")) != content_digest("notes.txt", described("b"))


@pytest.mark.parametrize("data", [b"PK\x03\x04broken", b"\x1f\x8b", b"[[[", b"\xff\xfe", b""])
def test_what_cannot_be_read_counts_byte_for_byte(data: bytes) -> None:
    for name in ("MLmodel", "a.zip"):
        assert content_digest(name, data) == content_digest(name, data)
        assert content_digest(name, data) != content_digest(name, data + b"x")
