"""Previews of files that strangers made: shown as what they are, within limits, and never an error."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everline.server.console.view import parquet_preview, preview

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


def shown(path: str, data: bytes) -> preview.Preview:
    return preview.of_file(path, len(data), data[: preview.HEAD_BYTES])


@pytest.mark.parametrize(
    ("path", "data", "kind"),
    [
        ("a.png", PNG, "image"),
        ("a.PNG", b"<svg onload=alert(1)>", "text"),
        ("a.svg", b"<svg onload=alert(1)>", "text"),
        ("a.html", b"<script>alert(1)</script>", "text"),
        ("a.html", PNG, "none"),
        ("a.csv", b"a;b\n1;2\n", "table"),
        ("a.csv", b"\0\x01\x02", "none"),
        ("a.csv", b'"never closed' + b"x" * 200_000, "text"),
        ("a.csv", b"\n", "table"),
        ("a.tsv", b"a\tb\n1\t2\n", "table"),
        ("a.json", b'{"a": [1, 2]}', "text"),
        ("a.json", b'{"columns": ["a"], "data": [[1], [2]]}', "table"),
        ("a.json", b'{"columns": [1], "data": 7}', "text"),
        ("a.json", b"[" * 300_000, "text"),
        ("a.json", b"{", "text"),
        ("a.md", b"# Title\n\ntext", "markdown"),
        ("a.txt", "\ufeffgr\u00fc\u00dfe".encode("utf-16"), "text"),
        ("a.txt", b"\xff\xff\xff", "none"),
        ("noname", b"x = 1\n", "text"),
        ("a.bin", bytes(range(256)), "none"),
        ("a.png", b"", "none"),
        ("a.parquet.txt", b"PAR1", "text"),
    ],
)
def test_a_file_is_shown_as_what_it_is(path: str, data: bytes, kind: str) -> None:
    found = shown(path, data)
    assert found.kind == kind
    assert found.note or kind != "none"


def test_a_wide_and_long_table_is_cut_and_says_so() -> None:
    head = ",".join(f"c{n}" for n in range(10_000))
    found = shown("a.csv", (head + "\n" + "\n".join(",".join("7" * 10_000) for _ in range(300))).encode())
    assert 20 < len(found.rows) < 30
    assert {len(found.columns), *map(len, found.rows)} == {preview.COLUMNS_MAX}
    assert "of 10000 columns" in found.note
    long = shown("a.csv", b"a,b\n" + b"1\n" * 5000)
    assert (len(long.rows), long.rows[0], long.note) == (preview.ROWS_MAX, ["1", ""], "The first 100 rows.")


def test_text_is_cut_by_bytes_lines_and_characters() -> None:
    found = shown("a.log", b"x" * 50_000 + b"\n" + b"y\n" * 100_000)
    assert (len(found.lines), len(found.lines[0])) == (preview.LINES_MAX, preview.LINE_CHARACTERS_MAX)
    one_line = shown("a.txt", "\u00fc".encode() * 10_000_000)
    assert one_line.note == "The first 524.3 kB of 20.0 MB."
    assert preview.of_text(b"a\r\n\xffb\n") == ["a", "\ufffdb"]


def test_parquet_is_read_by_a_process_that_a_bomb_cannot_leave(tmp_path: Path) -> None:
    columns = {f"c{n}": np.arange(300) for n in range(60)}
    good, bomb, broken = tmp_path / "good.parquet", tmp_path / "bomb.parquet", tmp_path / "broken.parquet"
    pq.write_table(pa.table({"when": pa.array([0] * 300, pa.timestamp("us", "UTC")), **columns}), good)
    found = parquet_preview.read(good)
    assert found.columns[0] == "when\ntimestamp[us, tz=UTC]"
    assert (found.rows[7][1], len(found.rows), len(found.columns)) == ("7", 100, 50)
    assert found.note == "The first 100 of 300 rows. The first 50 of 61 columns."
    # 40 kB that ask for more than the process may have.
    value = pa.array([b"\0" * (256 << 20)], pa.large_binary())
    pq.write_table(
        pa.table({"bomb": value}),
        bomb,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        write_statistics=False,
    )
    assert bomb.stat().st_size < 200_000
    assert parquet_preview.read(bomb).kind == "none"
    broken.write_bytes(b"PAR1" + b"\xff" * 64 + b"PAR1")
    assert "cannot be read" in parquet_preview.read(broken).note


def test_a_number_of_a_table_is_written_for_people() -> None:
    found = preview.table(["a", 7], [[1.23456789, None], [True, {"name": "x"}], [msgspec.UNSET, "y" * 999]][:2])
    assert (found.columns, found.rows) == (["a", "7"], [["1.23457", "–"], ["true", "x"]])
