"""Writes a new project: all of its files or none, and never over one that is there."""

from __future__ import annotations

import keyword
import platform
import re
import sys
from importlib.resources import files
from pathlib import Path

from everline import __version__
from everline.cli.scaffold.sample import customers_csv
from everline.errors import ConflictError, InvalidInputError
from everline.ids import check_name

_TAKEN = frozenset({"everline", "tests", "conftest", "numpy", "pandas", "pyarrow", "sklearn", "pytest"})
_FILES = {
    "{module}.py": "pipeline.py",
    "tests/test_{module}.py": "test_pipeline.py",
    "everline.toml": "everline.toml",
    "policies/{name}.toml": "policy.toml",
    "ci/check.sh": "check.sh",
    ".github/workflows/everline.yml": "github.yml",
    ".gitlab-ci.yml": "gitlab.yml",
    ".gitignore": "gitignore",
    "requirements.txt": "requirements.txt",
    "pytest.ini": "pytest.ini",
    "README.md": "README.md",
}
_SAMPLE = "data/customers.csv"


def write_project(directory: Path, *, name: str | None = None) -> tuple[str, list[str]]:
    """Write a project that runs; return its name and its files.

    Args:
        directory: made if it does not exist; other files in it stay as they are.
        name: of the model, endpoint and pipeline; None takes the directory's.

    Raises:
        InvalidInputError: the name cannot be that of a Python module too.
        ConflictError: one of the files is there already; nothing was written.
    """
    name = check_name(name or _slug(directory.resolve().name), field="name")
    module = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not module.isidentifier() or keyword.iskeyword(module) or module in _TAKEN | sys.stdlib_module_names:
        raise InvalidInputError(
            f"A project named {name!r} would have the module {module!r}, which is no name for one.",
            hint="Choose another with --name, such as churn.",
            field="name",
        )
    words = {
        "@NAME@": name,
        "@MODULE@": module,
        "@VERSION@": __version__,
        "@PYTHON@": ".".join(platform.python_version_tuple()[:2]),
    }
    contents = {target.format(name=name, module=module): _filled(source, words) for target, source in _FILES.items()}
    contents[_SAMPLE] = customers_csv()
    there = sorted(target for target in contents if (directory / target).exists())
    if there:
        raise ConflictError(
            f"{directory / there[0]} is there already" + (f", and {len(there) - 1} more" if there[1:] else "") + ".",
            hint="Nothing was written. Choose an empty directory, or move the file away.",
            field="directory",
        )
    for target, text in contents.items():
        path = directory / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    (directory / "ci/check.sh").chmod(0o755)
    return name, sorted(contents)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "project"


def _filled(source: str, words: dict[str, str]) -> str:
    text = (files("everline.cli.scaffold") / "files" / f"{source}.tmpl").read_text(encoding="utf-8")
    for mark, word in words.items():
        text = text.replace(mark, word)
    return text
