"""The policies that we ship and show are policies that hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from everline.governance.built_in import BASELINE_SOURCE
from everline.governance.document import compile_document
from everline.governance.schemas import BODIES, SCOPE

PAGE = Path(__file__).parents[3] / "docs" / "governance.md"


@pytest.mark.parametrize("source", [BASELINE_SOURCE, *re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)])
def test_shipped_and_shown_policies_pass_their_own_cases(source: str) -> None:
    results = compile_document(source).run_cases()
    assert results
    assert all(result.passed for result in results)


def test_every_fact_is_on_the_page() -> None:
    text = PAGE.read_text()
    assert [name for name in SCOPE if f"`{name}`" not in text and f"`{name}[" not in text] == []
    for kind, body in BODIES.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{kind}`"))
        assert [name for name in body.__struct_fields__ if name not in row] == []
