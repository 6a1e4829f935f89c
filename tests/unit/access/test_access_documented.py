"""Undocumented is a failing test: settings, commands and pages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from everline.cli.app import COMMANDS
from everline.config import Settings

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


@pytest.mark.parametrize("name", [field.name for field in msgspec.structs.fields(Settings)])
def test_every_setting_is_documented(name):
    assert f"`EVERLINE_{name.upper()}`" in (DOCS / "settings.md").read_text()


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_a_page_that_shows_it(name):
    pages = "\n".join(page.read_text() for page in DOCS.glob("*.md"))
    assert re.search(rf"everline {name}\b", pages), f"no page shows `everline {name}`"


def test_every_page_is_in_the_navigation_and_exists():
    navigation = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    named = {page for entry in navigation for page in entry.values()}
    assert named == {page.name for page in DOCS.glob("*.md")}


def test_links_between_pages_lead_somewhere():
    for page in [*DOCS.glob("**/*.md"), *ROOT.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
