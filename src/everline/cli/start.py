"""Where the command line starts: what must be so from Python's first moment on is made so before anything is loaded."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from everline.loader import load

RUNS_STEPS = frozenset({"run", "worker", "score"})
"""Commands in whose processes steps of pipelines run."""


def main() -> None:
    """Run the command line."""
    if len(sys.argv) > 1 and sys.argv[1] in RUNS_STEPS:
        _fix_hash_seed()
    load("everline.cli.app").main()


def _fix_hash_seed() -> None:
    """Start this command again with a fixed order of sets, so that a rebuild can be equal bit for bit.

    Python reads PYTHONHASHSEED only at its start. Nothing has run yet, so the second start costs only itself.
    """
    program = Path(sys.argv[0])
    if "PYTHONHASHSEED" not in os.environ and (
        program.name == "everline" or program.parts[-2:] == ("everline", "__main__.py")
    ):
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  (our own command line)
