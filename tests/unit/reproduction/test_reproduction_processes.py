"""A rebuild's process ends with all that it started, and what it said tells what its failure was about."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from everline.reproduction.failures import cause_of
from everline.reproduction.types import Cause
from everline.sdk.processes import run_process


def test_a_process_that_takes_too_long_is_stopped_with_its_children(tmp_path: Path) -> None:
    command = ["sh", "-c", "sleep 60 & echo $! > child; wait"]
    failure = run_process(command, folder=tmp_path, variables=os.environ, timeout_s=1.5)
    assert failure == "the rebuild took longer than 1.5 s and was stopped"
    pid = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("Traceback …\nFileNotFoundError: [Errno 2] No such file or directory: 'x.csv'", Cause.HIDDEN_INPUT),
        ("requests.exceptions.ConnectionError: refused", Cause.HIDDEN_INPUT),
        ("ModuleNotFoundError: No module named 'torch'", Cause.ENVIRONMENT),
        ("RuntimeError: Found no NVIDIA driver on your system", Cause.HARDWARE),
        ("usage: train.py [-h] --depth DEPTH\ntrain.py: error: the following arguments are required", Cause.PARAMETERS),
        ("    depth = int(sys.argv[1])\nIndexError: list index out of range", Cause.PARAMETERS),
        ("ValueError: odd", Cause.RECORD),
        ("", Cause.RECORD),
    ],
)
def test_what_a_failure_was_about(said: str, cause: Cause) -> None:
    assert cause_of(said) is cause
