"""Steps in a pool of processes, which are forked when they are needed, and stopped when they take too long or too much.

A worker does one task at a time. Several may be handed over ahead of it: they wait here, so that the worker has the
next one at once while whoever keeps the records is busy with the last.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field

from everline.clock import Clock
from everline.errors import EverlineError
from everline.pipelines.executors import wire
from everline.pipelines.executors.frames import framed, split
from everline.pipelines.executors.output import Output
from everline.pipelines.executors.tasks import Capacity, Event, Failed, Task
from everline.pipelines.executors.work import secrets_of
from everline.pipelines.executors.worker import Setup
from everline.pipelines.executors.zygote import REPORT
from everline.pipelines.types import StepError

_AHEAD_S = 0.03
_AHEAD_MAX = 64
_LOOK_S = 0.1
"""How often the memory of workers with a limit is looked at."""
_PIECE_BYTES = 1 << 16
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass
class _Worker:
    pid: int
    tasks: socket.socket
    output: int
    received: bytearray = field(default_factory=bytearray)
    task: Task | None = None
    printed: Output | None = None
    since: float = 0.0
    verdict: tuple[StepError, str] | None = None
    """Why the pool stopped it."""


class PoolExecutor:
    """Runs tasks in forked processes of this machine.

    Args:
        workers: how many at most.
        python: of the environment that the steps run in; None for this one.
        output_bytes_max: how much of what a step prints is passed on; the rest is counted.
    """

    def __init__(
        self, setup: Setup, *, workers: int, clock: Clock, output_bytes_max: int, python: str | None = None
    ) -> None:
        self._setup, self._max, self._clock, self._output_bytes_max = setup, workers, clock, output_bytes_max
        self._workers: dict[int, _Worker] = {}
        self._waiting: deque[Task] = deque()
        self._events: list[Event] = []
        self._selector = selectors.DefaultSelector()
        self._seconds = 1.0
        self._reports = bytearray()
        self._control, theirs = socket.socketpair()
        command = [python or sys.executable, "-m", "everline.pipelines.executors.zygote", str(theirs.fileno())]
        self._zygote = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
        )
        theirs.close()
        self._control.sendall(framed(setup.packed()))
        self._selector.register(self._control, selectors.EVENT_READ, None)

    @property
    def capacity(self) -> Capacity:
        """One core for each worker, and as much ahead as is done in a moment."""
        ahead = min(_AHEAD_MAX, int(_AHEAD_S / max(self._seconds, 1e-4)) * self._max)
        return Capacity(cpus=float(self._max), memory_mb=_memory_mb(), ahead=ahead)

    def submit(self, task: Task) -> None:
        self._waiting.append(task)

    def wait(self, timeout_s: float) -> list[Event]:
        self._dispatch()
        end = time.monotonic() + timeout_s
        while not self._events:
            left = end - time.monotonic()
            for key, _ in self._selector.select(max(0.0, min(left, self._pause()))):
                if key.data is None:
                    self._hear_of_deaths()
                elif key.fileobj == key.data.output:
                    self._read_output(key.data)
                else:
                    self._read_answers(key.data)
            self._stop_excesses()
            self._dispatch()
            if left <= 0:
                break
        events, self._events = self._events, []
        return events

    def cancel(self) -> None:
        self._waiting.clear()
        self._events.clear()
        for worker in list(self._workers.values()):
            self._kill(worker)
            self._forget(worker)

    def close(self) -> None:
        self.cancel()
        self._control.close()  # the zygote ends with all that it started
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._zygote.wait(5)
        if self._zygote.poll() is None:
            self._zygote.kill()
            self._zygote.wait()
        self._selector.close()

    def _pause(self) -> float:
        """How long nothing needs to be looked at."""
        pause = 60.0
        for worker in self._workers.values():
            if worker.task is None:
                continue
            options = worker.task.spec.options
            if options.resources.memory_mb is not None:
                pause = min(pause, _LOOK_S)
            if options.timeout_s is not None:
                pause = min(pause, worker.since + options.timeout_s - time.monotonic())
        return pause

    def _dispatch(self) -> None:
        while self._waiting:
            worker = next((one for one in self._workers.values() if one.task is None), None)
            if worker is None and len(self._workers) < self._max:
                worker = self._fork()
            if worker is None:
                return
            task = self._waiting.popleft()
            try:
                packed = framed(wire.pack(task))
            except EverlineError as error:
                problem = StepError(type=type(error).__name__, message=error.message)
                self._events.append(Failed(task=task, error=problem, hint=error.hint, ended_at=self._clock.now()))
                continue
            worker.task, worker.since, worker.verdict = task, time.monotonic(), None
            worker.printed = Output(task, secrets=secrets_of(task), bytes_max=self._output_bytes_max)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its death is reported
                worker.tasks.sendall(packed)

    def _fork(self) -> _Worker | None:
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        try:
            socket.send_fds(self._control, [b"F"], [theirs.fileno(), writing])
            kind, pid, status = b"", 0, 0
            while kind != b"P":
                kind, pid, status = self._report()
                if kind == b"D":
                    self._died(pid, status)
        finally:
            theirs.close()
            os.close(writing)
        os.set_blocking(reading, False)
        worker = _Worker(pid, ours, reading)
        self._workers[pid] = worker
        self._selector.register(ours, selectors.EVENT_READ, worker)
        self._selector.register(reading, selectors.EVENT_READ, worker)
        return worker

    def _report(self) -> tuple[bytes, int, int]:
        while len(self._reports) < REPORT.size:
            piece = self._control.recv(_PIECE_BYTES)
            if not piece:
                raise EverlineError(
                    f"The process that starts workers ended with {self._zygote.poll()}.",
                    hint="Run again; `--on inline` runs the steps in this process.",
                )
            self._reports += piece
        kind, pid, status = REPORT.unpack_from(self._reports)
        del self._reports[: REPORT.size]
        return kind, pid, status

    def _hear_of_deaths(self) -> None:
        kind, pid, status = self._report()
        while True:
            if kind == b"D":
                self._died(pid, status)
            if len(self._reports) < REPORT.size:
                return
            kind, pid, status = self._report()

    def _read_answers(self, worker: _Worker) -> None:
        try:
            piece = worker.tasks.recv(1 << 20)
        except ConnectionResetError:
            piece = b""
        if not piece:
            self._selector.unregister(worker.tasks)  # its death is reported
            return
        worker.received += piece
        for message in split(worker.received):
            self._answered(worker, message)

    def _answered(self, worker: _Worker, message: bytes) -> None:
        answer = wire.unpack_answer(message)
        task = worker.task
        if task is None or answer.uid != task.uid:
            return
        self._drain(worker)
        self._events.append(answer.event(task))
        self._seconds += 0.2 * ((answer.ended_at - answer.started_at).total_seconds() - self._seconds)
        worker.task = worker.printed = None
        self._dispatch()

    def _read_output(self, worker: _Worker) -> None:
        try:
            data = os.read(worker.output, _PIECE_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._selector.unregister(worker.output)
        elif worker.printed is not None:
            self._events += worker.printed.add(data)

    def _drain(self, worker: _Worker) -> None:
        """What a task printed belongs to it, and comes before its end."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(worker.output, _PIECE_BYTES):
                if worker.printed is not None:
                    self._events += worker.printed.add(data)
        if worker.printed is not None:
            self._events += worker.printed.end()

    def _stop_excesses(self) -> None:
        for worker in self._workers.values():
            if worker.task is None or worker.verdict is not None:
                continue
            options = worker.task.spec.options
            if options.timeout_s is not None and time.monotonic() - worker.since >= options.timeout_s:
                problem = StepError(type="TimeoutError", message=f"it took longer than its {options.timeout_s:g} s")
                worker.verdict = (problem, "Give the step more time with `timeout_s`, or less to do.")
                self._kill(worker)
            limit = options.resources.memory_mb
            if limit is not None and (used := _private_mb(worker.pid)) > limit:
                problem = StepError(type="MemoryError", message=f"it took {used:.0f} MB, more than its {limit} MB")
                worker.verdict = (problem, "Raise `el.Resources(memory_mb=…)`, or let the step work on less at a time.")
                self._kill(worker)

    def _kill(self, worker: _Worker) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)

    def _died(self, pid: int, status: int) -> None:
        worker = self._workers.get(pid)
        if worker is None:
            return
        with contextlib.suppress(OSError, KeyError):
            while worker.task is not None and (piece := worker.tasks.recv(1 << 20, socket.MSG_DONTWAIT)):
                worker.received += piece
                for message in split(worker.received):
                    self._answered(worker, message)
        task = worker.task
        if task is not None:
            self._drain(worker)
            problem, hint, lost = _why(status)
            if worker.verdict is not None:
                (problem, hint), lost = worker.verdict, False
            self._events.append(Failed(task=task, error=problem, hint=hint, lost=lost, ended_at=self._clock.now()))
        self._forget(worker)

    def _forget(self, worker: _Worker) -> None:
        for one in (worker.tasks, worker.output):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(one)
        worker.tasks.close()
        os.close(worker.output)
        self._workers.pop(worker.pid, None)


def _why(status: int) -> tuple[StepError, str, bool]:
    """What ended a worker in the middle of a step, what to do, and whether somebody else did it."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        problem = StepError(type="ProcessExit", message=f"it ended its process with exit code {code}")
        return problem, "Return from the step, or raise an error; `os._exit` leaves no result.", False
    name = signal.Signals(-code).name
    problem = StepError(type="ProcessKilled", message=f"its process was killed by {name}")
    outside = -code in (signal.SIGKILL, signal.SIGTERM)
    hint = (
        "Look at the kernel's log: it kills when memory runs out; `el.Resources(memory_mb=…)` keeps steps apart."
        if outside
        else "A library crashed; `--on inline` under a debugger shows where."
    )
    return problem, hint, outside


def _private_mb(pid: int) -> float:
    """The memory that a process has for itself, without files that are mapped, in MB."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123 - many times a second
            _, resident, shared, *_ = file.read().split()
    except (OSError, ValueError):
        return 0.0
    return (int(resident) - int(shared)) * _PAGE_BYTES / 1e6


def _memory_mb() -> int | None:
    try:
        return int(os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES * 0.9 / 1e6)
    except (ValueError, OSError):
        return None
