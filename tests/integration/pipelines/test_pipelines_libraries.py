"""Steps of an installed package: they work as one's own, and its version is part of what results depend on."""

from __future__ import annotations

import hashlib
import importlib
import shutil
import sys
from pathlib import Path

import pytest

from everline.pipelines.types import PipelineResult
from everline.sdk.client import Client

STEPS = """
import everline as el
from company_steps.rules import RATE

@el.step
def priced(value: int) -> int:
    return value * RATE
"""
PIPELINE = """
import everline as el
from company_steps import priced

@el.step
def rounded(value: int) -> int:
    return value // 10 * 10

@el.pipeline
def price(value: int = 7) -> int:
    return rounded(priced(value))
"""


def install(site: Path, version: str, *, rate: int) -> None:
    """What `pip install company-steps==VERSION` leaves."""
    shutil.rmtree(site, ignore_errors=True)
    files = {"company_steps/__init__.py": STEPS, "company_steps/rules.py": f"RATE = {rate}\n"}
    info = site / f"company_steps-{version}.dist-info"
    info.mkdir(parents=True)
    for name, text in files.items():
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text(text)
    lines = [f"{name},sha256={hashlib.sha256(text.encode()).hexdigest()},{len(text)}" for name, text in files.items()]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: company-steps\nVersion: {version}\n")
    (info / "RECORD").write_text("\n".join(lines))


def test_steps_of_a_package_are_cached_until_its_version_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, site = tmp_path / "project", tmp_path / "site-packages"
    folder.mkdir()
    (folder / "everline.toml").touch()
    (folder / "library_prices.py").write_text(PIPELINE)
    monkeypatch.syspath_prepend(str(site))

    def run() -> PipelineResult:
        """As a process of its own would: nothing is imported yet."""
        for name in [name for name in sys.modules if name.partition(".")[0] in ("company_steps", "library_prices")]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        result: PipelineResult = client.pipelines.run("library_prices:price", directory=folder)
        return result

    with Client(home=tmp_path / "home") as client:
        install(site, "1.0.0", rate=3)
        first, again = run(), run()
        assert [step.cached for step in again.steps] == [True, True]
        install(site, "1.1.0", rate=5)  # in a module that no project code names
        other = run()
        assert [(one.name, one.cached) for one in other.steps] == [("priced", False), ("rounded", False)]
        assert (first.value, other.value) == (20, 30)
        assert "the environment changed" in other.steps[0].reason
        used = [
            {one["name"]: one["version"] for one in client.pipelines.record(result.run)["environment"]["distributions"]}
            for result in (first, other)
        ]
        assert [versions["company-steps"] for versions in used] == ["1.0.0", "1.1.0"]
