"""Reads the Markdown that our own model cards are written in: headings, paragraphs, lists and tables, nothing else."""

from __future__ import annotations

import re

import msgspec

_CODE = re.compile(r"`([^`]*)`")
_DIGEST = re.compile(r"sha256:([0-9a-f]{12})[0-9a-f]{52}")


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a card. `kind` is heading, paragraph, list or table; the first row of a table is its head."""

    kind: str
    text: str = ""
    rows: list[list[str]] = []


def blocks(text: str) -> list[Block]:
    """Cut a card into blocks; its front matter and its title, which the page shows already, are left out."""
    body = text.split("\n---\n", 1)[-1] if text.startswith("---\n") else text
    found = [_block(piece) for piece in re.split(r"\n\s*\n", body.strip()) if piece.strip()]
    return [block for block in found if block is not None]


def _block(piece: str) -> Block | None:
    lines = [line.strip() for line in piece.strip().splitlines()]
    if lines[0].startswith("# "):
        return None
    if lines[0].startswith("#"):
        return Block(kind="heading", text=_plain(lines[0].lstrip("# ")))
    if lines[0].startswith("|") and len(lines) > 1:
        rows = [[_plain(cell) for cell in line.strip("|").split("|")] for line in lines]
        return Block(kind="table", rows=[rows[0], *rows[2:]])
    if all(line.startswith("- ") for line in lines):
        return Block(kind="list", rows=[[_plain(line[2:])] for line in lines])
    return Block(kind="paragraph", text=_plain(" ".join(lines)))


def _plain(text: str) -> str:
    """Text without marks, long digests cut."""
    return _DIGEST.sub(r"\1…", _CODE.sub(r"\1", text)).strip()
