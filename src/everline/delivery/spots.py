"""Where the keys of a TOML document stand: its own reader does not say, and an error without a line is a riddle.

The scanner reads text that `tomllib` has accepted, so that it need not judge it.
"""

from __future__ import annotations

import re
import tomllib
from typing import NamedTuple

Path = tuple[str | int, ...]
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_PLAIN = re.compile(r"[^,\]}\n#]*")
_STRINGS = (
    re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}(?!")', re.DOTALL),
    re.compile(r"'''.*?'{3,5}(?!')", re.DOTALL),
    re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)


class Spot(NamedTuple):
    """A place in a text: line and column from 1, and the length of what stands there."""

    line: int
    column: int
    length: int


def find_spots(text: str) -> dict[Path, Spot]:
    """Where each key, table and array element of a valid TOML document stands.

    Example:
        >>> find_spots('[monitors.drift]\\nendpoint = "e"')[("monitors", "drift", "endpoint")]
        Spot(line=2, column=1, length=8)
    """
    scanner = _Scanner(text)
    scanner.run()
    return scanner.found


def nearest_spot(spots: dict[Path, Spot], path: Path) -> Spot | None:
    """The spot of `path`, or of the closest thing that holds it."""
    for length in range(len(path), 0, -1):
        if path[:length] in spots:
            return spots[path[:length]]
    return None


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Path, Spot] = {}
        self._elements: dict[Path, int] = {}
        self._counted = (0, 1, 0)  # where counting lines has come to: position, its line, the start of that line

    def run(self) -> None:
        prefix: Path = ()
        while self._skip(_BLANK) < len(self.text):
            if self.text[self.at] != "[":
                self._pair(prefix)
                continue
            start, double = self.at, self.text.startswith("[[", self.at)
            self.at += 2 if double else 1
            keys = self._keys()
            self._skip(_SPACE)
            self.at += 2 if double else 1
            prefix = self._table([key for key, _ in keys], double=double)
            for length in range(1, len(prefix) + 1):  # a table's header is also where the tables around it stand
                self.found.setdefault(prefix[:length], self._spot(start, self.at - start))

    def _table(self, keys: list[str], *, double: bool) -> Path:
        path: Path = ()
        for number, key in enumerate(keys):
            path += (key,)
            if double and number == len(keys) - 1:
                self._elements[path] = self._elements.get(path, -1) + 1
            if path in self._elements:
                path += (self._elements[path],)
        return path

    def _pair(self, prefix: Path) -> None:
        path = prefix
        for key, spot in self._keys():
            path += (key,)
            self.found.setdefault(path, spot)
        self._skip(_SPACE)
        self.at += 1  # the equals sign
        self._value(path)

    def _keys(self) -> list[tuple[str, Spot]]:
        keys = []
        while True:
            self._skip(_SPACE)
            start = self.at
            if self.text[start] in "\"'":
                self._string()
                name = tomllib.loads(f"key = {self.text[start : self.at]}")["key"]
            else:
                self._skip(_BARE)
                name = self.text[start : self.at]
            keys.append((name, self._spot(start, self.at - start)))
            self._skip(_SPACE)
            if self.at >= len(self.text) or self.text[self.at] != ".":
                return keys
            self.at += 1

    def _value(self, path: Path) -> None:
        self._skip(_SPACE)
        first = self.text[self.at : self.at + 1]
        if first in ('"', "'"):
            self._string()
        elif first == "[":
            self._array(path)
        elif first == "{":
            self._inline(path)
        else:
            self._skip(_PLAIN)

    def _array(self, path: Path) -> None:
        self.at += 1
        number = 0
        while self.text[self._skip(_BLANK)] != "]":
            if self.text[self.at] == ",":
                self.at += 1
                continue
            start = self.at
            self._value((*path, number))
            self.found.setdefault((*path, number), self._spot(start, len(self.text[start : self.at].splitlines()[0])))
            number += 1
        self.at += 1

    def _inline(self, path: Path) -> None:
        self.at += 1
        while self.text[self._skip(_BLANK)] != "}":
            if self.text[self.at] == ",":
                self.at += 1
                continue
            self._pair(path)
        self.at += 1

    def _string(self) -> None:
        for kind in _STRINGS:
            match = kind.match(self.text, self.at)
            if match is not None:
                self.at = match.end()
                return
        self.at = len(self.text)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.at

    def _spot(self, start: int, length: int) -> Spot:
        position, line, begins = self._counted
        if start >= position:
            line += self.text.count("\n", position, start)
            begins = max(begins, self.text.rfind("\n", 0, start) + 1)
            self._counted = (start, line, begins)
            return Spot(line, start - begins + 1, max(1, length))
        begins = self.text.rfind("\n", 0, start) + 1
        return Spot(self.text.count("\n", 0, start) + 1, start - begins + 1, max(1, length))
