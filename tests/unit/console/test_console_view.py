"""Drawings, cards and words of the console, without a browser."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everline.server.console.view import charts, graph, markdown, render

KEYS = st.sampled_from("abcdefghij")


@given(edges=st.lists(st.tuples(KEYS, KEYS), max_size=30))
def test_any_graph_is_drawn_without_overlap_and_inside_its_frame(edges: list[tuple[str, str]]) -> None:
    nodes = [graph.Node(key=key, title=key) for key in "abcdefghij"]
    for drawing in graph.both(nodes, edges):
        boxes = [(box.x, box.y) for box in drawing.nodes]
        for x, y in boxes:
            assert 0 <= x <= drawing.width - drawing.box_width
            assert 0 <= y <= drawing.height - drawing.box_height
        for at, (x, y) in enumerate(boxes):
            for other_x, other_y in boxes[at + 1 :]:
                assert abs(x - other_x) >= drawing.box_width or abs(y - other_y) >= drawing.box_height


def test_what_comes_first_stands_left_or_above() -> None:
    nodes = [graph.Node(key=key, title=key) for key in ("last", "first", "middle")]
    across, down = graph.both(nodes, [("first", "middle"), ("middle", "last"), ("first", "last"), ("last", "first")])
    left = {box.node.key: box.x for box in across.nodes}
    top = {box.node.key: box.y for box in down.nodes}
    assert left["first"] < left["middle"] < left["last"]
    assert top["first"] < top["middle"] < top["last"]
    assert len(across.edges) == 3  # the one that closes a circle is left out


def test_a_graph_without_nodes_is_empty() -> None:
    assert [drawing.nodes for drawing in graph.both([], [("a", "b")])] == [[], []]


def test_a_card_is_cut_into_blocks_without_its_front_matter() -> None:
    front = "---\nlicense: mit\n---\n\n# flights\n\n"
    found = markdown.blocks(front + "## Data\n\nFrom `x`.\n\n| a | b |\n| --- | --- |\n| 1 | `2` |\n\n- one\n- two\n")
    assert [block.kind for block in found] == ["heading", "paragraph", "table", "list"]
    assert found[1].text == "From x."
    assert found[2].rows == [["a", "b"], ["1", "2"]]
    assert found[3].rows == [["one"], ["two"]]


def test_markdown_of_strangers_is_text_with_emphasis_code_and_links_to_the_web() -> None:
    text = """# Try 2

**Bold** and *em*, `a < b`, [paper](https://example.org/a?b=1&c) and <img src=x onerror=alert(1)>
[click](javascript:alert(1)) [data](data:text/html,x)

- one
  goes on
- two & three

| a | b |
|---|:-:|
| 1 | **2** |

> quoted

```html
<script>alert(1)</script>
"""
    found = markdown.document(text)
    assert [block.kind for block in found] == ["heading", "paragraph", "list", "table", "quote", "code"]
    page = str(render._pages.get_template("parts.html").module.prose(found))  # type: ignore[attr-defined]
    assert "<strong>Bold</strong> and <em>em</em>, <code>a &lt; b</code>" in page
    assert '<a href="https://example.org/a?b=1&amp;c" rel="noopener noreferrer nofollow">paper</a>' in page
    assert "<li>one goes on</li><li>two &amp; three</li>" in page
    assert "<td><strong>2</strong></td>" in page
    for hostile in ("<img", "<script", 'href="javascript', 'href="data'):
        assert hostile not in page
    assert [block.kind for block in markdown.document("*" * 50_000 + "[" * 50_000)] == ["paragraph"]


def test_a_value_that_is_not_finite_leaves_a_gap_and_long_lines_keep_their_ends() -> None:
    assert charts.series("s", [(0, 1.0), (1, math.nan), (2, math.inf)])["points"] == [[0, 1.0], [1, None], [2, None]]
    thinned = charts.series("s", [(n, float(n)) for n in range(100_000)])["points"]
    assert (len(thinned), thinned[0][0], thinned[-1][0]) == (charts.POINTS_MAX, 0, 99_999)


@pytest.mark.parametrize(
    ("given_value", "shown"),
    [
        (0.1234567, "0.1235"),
        (12345, "12\u202f345"),
        (1234.56, "1\u202f234.6"),
        (None, "–"),
        (math.nan, "nan"),
        (True, "True"),
    ],
)
def test_numbers_as_people_read_them(given_value: object, shown: str) -> None:
    assert render.number(given_value) == shown


def test_text_of_users_never_becomes_markup() -> None:
    page = render.render(
        "error.html",
        {
            "title": "t", "section": None, "sections": (), "project": "default", "actor": "<b>", "login": False,
            "form_token": "", "url": render.path, "status": 404, "message": "<script>1</script>", "hint": None,
            "back": "/",
        },
    )  # fmt: skip
    assert "<script>1" not in page
    assert "&lt;script&gt;1" in page


def test_addresses_quote_names_and_keep_the_project() -> None:
    assert render.path("models", "a/b c", 2, project="other") == "/models/a%2Fb%20c/2?project=other"
    assert render.path("runs", cursor=None) == "/runs"


def test_times_are_utc_and_exact_in_the_title() -> None:
    shown = render.when(datetime(2013, 6, 1, 5, 0, 0, 123456, tzinfo=UTC))
    assert 'title="2013-06-01T05:00:00.123456Z"' in shown
    assert ">2013-06-01 05:00:00<" in shown
