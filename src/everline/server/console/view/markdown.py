"""Reads Markdown into blocks that templates show; nothing of it ever becomes markup by itself.

`blocks` reads our own model cards as plain text. `document` reads what people and programs wrote, such as a run's
description or a README: emphasis, code and links to http(s) addresses are kept, everything else is text.
"""

from __future__ import annotations

import re

import msgspec
from markupsafe import Markup, escape

_CODE = re.compile(r"`([^`]*)`")
_DIGEST = re.compile(r"sha256:([0-9a-f]{12})[0-9a-f]{52}")


_FENCE = re.compile(r"^ {0,3}(```|~~~)")
_ITEM = re.compile(r"^\s*([-*+]|\d{1,9}[.)])\s+(.*)$")
_HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*$")
_INLINE = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\[(?P<label>[^\[\]]{1,300})\]\((?P<target>https?://[^\s()<>\"]{1,2000})\)"
    r"|(?P<bare>https?://[^\s()<>\"`*]{1,2000})"
    r"|\*\*(?P<strong>[^*]{1,1000})\*\*"
    r"|(?<![\w*])\*(?P<em>[^*\s][^*]{0,1000})\*"
)
_LINK = Markup('<a href="{}" rel="noopener noreferrer nofollow">{}</a>')


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a text.

    Attributes:
        kind: heading, paragraph, list, table, code or quote; the first row of a table is its head.
        text, rows: text to be escaped as any other, or `Markup` that is safe already.
    """

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


def document(text: str) -> list[Block]:
    """Cut a text of a stranger into blocks; what stands in `text` and `rows` is safe markup, except for code."""
    found: list[Block] = []
    open_lines: list[str] = []
    fenced: list[str] | None = None
    for line in text.replace("\r\n", "\n").split("\n"):
        if fenced is not None:
            if _FENCE.match(line):
                found.append(Block(kind="code", text="\n".join(fenced)))
                fenced = None
            else:
                fenced.append(line)
        elif _FENCE.match(line):
            found += _read(open_lines)
            open_lines, fenced = [], []
        elif not line.strip() or _HEADING.match(line):
            found += _read(open_lines) + ([_heading(line)] if line.strip() else [])
            open_lines = []
        else:
            open_lines.append(line)
    found += _read(open_lines)
    if fenced is not None:
        found.append(Block(kind="code", text="\n".join(fenced)))
    return found


def inline(text: str) -> Markup:
    """One paragraph's text with its code, emphasis and links; all else is escaped."""
    made, end = Markup(), 0
    for match in _INLINE.finditer(text):
        made += escape(text[end : match.start()])
        end = match.end()
        if match["code"]:
            made += Markup("<code>{}</code>").format(match["code"])
        elif match["target"]:
            made += _LINK.format(match["target"], match["label"])
        elif match["bare"]:
            made += _LINK.format(match["bare"], match["bare"])
        elif match["strong"]:
            made += Markup("<strong>{}</strong>").format(match["strong"])
        else:
            made += Markup("<em>{}</em>").format(match["em"])
    return made + escape(text[end:])


def _heading(line: str) -> Block:
    match = _HEADING.match(line)
    return Block(kind="heading", text=inline(match[1] if match else line))


def _read(lines: list[str]) -> list[Block]:
    """The block or blocks of lines without an empty one between them."""
    if not lines:
        return []
    if len(lines) > 1 and lines[0].lstrip().startswith("|") and set(lines[1].strip()) <= set("|-: "):
        rows: list[list[str]] = [
            [inline(cell.strip()) for cell in line.strip().strip("|").split("|")] for line in lines
        ]
        return [Block(kind="table", rows=[rows[0], *rows[2:]])]
    if all(line.lstrip().startswith(">") for line in lines):
        return [Block(kind="quote", text=inline(" ".join(line.lstrip(" >") for line in lines)))]
    items: list[list[str]] = []
    before: list[str] = []
    for line in lines:
        match = _ITEM.match(line)
        if match:
            items.append([match[2]])
        else:
            (items[-1] if items else before).append(line.strip())
    found = [Block(kind="paragraph", text=inline(" ".join(before)))] if before else []
    if items:
        found.append(Block(kind="list", rows=[[inline(" ".join(item))] for item in items]))
    return found
