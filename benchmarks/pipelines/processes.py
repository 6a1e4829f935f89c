"""A tool's processes: started apart, watched, ended together, so that none is left whatever it does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

MARK = "EVERLINE_BENCH_TREE"
"""A variable that every process of a tree inherits, daemons too."""
SAMPLE_S = 0.03
_SAID_CHARS_MAX = 600


class Memory(msgspec.Struct):
    """Peaks over a tree, in bytes; PSS, so that what processes share counts once.

    Attributes:
        all: of everything, pages of mapped files too.
        own: without pages of mapped files, which the kernel may drop at any time.
    """

    all: int = 0
    own: int = 0


class Finished(msgspec.Struct, frozen=True):
    """A process that ended well."""

    seconds: float
    output: str
    memory: Memory


class ToolError(Exception):
    """A tool failed, or did not end in time."""


class Tree:
    """A process and all that comes of it."""

    def __init__(self, command: Sequence[object], *, folder: Path, variables: Mapping[str, str]) -> None:
        self._mark = uuid.uuid4().hex
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the tree)
        self.command = [str(one) for one in command]
        self.started_s = time.perf_counter()
        self.process = subprocess.Popen(
            self.command, cwd=folder, env={**variables, MARK: self._mark}, stdin=subprocess.DEVNULL,
            stdout=self._said, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def said(self) -> str:
        """All that it printed."""
        self._said.seek(0)
        return self._said.read().decode(errors="replace")

    def wait(self, timeout_s: float) -> float:
        """Seconds from its start to its end.

        Raises:
            ToolError: it takes longer, or its exit code is not 0; nothing of it runs any more.
        """
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ToolError(f"not done in {timeout_s:.0f} s") from None
        seconds = time.perf_counter() - self.started_s
        if code != 0:
            self.kill()
            raise ToolError(f"exit code {code}: {self.said()[-_SAID_CHARS_MAX:]}")
        return seconds

    def until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait for something to be true while the process runs."""
        while not ready():
            if self.process.poll() is not None or time.perf_counter() - self.started_s > timeout_s:
                self.kill()
                raise ToolError(f"did not get so far in {timeout_s:.0f} s: {self.said()[-_SAID_CHARS_MAX:]}")
            time.sleep(0.005)

    def kill(self) -> None:
        """SIGKILL to all at once, and to what they started meanwhile."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for _ in range(10):
            left = self._left()
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=5)
            if not left:
                break
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM first; for servers."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.kill()

    def _left(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


def finished(
    command: Sequence[object], *, folder: Path, variables: Mapping[str, str], timeout_s: float, weigh: bool = False
) -> Finished:
    """Run a process to its end, and end what it leaves behind.

    Args:
        weigh: sample the memory of its tree, which costs the machine a little.
    """
    tree = Tree(command, folder=folder, variables=variables)
    scales = Scales(tree.process.pid) if weigh else None
    try:
        seconds = tree.wait(timeout_s)
    finally:
        if scales:
            scales.stop()
        tree.kill()
    return Finished(seconds, tree.said(), scales.peak if scales else Memory())


class Scales:
    """Samples the memory of a process and its descendants until it is stopped."""

    def __init__(self, pid: int) -> None:
        self.peak = Memory()
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            with contextlib.suppress(psutil.Error):
                first = psutil.Process(self._pid)
                now = [_pss(process.pid) for process in [first, *first.children(recursive=True)]]
                self.peak.all = max(self.peak.all, sum(one.all for one in now))
                self.peak.own = max(self.peak.own, sum(one.own for one in now))


def _pss(pid: int) -> Memory:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return Memory()
    kib = {words[0]: int(words[1]) for line in lines if (words := line.split())[0].startswith("Pss")}
    return Memory(1024 * kib.get("Pss:", 0), 1024 * (kib.get("Pss_Anon:", 0) + kib.get("Pss_Shmem:", 0)))
