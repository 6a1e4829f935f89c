"""The tutorial is run as it stands: its code, its commands, and what it says that they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "tutorial.md").read_text()
BLOCKS = dict.fromkeys(re.findall(r"```(python|toml)\n(.*?)```", PAGE, flags=re.S))


@pytest.fixture
def everline(tmp_path: Path):
    (tmp_path / "everline.toml").touch()
    (tmp_path / "shop.py").write_text("\n\n".join(code for language, code in BLOCKS if language == "python"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EVERLINE_")}

    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "everline", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    return run


def test_what_the_tutorial_says_is_what_happens(everline, tmp_path: Path) -> None:
    assert "0 of 7 steps cached" in everline("run", "shop:tomorrow", "--why")
    assert "7 of 7 steps cached" in everline("run", "shop:tomorrow", "--why")
    shop = tmp_path / "shop.py"
    shop.write_text(shop.read_text().replace("GROWTH = 1.1", "GROWTH = 1.2  # hopes"))
    again = everline("run", "shop:tomorrow", "--why")
    assert "code changed: GROWTH" in again and "3 of 7 steps cached" in again
    waits = everline("run", "shop:ordering")
    assert "waits for an answer to 'approval'" in waits
    run = re.search(r"[0-9a-f]{32}", waits)[0]
    assert run in everline("approvals", "list")
    everline("approvals", "answer", run, "--yes", "--reason", "the fridge is empty")
    assert f"run {run} finished" in everline("run", "--resume", run)
    (tmp_path / "everline.toml").write_text(next(text for language, text in BLOCKS if language == "toml"))
    assert "+ schedules.nightly" in everline("plan")
    everline("apply")
    assert "nightly" in everline("schedules", "list")
    shop.write_text(shop.read_text().replace("list[float]", "list[str]"))
    wrong = everline("run", "shop:tomorrow", code=2)
    assert "Step 'total' takes forecasts: str, but step 'forecast[0]' gives float." in wrong
