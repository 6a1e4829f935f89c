"""A model in a process of its own: asked over shared memory, ended when it takes too long, begun anew when it dies.

A request that finds the process dead, or ends it, is asked once more of a new one; if that dies too the request gets
an error and the model goes on. A model that keeps dying is left alone for a while, longer each time; requests are
then told to come back.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import select
import socket
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
import numpy as np

from everline.errors import EverlineError, TooLargeError, UnavailableError
from everline.models.isolated import columns
from everline.models.signature import Array, Signature

log = logging.getLogger("everline.models")

_CHILD = Path(__file__).with_name("child.py")
_BACKOFF_S = (0.0, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
_ERROR_BYTES_MAX = 1 << 20


class ModelFailedError(EverlineError):
    """The model's process died of a request, or took too long for it."""

    code = "model_failed"
    status = 422


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's process may take.

    Attributes:
        answer_s: for one request.
        start_s: until the model is loaded.
        memory_bytes: address space of the process.
        shared_bytes: for the columns of one request, and of its answer.
    """

    answer_s: float = 10.0
    start_s: float = 60.0
    memory_bytes: int = 4 << 30
    shared_bytes: int = 128 << 20


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What the process needs to know.

    Attributes:
        python: the interpreter of the model's environment.
        kind: `function` or `pyfunc`.
        entry: `module:function`, or the folder of an MLflow model in the package.
        outputs: name and type of each output; empty takes whatever the model says.
    """

    python: str
    kind: str
    entry: str
    directory: str
    outputs: list[tuple[str, str]] = []
    limits: Limits = Limits()


class _DiedError(Exception):
    """The process is gone."""


class IsolatedModel:
    """Answers like any loaded model; several threads may ask, one after the other is answered."""

    def __init__(self, setup: Setup, *, rows_alone: bool = False) -> None:
        """Start the process.

        Raises:
            ModelFailedError: the model cannot be loaded there; the message says why.
        """
        self.rows_alone = rows_alone
        self._setup = setup
        self._asking = Lock()
        self._deaths = 0
        self._not_before = 0.0
        self._process: _Process | None = _Process(setup)

    def predict(self, arrays: Mapping[str, Array], *, rows: int) -> dict[str, Array]:
        """Answer all rows, or one by one where the model's answers depend on the rows beside them.

        Raises:
            ValueError: what the model itself raised.
            ModelFailedError: the request ended the process twice, or took too long.
            UnavailableError: the process died too often and is left alone for a moment.
        """
        if not self.rows_alone or rows <= 1:
            return self._ask(dict(arrays), rows)
        single = [self._ask({name: array[row : row + 1] for name, array in arrays.items()}, 1) for row in range(rows)]
        return {name: np.concatenate([one[name] for one in single]) for name in single[0]}

    def close(self) -> None:
        """End the process."""
        with self._asking:
            self._end()

    def _ask(self, arrays: dict[str, Array], rows: int) -> dict[str, Array]:
        size, limit = columns.size_of(arrays), self._setup.limits.shared_bytes
        if size > limit:
            raise TooLargeError(
                f"The columns of this request take {size} bytes; {limit} are shared with the model's process.",
                hint="Send fewer rows in each of several requests.",
            )
        with self._asking:
            for last in (False, True):
                try:
                    answer = self._running().ask(arrays, rows)
                except _SlowError as error:
                    self._died(error)
                    raise ModelFailedError(f"The model was ended, for {error}.", hint="Send fewer rows.") from None
                except _DiedError as error:
                    self._died(error)
                    if last:
                        raise ModelFailedError(
                            f"The model's process died of this request, twice: {error}.",
                            hint="Other requests are answered. Its author can replay this one.",
                        ) from None
                else:
                    self._deaths = 0
                    return answer
        raise AssertionError("unreachable")

    def _running(self) -> _Process:
        if self._process is None:
            wait_s = self._not_before - time.monotonic()
            if wait_s > 0:
                raise UnavailableError(
                    f"The model's process died {self._deaths} times in a row and is started again in {wait_s:.1f} s.",
                    hint="Try again then; the log of the data plane says how it died.",
                )
            try:
                self._process = _Process(self._setup)
            except ModelFailedError as error:
                self._died(_DiedError(error.message))
                raise
        return self._process

    def _died(self, error: _DiedError) -> None:
        self._end()
        self._deaths += 1
        self._not_before = time.monotonic() + _BACKOFF_S[min(self._deaths, len(_BACKOFF_S)) - 1]
        log.warning("the process of the model %s died: %s", self._setup.entry, error)

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


