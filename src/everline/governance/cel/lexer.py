"""Cuts the text of an expression into tokens.

Source: the CEL language definition, section "Syntax" (https://github.com/google/cel-spec).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from everline.governance.cel.syntax import SOURCE_CHARS_MAX, CelError, Span

RESERVED = frozenset({
    "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package",
    "namespace", "return", "var", "void", "while",
})  # fmt: skip

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n\f]+ | //[^\n]*)
  | (?P<float>\d+\.\d+(?:[eE][+-]?\d+)? | \d+[eE][+-]?\d+ | \.\d+(?:[eE][+-]?\d+)?)
  | (?P<int>0[xX][0-9a-fA-F]+ | \d+)
  | (?P<string>[rR]?(?:\"\"\"|\'\'\'|\"|\'))
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])
    """,
    re.VERBOSE,
)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
            "\\": "\\", "'": "'", '"': '"', "`": "`", "?": "?"}  # fmt: skip
_CODE_DIGITS = {"x": 2, "X": 2, "u": 4, "U": 8}
INT_MAX = 2**63 - 1
_PLAIN_EQUALS = "="


class Token(NamedTuple):
    """A piece of the text: `kind` is int, float, string, name, sign or end."""

    kind: str
    text: str
    value: int | float | str
    span: Span


def tokenize(source: str) -> list[Token]:
    """Cut an expression into tokens; the last one is of kind `end`.

    Raises:
        CelError: the text is too long, or something in it belongs to no token.
    """
    if len(source) > SOURCE_CHARS_MAX:
        raise CelError(
            f"The expression has {len(source)} characters; {SOURCE_CHARS_MAX} are allowed.",
            source=source[:80],
            span=Span(0, 1),
        )
    tokens: list[Token] = []
    position = 0
    while position < len(source):
        match = _TOKEN.match(source, position)
        if match is None:
            raise _unexpected(source, position)
        kind, text = match.lastgroup or "", match.group()
        end = match.end()
        value: int | float | str = text
        if kind == "string":
            value, end = _string(source, position, text)
        elif kind == "int":
            value = int(text, 16 if text[:2] in {"0x", "0X"} else 10)
            if value > INT_MAX + 1:  # one more than fits: it may stand behind a minus sign
                raise CelError("This number has more than 64 bits.", source=source, span=Span(position, end))
        elif kind == "float":
            value = float(text)
        if kind != "space":
            tokens.append(Token(kind, source[position:end], value, Span(position, end)))
        position = end
    tokens.append(Token("end", "", "", Span(len(source), len(source))))
    return tokens


def _unexpected(source: str, position: int) -> CelError:
    character = source[position]
    hint = "Write == to compare." if character == _PLAIN_EQUALS else None
    if character in "&|":
        hint = f"Write {character * 2}."
    return CelError(f"{character!r} means nothing here.", source=source, span=Span(position, position + 1), hint=hint)


def _string(source: str, start: int, opening: str) -> tuple[str, int]:
    raw = opening[0] in "rR"
    quote = opening.lstrip("rR")
    position = start + len(opening)
    pieces: list[str] = []
    while not source.startswith(quote, position):
        if position >= len(source) or (source[position] == "\n" and len(quote) == 1):
            raise CelError("This text has no closing quote.", source=source, span=Span(start, position))
        if source[position] == "\\" and not raw:
            piece, position = _escape(source, position)
            pieces.append(piece)
        else:
            pieces.append(source[position])
            position += 1
    return "".join(pieces), position + len(quote)


def _escape(source: str, position: int) -> tuple[str, int]:
    code = source[position + 1 : position + 2]
    if code in _ESCAPES:
        return _ESCAPES[code], position + 2
    digits = source[position + 2 : position + 2 + _CODE_DIGITS.get(code, 0)]
    if code in _CODE_DIGITS and len(digits) == _CODE_DIGITS[code] and re.fullmatch("[0-9a-fA-F]+", digits):
        point = int(digits, 16)
        if point <= 0x10FFFF and not 0xD800 <= point <= 0xDFFF:
            return chr(point), position + 2 + len(digits)
    raise CelError(
        "This escape is not known.",
        source=source,
        span=Span(position, position + 2),
        hint=r"Known are \n \t \\ \' \" \xHH \uHHHH; write r'…' for text without escapes.",
    )
