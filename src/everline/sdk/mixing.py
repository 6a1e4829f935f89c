"""Mixtures of two recorded runs: each is run in a process with the code and environment that it takes.

Processes are few, because each starts Python and the project's libraries: one works through several mixtures. What
two of them would both compute, one does, and the other takes from the step cache.
"""

from __future__ import annotations

import contextlib
import math
import subprocess
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import msgspec

from everline.errors import EverlineError
from everline.pipelines.measuring import Measure
from everline.reproduction.explaining.components import DATA, PARAMETER, data_of, mixed, parameters_of
from everline.reproduction.explaining.types import CoalitionRun, Plan, cell_name
from everline.runs.capture import RunRecord
from everline.sdk.client import Client
from everline.sdk.mixing_process import Job, Task
from everline.sdk.pipeline_commands import folder_of
from everline.sdk.processes import kill, without_secrets
from everline.sdk.reproduction import Where
from everline.sdk.scripts import Inside

_SAID_CHARS_MAX = 1_000


class Mixer:
    """Runs mixtures of the two runs of a plan."""

    def __init__(
        self,
        client: Client,
        plan: Plan,
        *,
        environment: Where,
        processes: int,
        timeout_s: float,
        watch: Callable[[str], None],
    ) -> None:
        self._client, self._plan, self._where = client, plan, environment
        self._processes, self._timeout_s, self._watch = processes, timeout_s, watch
        self._records: dict[bool, RunRecord] = {}
        self._inside: dict[bool, Inside | str] = {}
        self._code: dict[bool, Path] = {}
        self._done = 0
        self._lock = threading.Lock()
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Mixer:
        self._folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="everline-explain-")))
        (self._folder / "claims").mkdir()
        for later, run in ((False, self._plan.before), (True, self._plan.after)):
            raw = self._client.reproduction.prepare(run).record
            self._records[later] = msgspec.convert(raw, RunRecord)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._cleanup.close()

    def run(self, wanted: Sequence[CoalitionRun]) -> list[CoalitionRun]:
        """Run mixtures; each comes back with its run, or with why there is none, in the order given."""
        places: dict[tuple[bool, bool], list[int]] = defaultdict(list)
        for index, one in enumerate(wanted):
            places["code" in one.taken, "environment" in one.taken].append(index)
        chunks: list[tuple[tuple[bool, bool], list[int]]] = []
        for place, members in places.items():
            size = math.ceil(len(members) / max(1, self._processes // len(places)))
            chunks += [(place, members[start : start + size]) for start in range(0, len(members), size)]
        found: dict[int, CoalitionRun] = {}
        self._done, self._all = 0, len(wanted)
        with ThreadPoolExecutor(self._processes) as pool:
            working = {
                pool.submit(self._work, place, [wanted[index] for index in members]): members
                for place, members in chunks
            }
            for future, members in working.items():
                found |= dict(zip(members, future.result(), strict=True))
        return [found[index] for index in range(len(wanted))]

    def _work(self, place: tuple[bool, bool], jobs: Sequence[CoalitionRun]) -> list[CoalitionRun]:
        later_code, later_environment = place
        try:
            inside = self._environment(later_environment)
            directory = self._materialised(later_code)
        except EverlineError as error:
            return [_failed(one, error.message) for one in jobs]
        found = carry_out(self._task(directory, jobs), inside, timeout_s=self._timeout_s, heard=self._heard)
        return [
            msgspec.structs.replace(one, run=run, problem=problem)
            for one, (run, problem) in zip(jobs, found, strict=True)
        ]

    def _heard(self, problem: str | None) -> None:
        with self._lock:
            self._done += 1
            if problem or self._done == self._all or self._done % math.ceil(self._all / 10) == 0:
                self._watch(f"{self._done} of {self._all} mixtures" + (f": {problem}" if problem else ""))

    def _task(self, directory: Path, jobs: Sequence[CoalitionRun]) -> Task:
        step = self._plan.metric_step
        assert step is not None
        cells = {}
        if step.before:
            cells[cell_name(step.name, "before")] = step.before
            if step.before != step.after:
                cells[cell_name(step.name, "after")] = step.after
        settings = self._client.settings
        return Task(
            url=settings.url,
            home=None if settings.url else str(settings.home.absolute()),
            project=self._client.project,
            entry=self._plan.entry,
            directory=str(directory),
            measure=Measure(
                step=step.name,
                cells=cells,
                tag=f"{self._plan.before} {self._plan.after}",
                claims=str(self._folder / "claims"),
            ),
            jobs=[self._job(one) for one in jobs],
        )

    def _job(self, one: CoalitionRun) -> Job:
        before, after = self._records[False], self._records[True]
        parameters = mixed(parameters_of(before), parameters_of(after), one.taken, PARAMETER)
        data = mixed(data_of(before), data_of(after), one.taken, DATA)
        return Job(params={k: v for k, v in parameters.items() if v is not None}, data=data, seed=one.seed)

    def _environment(self, later: bool) -> Inside:
        with self._lock:
            if later not in self._inside:
                try:
                    self._inside[later] = self._client.reproduction.inside(
                        self._records[later].environment,
                        self._where,
                        self._folder / ("environment-after" if later else "environment-before"),
                        watch=self._watch,
                    )
                except EverlineError as error:
                    self._inside[later] = error.message
            found = self._inside[later]
        if isinstance(found, str):
            raise EverlineError(found)
        return found

    def _materialised(self, later: bool) -> Path:
        with self._lock:
            if later not in self._code:
                root = (self._folder / ("code-after" if later else "code-before")).resolve()
                root.mkdir()
                self._client.reproduction.materialise(self._records[later].code, root)
                self._code[later] = root / folder_of(self._records[later])
        return self._code[later]


def carry_out(
    task: Task, inside: Inside, *, timeout_s: float, heard: Callable[[str | None], None]
) -> list[tuple[str | None, str | None]]:
    """Carry a task out in a process of its own: for each job the run's uid, and why it did not come to its end.

    Args:
        heard: is told of each job that ended, with what went wrong.
    """
    with tempfile.TemporaryDirectory(prefix="everline-task-") as name:
        asked = Path(name) / "task.json"
        asked.write_bytes(msgspec.json.encode(task))
        with (
            (Path(name) / "said").open("w+b") as said,
            subprocess.Popen(
                [inside.python, "-m", "everline.sdk.mixing_process", str(asked)],
                cwd=task.directory,
                env=inside.variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                start_new_session=True,
            ) as process,
        ):
            watchdog = threading.Timer(timeout_s, kill, [process])
            watchdog.start()
            found: list[tuple[str | None, str | None]] = []
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    found.append(msgspec.json.decode(line, type=tuple[str | None, str | None]))
                    heard(found[-1][1])
            except BaseException:
                kill(process)
                raise
            finally:
                watchdog.cancel()
            code = process.wait()
            said.seek(0)
            told = without_secrets(said.read().decode("utf-8", errors="replace").strip(), inside.variables)
            last = told[-_SAID_CHARS_MAX:]
    why = f"its process ended with code {code}: {last}" if code else "its process ended early"
    return found + [(None, why)] * (len(task.jobs) - len(found))


def _failed(one: CoalitionRun, problem: str) -> CoalitionRun:
    return msgspec.structs.replace(one, problem=problem.strip() or "no reason was given")