class _Process:
    """One running process with its memory and its line."""

    def __init__(self, setup: Setup) -> None:
        limits = setup.limits
        self._limits = limits
        memory_fd = os.memfd_create("everline-model") if hasattr(os, "memfd_create") else _unnamed_file()
        try:
            os.ftruncate(memory_fd, limits.shared_bytes)
            self._memory = mmap.mmap(memory_fd, limits.shared_bytes)
            self._line, other = socket.socketpair()
            told = {
                "memory_fd": memory_fd, "memory_bytes": limits.shared_bytes, "socket_fd": other.fileno(),
                "address_bytes": limits.memory_bytes, "kind": setup.kind, "entry": setup.entry,
                "directory": setup.directory, "outputs": setup.outputs,
            }  # fmt: skip
            variables = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
            variables |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            variables["ORT_DISABLE_TELEMETRY"] = "1"
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
            self._child = subprocess.Popen(
                [setup.python, "-I", str(_CHILD), json.dumps(told)],
                pass_fds=(memory_fd, other.fileno()), env=variables, cwd=tempfile.gettempdir(),
                stdin=subprocess.DEVNULL, stdout=self._errors, stderr=self._errors,
            )  # fmt: skip
            other.close()
        finally:
            os.close(memory_fd)
        self._finalizer = weakref.finalize(self, _end, self._child, self._line)
        try:
            ready = self._receive(limits.start_s, what="did not load the model")
        except _DiedError as error:
            self.end()
            raise ModelFailedError(f"The model's process ended while it loaded the model: {error}.") from None
        if not ready.get("ready"):
            self.end()
            raise ModelFailedError(
                f"The model cannot be loaded in its own environment: {ready.get('error')}.",
                hint="Its requirements.txt says what that environment has.",
            )

    def ask(self, arrays: dict[str, Array], rows: int) -> dict[str, Array]:
        placed = columns.pack(arrays, self._memory)
        data = json.dumps({"rows": rows, "columns": placed}).encode()
        try:
            self._line.sendall(len(data).to_bytes(4, "big") + data)
        except OSError as error:
            raise _DiedError(self._how()) from error
        answer = self._receive(self._limits.answer_s, what="did not answer")
        if answer.get("ok"):
            return columns.unpack(answer["columns"], self._memory)
        if answer.get("memory"):
            raise ModelFailedError(
                f"The model needs more than its {self._limits.memory_bytes} bytes for this request.",
                hint="Send fewer rows, or package it with a higher limit.",
            )
        raise ValueError(str(answer.get("error"))[:500])

    def end(self) -> None:
        self._finalizer()
        self._memory.close()
        self._errors.close()

    def _receive(self, limit_s: float, *, what: str) -> dict[str, Any]:
        until = time.monotonic() + limit_s
        head = self._exactly(4, until, limit_s, what)
        said: dict[str, Any] = json.loads(self._exactly(int.from_bytes(head, "big"), until, limit_s, what))
        return said

    def _exactly(self, count: int, until: float, limit_s: float, what: str) -> bytes:
        data = b""
        while len(data) < count:
            readable, _, _ = select.select([self._line], [], [], max(0.0, until - time.monotonic()))
            if not readable:
                raise _SlowError(f"it {what} within {limit_s:g} s")
            try:
                part = self._line.recv(count - len(data))
            except OSError:
                part = b""
            if not part:
                raise _DiedError(self._how())
            data += part
        return data

    def _how(self) -> str:
        """What ended it, with the last line that it wrote."""
        try:
            code = self._child.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "it closed its line"
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _ERROR_BYTES_MAX))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        said = f" ({lines[-1][:200]})" if lines else ""
        return f"signal {-code}{said}" if code < 0 else f"exit code {code}{said}"


class _SlowError(_DiedError):
    """The process did not answer in time; it is ended like one that died."""


def _end(child: subprocess.Popen[bytes], line: socket.socket) -> None:
    line.close()
    if child.poll() is None:
        child.kill()
    child.wait()


def _unnamed_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def setup_of(signature: Signature, *, kind: str, entry: str, directory: Path, python: str, limits: Limits) -> Setup:
    """The setup of a packaged model."""
    outputs = [(output.name, str(output.type)) for output in signature.outputs]
    return Setup(python=python, kind=kind, entry=entry, directory=str(directory), outputs=outputs, limits=limits)
