"""The pages of datasets with data that is no table, has odd types, names that play tricks, or nothing in it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from everline.sdk.client import Client

EVIL = "<script>alert(1)</script>"


def _odd(shift: int) -> pa.Table:
    """Two rows of every kind; `shift` moves the values."""
    return pa.table({
        EVIL: [f"{EVIL}{shift}", None],
        "time": pa.array([time(shift), time(2)]),
        "span": pa.array([timedelta(seconds=shift), None]),
        "day": [date(2013, 1, 1 + shift), None],
        "far": pa.array([-(2**50) + shift, 0], pa.timestamp("s")),
        "zoned": pa.array([datetime(2013, 1, 1 + shift, tzinfo=UTC), None]),
        "money": pa.array([Decimal(shift), None], pa.decimal128(30, 2)),
        "list": [[shift], []],
        "struct": [{"a": shift}, None],
        "bytes": [bytes([shift]), None],
        "nothing": pa.nulls(2),
        "infinite": [float("inf"), float(shift)],
        "nan": [float("nan"), float(shift)],
        "big": pa.array([2**64 - 1 - shift, 0], pa.uint64()),
    })  # fmt: skip


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_odd_tables_have_pages_and_none_of_their_names_is_markup(client: Client, browser: TestClient) -> None:
    client.datasets.add("odd", _odd(1))
    client.datasets.add("odd", _odd(2))
    client.datasets.tag_version("odd", 2, {EVIL: EVIL})
    pages = [
        "/datasets",
        "/datasets/odd",
        "/datasets/odd/2",
        "/datasets/odd/2?q=ni",
        "/datasets/odd/2?q=%3Cscript&page=7",
    ]
    for address in [*pages, "/datasets/odd/compare", "/datasets/odd/compare?before=2&after=1&key=day,%3Cscript"]:
        answer = browser.get(address)
        assert answer.status_code == 200, address
        assert EVIL not in answer.text, address
    found = browser.get("/datasets/odd/compare?before=1&after=2").text
    assert found.count("data-chart=") >= 8  # all but the nested, the empty, and those that did not move
    assert "No column has this in its name" in browser.get("/datasets/odd/2?q=nope").text


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_folders_and_empty_tables_have_pages_too(client: Client, browser: TestClient, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in (1, 2):
        (folder / f"{n}.txt").write_text(f"picture {n}")
        client.datasets.add("photos", folder)
    client.datasets.add("empty", pa.table({"n": pa.array([], pa.int64()), "s": pa.array([], pa.string())}))
    client.datasets.add("empty", pa.table({"n": [1], "s": ["a"]}))
    for name in ("photos", "empty"):
        for address in (f"/datasets/{name}", f"/datasets/{name}/1", f"/datasets/{name}/compare?before=1&after=2"):
            assert browser.get(address).status_code == 200, address
    assert "2.txt" in browser.get("/datasets/photos/compare?before=1&after=2").text
    assert "only between tables" in browser.get("/datasets/photos/compare?before=1&after=2&key=n").text


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_is_not_there_is_said_on_a_page(client: Client, browser: TestClient) -> None:
    client.datasets.add("one", pa.table({"n": [1]}))
    for address, status in (
        ("/datasets/none", 404), ("/datasets/one/9", 404), ("/datasets/one/compare?before=1&after=nope", 404),
        ("/datasets/none/compare", 404), ("/datasets/one?before=x", 400), ("/datasets?tag==", 400),
        ("/certificates/none", 404), ("/certificates/none/envelope", 404),
    ):  # fmt: skip
        answer = browser.get(address)
        assert (answer.status_code, "<main" in answer.text) == (status, True), address
    assert browser.get("/datasets/one/compare").status_code == 200  # a single version beside itself
    assert browser.post("/datasets/one/tags", data={"key": "k", "value": "v"}).status_code == 403
    assert client.datasets.get("one").tags == {}
