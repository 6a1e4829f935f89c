"""What differs between runs beyond their numbers, over the real database and blobs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from everline.access.unit_of_work import UnitOfWork
from everline.errors import NotFoundError
from everline.runs import capture, comparing, service, tracking
from everline.runs.types import Metric

Begin = Callable[..., AbstractContextManager[UnitOfWork]]
PROJECT = "default"


def recorded(uow: UnitOfWork, folder: Path, files: dict[str, bytes], packages: list[dict[str, Any]]) -> str:
    """A run with a record of these files, on these packages."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    run = service.create_run(uow, PROJECT).run
    taken = capture.capture(folder, "train.py", seed=7)
    for content in taken.blobs.values():
        uow.blobs.put_bytes(content)
    record = msgspec.to_builtins(taken.record)
    record["environment"]["distributions"] = packages
    service.set_record(uow, PROJECT, run, record)
    return run


def test_code_packages_and_curves_of_two_runs_are_put_side_by_side(begin: Begin, tmp_path: Path) -> None:
    lines = [f"step_{n}()" for n in range(20)]
    changed = [*lines[:10], "new_step()", *lines[11:]]
    with begin() as uow:
        first = recorded(
            uow, tmp_path / "a",
            {"train.py": "\n".join(lines).encode(), "old.py": b"x = 1\n", "bad.py": b"\xff\xfe", "same.py": b"1\n"},
            [{"name": "numpy", "version": "2.4"}, {"name": "polars", "version": "1.9", "digest": "sha256:a"}],
        )  # fmt: skip
        second = recorded(
            uow, tmp_path / "b",
            {"train.py": "\n".join(changed).encode(), "long.py": b"x\n" * 3000, "bad.py": b"\xff", "same.py": b"1\n"},
            [{"name": "xgboost", "version": "3.2"}, {"name": "polars", "version": "1.9", "digest": "sha256:b"}],
        )  # fmt: skip
        bare = service.create_run(uow, PROJECT).run
        service.set_record(uow, PROJECT, bare, {"code": {"files": [1]}, "environment": 7})
        points = [Metric(key="loss", value=1.0, at_ms=1, step=step) for step in range(3)]
        tracking.log_batch(uow, PROJECT, second, metrics=[*points, Metric(key="auc", value=0.7, at_ms=1)])
        code = comparing.compare_code(uow, PROJECT, first, second)
        packages = comparing.compare_packages(uow, PROJECT, [first, second, bare])
        curved = comparing.metrics_with_curves(uow, PROJECT, [first, second])
        with pytest.raises(NotFoundError, match="no code that can be read"):
            comparing.compare_code(uow, PROJECT, first, bare)
    files = {file.path: (file.change, file.added, file.removed, file.note) for file in code.files}
    assert files == {
        "bad.py": ("changed", 0, 0, "not a text in UTF-8"),
        "long.py": ("added", 0, 0, "too many lines to compare here"),
        "old.py": ("removed", 0, 1, ""),
        "train.py": ("changed", 1, 1, ""),
    }
    assert code.files[3].lines[0] == "@@ -8,7 +8,7 @@"
    assert {line.key: line.values for line in packages} == {
        "numpy": ["2.4", None, None],
        "polars": ["1.9 (a)", "1.9 (b)", None],
        "xgboost": [None, "3.2", None],
    }
    assert curved == ["loss"]
