"""Where the Chromium of the browser tests is, and how it is started."""

from __future__ import annotations

import os
import shutil

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Quiet and offline: without these Chromium calls home at every start."""


def find_executable() -> str | None:
    """The browser's path, or None if it is not installed; `EVERLINE_TEST_CHROMIUM` names one."""
    given = os.environ.get("EVERLINE_TEST_CHROMIUM")
    return given or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
