"""The console's pages of a run over files that strangers made: nothing runs in our origin, nothing breaks a page."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everline.runs import artifacts, service

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64
HOSTILE = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
FILES = {
    "page.html": b"<script>alert(1)</script>",
    "drawing.svg": HOSTILE,
    "liar.png": HOSTILE,
    "true.png": PNG,
    "broken.parquet": b"PAR1" + b"\xff" * 64,
    "wide.csv": ",".join(str(n) for n in range(10_000)).encode(),
    "nested.json": b"[" * 100_000,
    "deep/er/<b>bold.txt": b"text",
    "gr\u00fc\u00df\u201ce \"x\".bin": bytes(range(256)),
    "README.md": b"[x](javascript:alert(1)) ![x](http://127.0.0.1/x.png)",
}  # fmt: skip


@pytest.fixture
def run(begin) -> str:
    with begin() as uow:
        made = service.create_run(uow, "default", name="<i>name</i>").run
        table = io.BytesIO()
        pq.write_table(pa.table({"<b>head": ["<script>cell"]}), table)
        for path, data in {**FILES, "table.parquet": table.getvalue()}.items():
            artifacts.put_artifact(uow, "default", made, path, digest=uow.blobs.put_bytes(data))
    return made


def test_files_of_strangers_are_shown_as_text_and_answered_as_downloads(browser, run: str) -> None:
    base = f"/runs/{run}/artifacts"
    for path in ("", "deep", "deep/er", *FILES, "table.parquet"):
        page = browser.get(base, params={"path": path})
        assert page.status_code == 200, path
        for markup in (
            "<script>alert",
            "<script>cell",
            "<svg xmlns",
            "<b>head",
            "<b>bold",
            "<i>name",
            'javascript:alert(1)"',
            '<img src="http',
        ):
            assert markup not in page.text, (path, markup)
        assert "unsafe" not in page.headers["content-security-policy"]
        if path.partition("/")[0] not in ("", "deep"):
            file = browser.get(f"{base}/content", params={"path": path})
            assert file.headers["content-type"] == "application/octet-stream"
            assert file.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
            assert "sandbox" in file.headers["content-security-policy"]
            assert file.headers["x-content-type-options"] == "nosniff"
    assert "&lt;script&gt;cell" in browser.get(base, params={"path": "table.parquet"}).text
    assert "of 10000 columns" in browser.get(base, params={"path": "wide.csv"}).text
    picture = browser.get(f"{base}/image", params={"path": "true.png"})
    assert (picture.headers["content-type"], picture.content) == ("image/png", PNG)
    assert "sandbox" in picture.headers["content-security-policy"]
    for path in ("drawing.svg", "liar.png", "page.html", "../true.png", "/true.png", "deep", "no such file"):
        refused = browser.get(f"{base}/image", params={"path": path})
        assert (refused.status_code in (400, 404), b"<svg xmlns" in refused.content) == (True, False), path


def test_a_folder_of_many_files_comes_in_pages_folders_first(browser, begin) -> None:
    with begin() as uow:
        made = service.create_run(uow, "default").run
        digest = uow.blobs.put_bytes(b"x")
        for n in range(201):
            artifacts.put_artifact(uow, "default", made, f"{n:03}.txt", digest=digest)
        artifacts.put_artifact(uow, "default", made, "zoo/x.txt", digest=digest)
    first = browser.get(f"/runs/{made}/artifacts").text
    second = browser.get(f"/runs/{made}/artifacts", params={"page": 1}).text
    assert first.index(">zoo<") < first.index(">000.txt<")
    assert ("199.txt" in first, "199.txt" in second, "200.txt" in second) == (False, True, True)
    for page in ("code", "environment", "system", "metrics"):
        assert "No " in browser.get(f"/runs/{made}/{page}").text
