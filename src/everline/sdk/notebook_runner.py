"""Runs the code cells of a notebook one after the other in one session, as a kernel does: `python FILE NOTEBOOK`.

A copy of this file is what a rebuild starts, so it needs nothing but the standard library and, for magic commands,
IPython. A cell that raises ends the run, unless it raised when it was recorded.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from pathlib import Path
from typing import Any


def main(path: str) -> int:
    """Run the cells; 1 if one raised that should not."""
    cells = [cell for cell in json.loads(Path(path).read_text("utf-8"))["cells"] if cell.get("cell_type") == "code"]
    sys.argv = [path]
    sys.path[0] = ""  # a kernel finds modules in the folder that it was started in
    run = _session()
    for number, cell in enumerate(cells, start=1):
        source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        if not source.strip():
            continue
        problem = run(source)
        if problem is not None and not cell.get("metadata", {}).get("everline", {}).get("raised"):
            sys.stderr.write(f"cell {number} of {len(cells)} raised:\n{''.join(traceback.format_exception(problem))}")
            return 1
    return 0


def _session() -> Any:
    """A function that runs one cell and returns what it raised."""
    try:
        shells = importlib.import_module("IPython.core.interactiveshell")
        config = importlib.import_module("traitlets.config").Config()
    except ImportError:
        names = {"__name__": "__main__"}

        def plain(source: str) -> BaseException | None:
            try:
                exec(compile(source, "<cell>", "exec"), names)  # noqa: S102 - that is what it is for
            except Exception as error:
                return error
            return None

        return plain
    config.HistoryManager.hist_file = ":memory:"
    shell = shells.InteractiveShell.instance(config=config)
    shell.showtraceback = lambda *_args, **_options: None  # what was raised is told once, by us

    def cell(source: str) -> BaseException | None:
        result = shell.run_cell(source, store_history=True)
        error: BaseException | None = result.error_before_exec or result.error_in_exec
        return error

    return cell


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
