"""A step's digest changes with what its result depends on, and with nothing else."""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path

import pytest

from everline.pipelines.codedigest import code_digest, project_root
from everline.pipelines.keys import material_of, step_key, why

_numbers = itertools.count()

HELPER = "RATE = {rate}\n\ndef scaled(x):\n    return x * RATE\n"
STEP = """
import math
import re
import everline as el
from {helper} import scaled
import {helper} as tools

LIMIT = {{"most": {limit}}}
PATTERN = re.compile("{pattern}")

def util(x):
    return min(x, LIMIT["most"])

class Box:
    def size(self):
        return {size}

@el.step{options}
def work(x: int, other: int = 0) -> float:
    {comment}
    unrelated = x
    return util(x) + tools.scaled(x) + len(PATTERN.pattern) + Box().size() + math.pi + unrelated

@el.step
def unrelated(x: int) -> int:
    return x + {unrelated}
"""


def digest(
    folder: Path,
    *,
    rate: int = 2,
    limit: int = 9,
    pattern: str = "a",
    size: int = 1,
    options: str = "",
    comment: str = "# plain",
    unrelated: int = 1,
    mark: bool = True,
) -> dict[str, str]:
    """The parts of `work` in a fresh project."""
    number = next(_numbers)
    helper, main = f"helper_{number}", f"main_{number}"
    project = folder / str(number)
    project.mkdir()
    if mark:
        (project / "everline.toml").touch()
    (project / f"{helper}.py").write_text(HELPER.format(rate=rate))
    text = STEP.format(
        helper=helper, limit=limit, pattern=pattern, size=size, options=options, comment=comment, unrelated=unrelated
    )
    (project / f"{main}.py").write_text(text)
    sys.path.insert(0, str(project))
    try:
        module = importlib.import_module(main)
        parts = code_digest(module.work, root=project_root(project / f"{main}.py")).parts
    finally:
        sys.path.remove(str(project))
    return {name.replace(helper, "helper"): value for name, value in parts.items()}


@pytest.mark.parametrize(
    "change",
    [
        {"comment": '"""Another docstring."""'}, {"comment": "# another comment"},
        {"options": "(retries=3, resources=el.Resources(cpus=2))"}, {"unrelated": 2},
    ],
)  # fmt: skip
def test_what_changes_no_result_changes_no_digest(tmp_path: Path, change: dict[str, object]) -> None:
    assert digest(tmp_path, **change) == digest(tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "part"),
    [({"rate": 3}, "RATE"), ({"limit": 8}, "LIMIT"), ({"pattern": "b"}, "PATTERN"), ({"size": 2}, "Box")],
)
def test_what_a_step_reaches_counts_and_is_named(tmp_path: Path, change: dict[str, object], part: str) -> None:
    before, after = digest(tmp_path), digest(tmp_path, **change)  # type: ignore[arg-type]
    assert {name for name in before if before[name] != after[name]} == {part}


def test_libraries_are_left_to_the_environment(tmp_path: Path) -> None:
    assert {name for name in digest(tmp_path) if "." not in name} == {
        "work", "util", "LIMIT", "PATTERN", "Box", "scaled", "RATE",
    }  # fmt: skip


def test_a_function_imported_inside_a_step_counts_too(tmp_path: Path) -> None:
    found = []
    for body in ("return 1", "return 2"):
        number = next(_numbers)
        (tmp_path / f"late_{number}.py").write_text(f"def late():\n    {body}\n")
        text = f"def work(x):\n    from late_{number} import late\n    return late()\n"
        (tmp_path / f"early_{number}.py").write_text(text)
        sys.path.insert(0, str(tmp_path))
        module = importlib.import_module(f"early_{number}")
        found.append(code_digest(module.work, root=tmp_path).parts["late"])
        sys.path.remove(str(tmp_path))
    assert found[0] != found[1]


def test_recursion_ends(tmp_path: Path) -> None:
    number = next(_numbers)
    (tmp_path / f"rec_{number}.py").write_text(
        "def a(n):\n    return b(n)\n\ndef b(n):\n    return a(n - 1) if n else 0\n"
    )
    sys.path.insert(0, str(tmp_path))
    module = importlib.import_module(f"rec_{number}")
    sys.path.remove(str(tmp_path))
    assert set(code_digest(module.a, root=tmp_path).parts) == {"a", "b"}


def test_the_key_ignores_the_order_of_inputs_and_why_names_what_changed(tmp_path: Path) -> None:
    code = code_digest(digest, root=tmp_path)
    one = material_of(code, {"a": 1, "b": {"digest": "sha256:1"}}, environment="e")
    same = material_of(code, {"b": {"digest": "sha256:1"}, "a": 1}, environment="e")
    other = material_of(code, {"a": 2, "b": {"digest": "sha256:1"}}, environment="f")
    assert step_key(one) == step_key(same) != step_key(other)
    assert why(other, one) == "input a changed from 1 to 2; the environment changed (Python or an installed package)"
    assert why(one, None) == "it never ran before"


def test_one_and_one_point_zero_and_true_are_different_inputs(tmp_path: Path) -> None:
    code = code_digest(digest, root=tmp_path)
    keys = {step_key(material_of(code, {"a": value}, environment="e")) for value in (1, True, "1", None, [1])}
    assert len(keys) == 5
