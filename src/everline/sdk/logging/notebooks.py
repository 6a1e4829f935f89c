"""The code of a run in a notebook: the cells that were executed, in their order.

A notebook on disk is not what ran: cells are edited, run twice, run in another order. So the record of a run in a
Jupyter kernel (or in IPython) has a notebook of its own, `<name>.executed.ipynb`, with every cell that the session
executed until the run's end, beside the project's other source files. Its cells can be run again one after the other.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from everline.errors import EverlineError
from everline.loader import load
from everline.sdk.logging.active_run import ActiveRun
from everline.sdk.logging.recording import Undeclared
from everline.sdk.logging.sender import StoredRecord

EXECUTED = ".executed.ipynb"
_FALLBACK = "notebook"


class Cells:
    """Records the executed cells when the run ends; a part of a run."""

    def __init__(self, run: ActiveRun, inputs: Undeclared, shell: Any) -> None:
        self._run, self._inputs, self._shell = run, inputs, shell
        self._here = Path.cwd()
        self._done = False

    def stop(self) -> None:
        """Capture code and environment."""
        if self._done:
            return
        self._done = True
        try:
            with self._inputs.capturing():
                root: Path = load("everline.pipelines.codedigest").project_root(self._here / _FALLBACK)
                folder = self._here.resolve().relative_to(root.resolve()).as_posix()
                folder = "" if folder == "." else folder
                entry = f"{folder}/{name_of(self._shell)}{EXECUTED}".lstrip("/")
                captured = load("everline.runs.capture").capture(
                    root, entry, params=self._run.params, folder=folder, extra={entry: executed(self._shell)}
                )
                self._inputs.sources = {str(root.resolve() / file.path) for file in captured.record.code.files}
            record = StoredRecord(msgspec.to_builtins(captured.record), list(captured.blobs))
            self._run.keep_record(record, captured.blobs)
        except EverlineError as error:
            self._run.fail(error)


def session() -> Any | None:
    """The IPython session that this process is, or None if it is none."""
    module = sys.modules.get("IPython")
    shell: Any = module.get_ipython() if module is not None else None
    return shell if getattr(shell, "history_manager", None) is not None else None


def name_of(shell: Any) -> str:
    """The notebook's name without its ending, as Jupyter's server or the editor told it; else `notebook`."""
    told = shell.user_ns.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME") or ""
    stem = Path(str(told)).name.removesuffix(".ipynb").removesuffix(".executed")
    return stem or _FALLBACK


def executed(shell: Any) -> bytes:
    """The cells that were executed so far, as a notebook without outputs; what raised is marked."""
    history = shell.history_manager
    raised = getattr(history, "exceptions", {})
    cells = [
        {
            "cell_type": "code",
            "execution_count": number,
            "id": f"cell-{number}",
            "metadata": {"everline": {"raised": True}} if number in raised else {},
            "outputs": [],
            "source": source,
        }
        for number, source in enumerate(history.input_hist_raw)
        if number > 0 and source.strip()
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return (json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()
