"""The lending example, run as its reader would: one command, from an empty folder to what a stranger can check."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "lending"


def test_lending_is_blocked_mended_approved_by_two_released_and_checked_by_a_stranger(tmp_path: Path) -> None:
    # A folder of its own: a run records the whole repository that its code is in.
    code = shutil.copytree(EXAMPLE, tmp_path / "lending", ignore=shutil.ignore_patterns("__pycache__"))
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("EVERLINE_", "MLFLOW_"))}
    command = [sys.executable, "-W", "ignore", str(code / "walk.py"), str(tmp_path / "walk")]
    done = subprocess.run(command, env=mine, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = done.stdout
    first, second = said.split("She takes race and its proxies out")
    assert ": blocked" in first
    assert "fail    fair-lending/four-fifths" in first
    assert '"selection_ratio": 0.649' in first
    assert ": awaiting approval" in second
    assert "maya made this version and opened this release, and may not approve it" in second
    assert "mortgage/2 by maya, allowed by ravi (validator) and ines (owner)" in second
    stranger = second.split("A stranger checks")[1]
    assert "none removed, altered, reordered or invented" in stranger
    assert "P4  verified: prediction:" in stranger
    for answer in (
        "made by",
        "approve by",
        "ravi as validator",
        "ines as owner",
        "fair-lending",
        "selection ratio 0.930",
    ):
        assert answer in stranger, answer
