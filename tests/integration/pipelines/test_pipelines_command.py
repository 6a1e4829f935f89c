"""`everline run` and `everline worker` as people and CI call them: output, progress, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import everline as el

@el.step
def double(value: int) -> int:
    if value > 100:
        raise ValueError("too much")
    return 2 * value

@el.pipeline
def doubled(value: int = 2) -> int:
    return double(value)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "doubling.py").write_text(MODULE)
    (tmp_path / "everline.toml").touch()
    return tmp_path


def everline(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("EVERLINE_", "PYTHONHASHSEED"))}
    command = [sys.executable, "-m", "everline", *arguments, "--home", str(folder / "home")]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_run_prints_json_with_run_and_steps(folder: Path) -> None:
    done = everline(folder, "run", "doubling:doubled", "--param", "value=4", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["run"]) == 32
    assert [(step["name"], step["status"], step["cached"]) for step in answer["steps"]] == [
        ("double", "succeeded", False)
    ]
    assert answer["value"] == 8


def test_run_says_for_people_what_happened_and_why(folder: Path) -> None:
    done = everline(folder, "run", "doubling:doubled", "--why")
    assert done.returncode == 0
    assert "it never ran before" in done.stderr
    assert "0 of 1 steps cached" in done.stdout


def test_a_failing_step_exits_1_with_its_name_and_reason(folder: Path) -> None:
    done = everline(folder, "run", "doubling:doubled", "--param", "value=101", "--json")
    assert done.returncode == 1
    assert "Step 'double' of pipeline 'doubling:doubled' failed: ValueError: too much" in done.stderr
    answer = json.loads(done.stdout)
    assert (answer["status"], answer["steps"][0]["status"]) == ("failed", "failed")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("doubling:doubled", "--param", "value=four"), "must be int"),
        (("doubling:doubled", "--param", "value"), "not of the form NAME=VALUE"),
        (("doubling:tripled",), "has no pipeline 'tripled'"),
        (("doubling",), "is not a pipeline"),
    ],
)
def test_bad_use_exits_2_and_says_what_is_wrong(folder: Path, arguments: tuple[str, ...], sentence: str) -> None:
    done = everline(folder, "run", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_the_order_of_sets_is_fixed_and_recorded(folder: Path) -> None:
    answer = json.loads(everline(folder, "run", "doubling:doubled", "--json").stdout)
    code = (
        "import sys; from everline.sdk.client import Client; "
        "print(Client(home=sys.argv[1]).pipelines.record(sys.argv[2]))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(folder / "home"), answer["run"]], capture_output=True, text=True, check=True
    )
    assert "'hash_seed': '0'" in shown.stdout


def test_a_worker_with_nothing_to_do_ends_well(folder: Path) -> None:
    done = everline(folder, "worker", "--once", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
