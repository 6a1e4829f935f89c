"""What a page shows of a stranger's file: a picture, a table, text, or a sentence why there is nothing to see.

Files of runs come from anybody's program. Nothing here trusts a name: a picture is what begins like one, text is what
decodes, and every reader stops at a number of bytes, rows, columns and lines. HTML and SVG are shown as text and never
answered as pages of ours; Parquet is read by a process of its own (`parquet_preview`). A file that cannot be read is a
preview that says so, never an error.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import msgspec

from everline.server.console.view import markdown, render

HEAD_BYTES = 512 << 10
"""How much of a file is read to be shown as text, table or JSON."""
IMAGE_BYTES_MAX = 32 << 20
LINES_MAX = 1_500
LINE_CHARACTERS_MAX = 2_000
ROWS_MAX = 100
COLUMNS_MAX = 50
CELL_CHARACTERS_MAX = 200

_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
)
_ENCODINGS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_BINARY = "This file is not text, a table or a picture that can be shown here."


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """One file as a page shows it.

    Attributes:
        kind: image, table, text, markdown or none.
        note: what was left out, or why nothing is shown; empty if all is there.
        columns, rows: of a table, every cell as text.
        lines: of text.
        blocks: of Markdown.
    """

    kind: str
    note: str = ""
    columns: list[str] = []
    rows: list[list[str]] = []
    lines: list[str] = []
    blocks: list[markdown.Block] = []


def nothing(note: str) -> Preview:
    """A preview that only says why there is none."""
    return Preview(kind="none", note=note)


def image_type(head: bytes) -> str | None:
    """The media type of a raster picture by its first bytes; None for anything else, SVG too."""
    for start, kind in _IMAGES:
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return "image/avif" if head[4:12] == b"ftypavif" else None


def of_file(path: str, size: int, head: bytes) -> Preview:
    """Show a file by its name and first bytes.

    Args:
        size: bytes of the whole file.
        head: its first bytes, `HEAD_BYTES` of them or all.
    """
    if size == 0:
        return nothing("This file is empty.")
    suffix = PurePosixPath(path).suffix.lower()
    if image_type(head) and suffix in (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".avif"):
        return Preview(kind="image") if size <= IMAGE_BYTES_MAX else nothing("This picture is too large to show here.")
    text = _text(head, whole=len(head) >= size)
    if text is None:
        return nothing(_BINARY)
    whole = len(head) >= size
    note = "" if whole else f"The first {render.size(len(head))} of {render.size(size)}."
    if suffix in (".csv", ".tsv"):
        return _separated(text, tabs=suffix == ".tsv", note=note) or _lines(text, note=note)
    if suffix in (".json", ".ipynb") and whole:
        return _json(text)
    if suffix in (".md", ".markdown"):
        return Preview(kind="markdown", blocks=markdown.document(text), note=note)
    return _lines(text, note=note)


def of_text(data: bytes) -> list[str]:
    """The lines of a text that is ours, such as a recorded source file; bytes that are no text are marked."""
    return _lines(data.decode("utf-8", errors="replace"), note="").lines


def table(columns: Sequence[Any], rows: Sequence[Sequence[Any]], *, note: str = "") -> Preview:
    """A table within the limits of a page; short rows are filled up."""
    shown = [_cell(name) for name in columns[:COLUMNS_MAX]]
    if len(columns) > COLUMNS_MAX:
        note = " ".join(part for part in (note, f"The first {COLUMNS_MAX} of {len(columns)} columns.") if part)
    cut = [[_cell(one) for one in row[: len(shown)]] for row in rows[:ROWS_MAX]]
    return Preview(kind="table", columns=shown, rows=[row + [""] * (len(shown) - len(row)) for row in cut], note=note)


def _text(head: bytes, *, whole: bool) -> str | None:
    encoding = next((name for mark, name in _ENCODINGS if head.startswith(mark)), "utf-8")
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        text = decoder.decode(head, final=whole)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _lines(text: str, *, note: str) -> Preview:
    lines = text.split("\n", LINES_MAX)
    if len(lines) > LINES_MAX:
        note = f"The first {render.number(LINES_MAX)} lines."
        lines.pop()
    elif lines and not lines[-1]:
        lines.pop()
    return Preview(
        kind="text", lines=[render.clip(line.rstrip("\r"), LINE_CHARACTERS_MAX) for line in lines], note=note
    )


def _separated(text: str, *, tabs: bool, note: str) -> Preview | None:
    first = text.split("\n", 1)[0]
    mark = "\t" if tabs else ";" if first.count(";") > first.count(",") else ","
    try:
        rows = list(islice(csv.reader(io.StringIO(text, newline=""), delimiter=mark), ROWS_MAX + 2))
    except csv.Error:
        return None
    if not rows:
        return None
    if len(rows) > ROWS_MAX + 1:
        note = f"The first {ROWS_MAX} rows."
    elif note:
        rows.pop()  # the last one is cut in the middle
    return table(rows[0], rows[1:], note=note)


def _json(text: str) -> Preview:
    """JSON laid out; MLflow's tables and lists of flat objects as tables."""
    try:
        value = msgspec.json.decode(text)
        laid_out = msgspec.json.format(text.strip(), indent=2)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return _lines(text, note="This is not JSON, in spite of its name.")
    if isinstance(value, dict) and set(value) == {"columns", "data"} and _is_grid(value["columns"], value["data"]):
        note = (
            f"The first {ROWS_MAX} of {render.number(len(value['data']))} rows."
            if len(value["data"]) > ROWS_MAX
            else ""
        )
        return table(value["columns"], value["data"], note=note)
    return _lines(laid_out, note="")


def _is_grid(columns: Any, data: Any) -> bool:
    lists = isinstance(columns, list) and isinstance(data, list)
    return lists and bool(columns) and all(isinstance(row, list) for row in data[:ROWS_MAX])


def _cell(value: Any) -> str:
    return render.clip(value if isinstance(value, str) else render.value(value), CELL_CHARACTERS_MAX)
