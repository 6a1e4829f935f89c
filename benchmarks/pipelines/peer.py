"""What a tool that runs pipelines must do to be measured, and the place in which it does it."""

from __future__ import annotations

import abc
import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from benchmarks.peers import python_of
from benchmarks.pipelines.processes import Finished, Memory, ToolError, Tree, finished

PROGRAMS = Path(__file__).parent / "programs"
TIMEOUT_S = float(os.environ.get("BENCH_TIMEOUT_S", "150"))
"""Of one run of one tool."""
_OWN_VARIABLES = ("PATH", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
_salts = itertools.count(1_000_000, 1_000_000)


class Task(msgspec.Struct, frozen=True):
    """One run of one workload.

    Attributes:
        size: steps, without a join; for `handover`, bytes.
        salt: the first value, new for each task, so that nobody finds results of another.
        ledger: where steps write down that they started, and when.
        seconds: each step's own time, in `crash`.
    """

    workload: str
    size: int
    salt: int
    ledger: Path
    seconds: float = 0.0


class Ran(msgspec.Struct, frozen=True):
    """How a run went.

    Attributes:
        run_s: from the call that starts the run to its return, in a process that has the tool loaded.
        whole_s: from the start of the process to its end.
    """

    run_s: float
    whole_s: float
    memory: Memory
    facts: dict[str, float]


class Peer(abc.ABC):
    """A tool with a folder of its own."""

    name: ClassVar[str]
    program: ClassVar[str]
    """Its folder in `programs`."""
    environment: ClassVar[str | None]
    """Its environment in `.peers`; none for what runs in Everline's own."""
    how: ClassVar[str]
    """In a few words, for the table."""
    sizes: ClassVar[Mapping[str, int]] = {}
    """Fewer steps than asked for, by workload, where all would take minutes."""
    unable: ClassVar[Mapping[str, str]] = {}
    """Why it has no figure, by workload."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(PROGRAMS / self.program, folder)
        for name in ("work.py", "bulk.py"):
            shutil.copy(PROGRAMS / name, folder / name)
        self.folder = folder
        self.python = Path(sys.executable) if self.environment is None else python_of(self.environment)
        own = {name: os.environ[name] for name in _OWN_VARIABLES if name in os.environ}
        paths = os.pathsep.join([str(self.python.parent), own.get("PATH", os.defpath)])
        self.variables = own | {"PATH": paths, "HOME": str(folder), "DO_NOT_TRACK": "1", "USER": "bench"}
        if self.environment is not None:
            self.variables.pop("PYTHONPATH", None)

    def begin(self) -> None:  # noqa: B027  (most have nothing to do)
        """Get ready, servers too; not measured."""

    def end(self) -> None:  # noqa: B027  (most have nothing to do)
        """Stop what `begin` started."""

    @abc.abstractmethod
    def command(self, task: Task) -> Sequence[object]:
        """A process that does the task; if its last line is JSON with `seconds`, the run alone took so long."""

    def shell(self, task: Task) -> Sequence[object]:
        """What a person types to have the task done."""
        return self.command(task)

    def again(self, task: Task) -> Sequence[object]:
        """What a person types to have it done once more, with results that are there already."""
        return self.shell(task)

    def resumption(self, task: Task) -> Sequence[object]:
        """What a person types after the runner was killed."""
        return self.again(task)

    def needs(self, task: Task) -> Mapping[str, str]:
        """Further variables."""
        return {"BENCH_LEDGER": str(task.ledger), "BENCH_SECONDS": str(task.seconds)}

    def task(self, workload: str, size: int, *, seconds: float = 0.0) -> Task:
        """A task with a salt of its own, in the size that this tool can do."""
        salt = next(_salts)
        return Task(workload, self.sizes.get(workload, size), salt, self.folder / f"ledger-{salt}", seconds)

    def prepare(self, task: Task) -> None:  # noqa: B027  (most have nothing to do)
        """Write what the task needs; not measured."""

    def run(self, command: Sequence[object], task: Task, *, weigh: bool = False, timeout_s: float = TIMEOUT_S) -> Ran:
        """Run a command of this tool to its end.

        Raises:
            ToolError: it failed or took too long.
        """
        done = self._finished(command, task, weigh=weigh, timeout_s=timeout_s)
        facts = _facts(done.output)
        return Ran(facts.get("seconds", done.seconds), done.seconds, done.memory, facts)

    def start(self, command: Sequence[object], task: Task) -> Tree:
        """Start a command of this tool."""
        return Tree(command, folder=self.folder, variables={**self.variables, **self.needs(task)})

    def side(self, *command: object, timeout_s: float = TIMEOUT_S) -> str:
        """Something beside the measured work; what it printed."""
        return finished(command, folder=self.folder, variables=self.variables, timeout_s=timeout_s).output

    def _finished(self, command: Sequence[object], task: Task, *, weigh: bool, timeout_s: float) -> Finished:
        variables = {**self.variables, **self.needs(task)}
        return finished(command, folder=self.folder, variables=variables, timeout_s=timeout_s, weigh=weigh)


@contextlib.contextmanager
def stage(kinds: Sequence[type[Peer]], workload: str) -> Iterator[tuple[list[Peer], dict[str, str]]]:
    """The tools that can do a workload, each ready in a folder of its own, and why the others cannot."""
    ready: list[Peer] = []
    unable: dict[str, str] = {}
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # servers are stopped then too
    with tempfile.TemporaryDirectory(prefix="everline-bench-pipelines-", ignore_cleanup_errors=True) as name:
        try:
            for kind in kinds:
                if workload in kind.unable:
                    unable[kind.name] = kind.unable[workload]
                    continue
                try:
                    peer = kind(Path(name) / kind.name.lower().replace(" ", "-").replace(",", ""))
                    ready.append(peer)
                    peer.begin()
                except (ToolError, OSError, RuntimeError) as error:
                    unable[kind.name] = short(error)
            os.sync()  # nobody pays for what another wrote
            yield [peer for peer in ready if peer.name not in unable], unable
        finally:
            for peer in ready:
                peer.end()


def short(error: Exception) -> str:
    """An error in a line, without what breaks a table."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (f"{lines[0]} … {lines[-1]}" if len(lines) > 1 else "".join(lines))[:160].replace("|", "/")


def _facts(output: str) -> dict[str, float]:
    for line in reversed(output.splitlines()):
        if line.startswith('{"seconds"'):
            found: dict[str, float] = json.loads(line)
            return found
    return {}
