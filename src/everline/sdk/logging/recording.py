"""What a run of `everline.run()` records by itself: the script's code, its environment, and what else it reads."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from everline.loader import load
from everline.runs.undeclared import own_folders, peers, tag_of
from everline.runs.watching import Watch
from everline.sdk.logging.active_run import ActiveRun
from everline.sdk.logging.sender import StoredRecord

_CAPTURE_S = 30.0
"""How long the end of a run waits for its record to be captured before it says what else was read."""


class Undeclared:
    """Notes what the run reads from now on and does not record: files outside of its code, other hosts."""

    def __init__(self, active: ActiveRun) -> None:
        settings = active.client.settings
        self._run = active
        self._inputs = Watch(peers=peers(settings.url), folders=own_folders(settings.home)).start()
        self.captured = threading.Event()
        self.sources: set[str] = set()

    def stop(self) -> None:
        """Log it as a tag."""
        self.captured.wait(_CAPTURE_S)
        for key, value in tag_of(self._inputs.stop(files=self.sources)).items():
            self._run.set_tag(key, value)

    @contextlib.contextmanager
    def capturing(self) -> Iterator[None]:
        """What is read to record the code is no input."""
        try:
            with self._inputs.aside():
                yield
        finally:
            self.captured.set()


def recording(active: ActiveRun, inputs: Undeclared) -> Callable[[], None]:
    """Capture what this process runs, as it is now."""
    script, here, argv, params = sys.argv[0] if sys.argv else "", Path.cwd(), list(sys.argv[1:]), active.params

    def work() -> None:
        with inputs.capturing():
            root, entry, folder = _place(script, here)
            captured = load("everline.runs.capture").capture(root, entry, argv, params=params, folder=folder)
            inputs.sources = {str(root.resolve() / file.path) for file in captured.record.code.files}
        record = StoredRecord(msgspec.to_builtins(captured.record), list(captured.blobs))
        active.keep_record(record, captured.blobs)

    return work


def _place(script: str, here: Path) -> tuple[Path, str, str]:
    """The project's root, and below it the script and the folder that it was started in."""
    path = (here / script).resolve()
    if not script or not path.is_file():
        return here, "interactive", ""
    if path.is_relative_to(Path(sys.prefix).resolve()):
        return here, path.name, ""  # a program that was installed runs code which lies here
    root: Path = load("everline.pipelines.codedigest").project_root(path)
    folder = here.resolve().relative_to(root).as_posix() if here.resolve().is_relative_to(root) else ""
    return root, path.relative_to(root).as_posix(), "" if folder == "." else folder
