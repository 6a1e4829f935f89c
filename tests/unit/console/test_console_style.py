"""The console's style sheet is whole: a brace that a merge lost would take the colour from all that follows."""

from __future__ import annotations

import re

from everline.server.console.view import render


def test_every_rule_is_closed_before_the_next_begins() -> None:
    text = re.sub(r"/\*.*?\*/", "", (render.HERE / "static/css/console.css").read_text(), flags=re.DOTALL)
    depth = 0
    for line in text.splitlines():
        assert depth < 2 or not re.match(r"[.#:\w]", line), line  # rules inside of others are only those of `@media`
        if depth == 1 and re.match(r"\S", line):
            assert line.startswith("}"), line
        depth += line.count("{") - line.count("}")
    assert depth == 0
