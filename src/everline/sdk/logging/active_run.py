"""`everline.run()`: a run that is going on, logged without holding up the training loop.

with everline.run(experiment="flights", params={"depth": 6}) as run:
    for step in range(100):
        run.log_metric("loss", loss, step=step)
    run.log_artifact("confusion.png")

A log call appends to a list. Every 50 ms a thread writes what came to the journal on disk (`journal`), and another
sends the journal to the server (`sender`).
"""

from __future__ import annotations

import atexit
import io
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from everline.errors import ConflictError, EverlineError, InvalidInputError, UnavailableError
from everline.ids import digest_bytes, digest_file, new_run_uid
from everline.loader import load
from everline.runs import columns, limits
from everline.runs.names import random_name
from everline.runs.types import (
    DEFAULT_EXPERIMENT,
    Artifact,
    CreateRun,
    Run,
    RunInput,
    RunStatus,
    from_ms,
)
from everline.sdk.client import Client
from everline.sdk.logging.journal import Journal, Kind, Start
from everline.sdk.logging.sender import (
    TRANSIENT,
    Finish,
    Sender,
    StoredFile,
    StoredRecord,
    refusal_error,
)

WRITE_S = 0.05
SEND_S = 0.25
RETRY_S_MAX = 10.0
POINTS_PER_BATCH_MAX = 20_000
STORED_FILE_BYTES_MAX = 8 << 20
_STEP_MAX = limits.LONG_MAX

Points = list[tuple[int, int, float]]


class ActiveRun:
    """A run that is going on; made by `run`. Safe to log to from several threads, and from forked processes.

    What breaks a rule is refused at the call where this process can know it, else (another process has
    logged another value of a parameter, the run was deleted) at the next call or the end.
    """

    _failure: EverlineError | None

    def __init__(self, client: Client, start: Start, *, owns_client: bool = False) -> None:
        self.run = start.run
        self.name = start.create.name or ""
        self.client = client
        self._start = start
        self._owns_client = owns_client
        self._steps: dict[str, int] = {}
        self._params: dict[str, str] = dict(start.create.params)
        self._parts: list[Any] = []
        """What ends before the run does: the capture of code, and options."""
        self._ended = False
        self._reset()
        self.journal = Journal.create(client.settings.home, start, bytes_max=client.settings.journal_bytes_max)
        self.sender = Sender(client, self.journal)
        _going_on.add(self)

    def log_metric(self, key: str, value: float, *, step: int | None = None) -> None:
        """Log a value; without a step, each metric counts from 0."""
        points = self._points.get(key)
        if points is None:
            points = self._open_series(key)
        if step is None:
            step = self._steps.get(key, -1) + 1
        elif type(step) is not int or not -_STEP_MAX <= step <= _STEP_MAX:
            step = _whole(step)
        try:
            points.append((step, time.time_ns() // 1_000_000, float(value)))
        except (TypeError, ValueError):
            raise _no_number(key, value) from None
        self._steps[key] = step
        if self._attention:
            self._attend()

    def log_metrics(self, values: Mapping[str, float], *, step: int | None = None) -> None:
        """Log values of one step."""
        for key, value in values.items():
            self.log_metric(key, value, step=step)

    def log_param(self, key: str, value: Any) -> None:
        """Log a parameter; it never changes afterwards."""
        self.log_params({key: value})

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Log parameters.

        Raises:
            InvalidInputError: a name or value is out of its limits, or another value was logged; none is kept.
        """
        pairs = _texts(values)
        limits.check_pairs(pairs, limit=limits.PARAM_VALUE_CHARACTERS_MAX, field="params")
        with self._pairs:
            for key, value in pairs.items():
                if self._params.get(key, value) != value:
                    raise InvalidInputError(
                        f"Changing param values is not allowed: {key!r} was logged as {self._params[key]!r}.",
                        hint="A parameter is part of what the run is; log a changing value as a tag or metric.",
                        field=f"params.{key}",
                    )
            self._params |= pairs
            self._new_params |= pairs
        if self._attention:
            self._attend()

    def set_tag(self, key: str, value: Any) -> None:
        """Set a tag."""
        pair = {key: str(value)}
        limits.check_pairs(pair, limit=limits.TAG_VALUE_CHARACTERS_MAX, field="tags")
        with self._pairs:
            self._new_tags |= pair
        if self._attention:
            self._attend()

    def log_input(self, name: str, digest: str, *, version: int | None = None, context: str = "") -> None:
        """Say which dataset version the run reads."""
        given = RunInput(name=name, digest=digest, version=version, context=context)
        limits.check_inputs([given])
        with self._pairs:
            self._new_inputs.append(given)
        if self._attention:
            self._attend()

    def log_artifact(self, file: Path | str, *, path: str | None = None) -> Artifact:
        """Upload a file; `path` is its name below the run's root, by default the file's own.

        Up to 8 MiB are copied now and uploaded in the background; a larger one is uploaded now, or copied into
        the journal if the server does not answer.
        """
        local = Path(file)
        target = limits.check_artifact_path(local.name if path is None else path)
        if local.stat().st_size <= STORED_FILE_BYTES_MAX:
            return self.log_bytes(local.read_bytes(), path=target)
        stored = StoredFile(target, digest_file(local), local.stat().st_size)
        try:
            self.flush()
            self.client.blobs.put_file(local, digest=stored.digest)
        except TRANSIENT:
            self.journal.put_blob(stored.digest, local)
        return self._name_file(stored)

    def log_bytes(self, data: bytes, *, path: str) -> Artifact:
        """Upload bytes as a file, in the background."""
        stored = StoredFile(limits.check_artifact_path(path), digest_bytes(data), len(data))
        try:
            self.journal.put_blob(stored.digest, data)
        except OSError:  # the disk takes nothing: then it must go to the server now
            self.client.blobs.put_bytes(data)
        return self._name_file(stored)

    def log_text(self, text: str, *, path: str) -> Artifact:
        """Upload a text as a file, in the background."""
        return self.log_bytes(text.encode(), path=path)

    def log_table(self, table: Any, *, path: str) -> Artifact:
        """Upload a pyarrow, pandas or polars table as a Parquet file, in the background."""
        pyarrow, parquet = load("pyarrow"), load("pyarrow.parquet")
        if hasattr(table, "to_arrow"):
            table = table.to_arrow()
        elif not isinstance(table, pyarrow.Table):
            table = pyarrow.Table.from_pandas(table)
        target = io.BytesIO()
        parquet.write_table(table, target, compression="zstd")
        return self.log_bytes(target.getvalue(), path=path)

    def compare(self, *others: str) -> Any:
        """This run beside others, as `client.runs.compare` does it, with everything logged until now."""
        self.flush()
        return self.client.runs.compare([self.run, *others])

    def flush(self) -> None:
        """Send what waits; returns when it is durable at the server.

        Raises:
            UnavailableError: the server did not answer after several tries; everything is in the journal.
            EverlineError: the server refused something.
        """
        self._wait_for_capture()
        self._write()
        with self._sending:
            self.sender.ship_with_patience()
            self._note_refusals()
        self._raise_failure()

    def finish(self, status: RunStatus | str = RunStatus.FINISHED) -> Run | None:
        """Send the rest and end the run.

        Returns:
            The run as the server keeps it; None if the server does not answer: then the journal has it all, and
            the next `everline.run()` of this home, or `everline runs sync`, sends it.

        Raises:
            EverlineError: the server refused something; the run has ended nevertheless.
        """
        if self._ended:
            return self.sender.run
        for part in reversed(self._parts):
            part.stop()
        self._ended = True
        self._wake.set()
        atexit.unregister(self._at_exit)
        self._write()
        end = Finish(RunStatus(status), time.time_ns() // 1_000_000)
        self.journal.append(Kind.FINISH, msgspec.msgpack.encode(end))
        _going_on.discard(self)
        try:
            with self._sending:
                self.sender.ship_with_patience()
                self._note_refusals()
            self._raise_failure()
            return self.sender.run
        except TRANSIENT as error:
            if self.journal.holds_memory:
                raise
            self._say_that_it_waits(error)
            return None
        finally:
            self.journal.close()
            self._attention = True
            if self._owns_client:
                self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
            return
        try:
            self.finish(RunStatus.KILLED if issubclass(kind, KeyboardInterrupt) else RunStatus.FAILED)
        except EverlineError as second:  # the first error is what the user must see
            if error is not None:
                error.add_note(f"everline could not finish the run {self.run}: {second}")

    def begin(self) -> None:
        """Start the threads; called once, by `run`."""
        self._threads = [
            threading.Thread(target=work, name=f"everline-{name}", daemon=True)
            for name, work in (("journal", self._keep_writing), ("send", self._keep_sending))
        ]
        for thread in self._threads:
            thread.start()
        atexit.register(self._at_exit)

    def add(self, part: Any) -> None:
        """Let something live as long as the run: `part.stop()` is called before it ends."""
        self._parts.append(part)

    def keep_record(self, record: StoredRecord, blobs: Mapping[str, bytes]) -> None:
        """Keep the code and environment that were captured."""
        for digest, content in blobs.items():
            self.journal.put_blob(digest, content)
        self.journal.append(Kind.RECORD, msgspec.msgpack.encode(record))

    def fail(self, error: EverlineError) -> None:
        """Raise this at the next call."""
        self._failure = self._failure or error
        self._attention = True

    def latest(self) -> dict[str, float]:
        """The newest value that was logged of each metric, as far as it is still in the buffer."""
        return {key: points[-1][2] for key, points in list(self._points.items()) if points}

    def _reset(self) -> None:
        """Fresh buffers and locks: at the start, and in a forked process, where the old ones are the parent's."""
        self._points: dict[str, Points] = {}
        self._new_params: dict[str, str] = {}
        self._new_tags: dict[str, str] = {}
        self._new_inputs: list[RunInput] = []
        self._pairs = threading.Lock()
        self._writing = threading.Lock()
        self._sending = threading.Lock()
        self._wake = threading.Event()
        self._failure = None
        self._attention = False
        self._pid = os.getpid()

    def _open_series(self, key: str) -> Points:
        limits.check_key(key, field="metric")
        return self._points.setdefault(key, [])

    def _attend(self) -> None:
        """A log call found that something is to be said or done."""
        if self._pid != os.getpid():
            self._go_on_in_child()
            return
        if self._ended:
            raise ConflictError(f"Run {self.run} has ended.", hint="Start a new run with everline.run().")
        self._raise_failure()
        if self.journal.is_full:
            self.flush()
            self._attention = self.journal.is_full

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        self._attention = self._ended or self.journal.is_full
        if failure is not None:
            raise failure

    def _note_refusals(self) -> None:
        if self.sender.refused:
            refused, self.sender.refused = self.sender.refused, []
            self.fail(refusal_error(refused))

    def _keep_writing(self) -> None:
        while not self._ended:
            time.sleep(WRITE_S)
            self._write()
            if self.journal.is_full:
                self._attention = True

    def _keep_sending(self) -> None:
        pause = SEND_S
        told: str | None = None
        while not self._wake.wait(pause):
            try:
                with self._sending:
                    if self._ended:
                        return
                    self.sender.ship()
                    self._note_refusals()
                pause = SEND_S
            except TRANSIENT:
                pause = min(pause * 2, RETRY_S_MAX)  # it is all still in the journal
            except EverlineError as error:
                pause = RETRY_S_MAX
                if str(error) != told:
                    told = str(error)
                    self.fail(error)

    def _write(self) -> None:
        """Move what came into the buffer to the journal."""
        with self._writing:
            with self._pairs:
                params, self._new_params = self._new_params, {}
                tags, self._new_tags = self._new_tags, {}
                inputs, self._new_inputs = self._new_inputs, []
            batch: list[columns.Series] = []
            room = POINTS_PER_BATCH_MAX
            for key, points in list(self._points.items()):
                while count := min(len(points), room):
                    batch.append(columns.series(key, points[:count]))
                    del points[:count]  # what was appended meanwhile stays
                    room -= count
                    if room == 0:
                        self._append(batch, params, tags, inputs)
                        batch, params, tags, inputs, room = [], {}, {}, [], POINTS_PER_BATCH_MAX
            if batch or params or tags or inputs:
                self._append(batch, params, tags, inputs)

    def _append(
        self, batch: list[columns.Series], params: dict[str, str], tags: dict[str, str], inputs: list[RunInput]
    ) -> None:
        def encode(sequence: int) -> bytes:
            return msgspec.msgpack.encode(columns.StreamBatch(sequence, batch, params, tags, inputs))

        self.journal.append_numbered(Kind.BATCH, encode)

    def _name_file(self, stored: StoredFile) -> Artifact:
        self.journal.append(Kind.FILE, msgspec.msgpack.encode(stored))
        if self._attention:
            self._attend()
        return Artifact(path=stored.path, is_dir=False, digest=stored.digest, bytes=stored.bytes)

    def _wait_for_capture(self) -> None:
        for part in self._parts:
            if isinstance(part, Background):
                part.stop()

    def _go_on_in_child(self) -> None:
        """A forked process logs as a stream of its own; the parent ends the run."""
        kept = self._points
        self._reset()
        self._points = kept
        self._start = msgspec.structs.replace(self._start, stream=new_run_uid(), owns_run=False)
        self.journal = Journal.create(
            self.client.settings.home, self._start, bytes_max=self.client.settings.journal_bytes_max
        )
        self.sender = Sender(self.client, self.journal)
        self._parts = []
        self.begin()

    def _say_that_it_waits(self, error: EverlineError) -> None:
        sys.stderr.write(
            f"everline: {error} Run {self.run} is kept in {self.journal.folder}; the next everline.run() of this home, "
            "or `everline runs sync`, sends it.\n"
        )

    def _at_exit(self) -> None:
        """The program ends without `finish()`: with an error if one is on its way out."""
        if self._ended or self._pid != os.getpid():
            return
        try:
            self.finish(RunStatus.FAILED if getattr(sys, "last_value", None) else RunStatus.FINISHED)
        except EverlineError as error:
            sys.stderr.write(f"everline: run {self.run}: {error}\n")


class Background:
    """Work in a thread that the run waits for before it ends; an error of ours is raised at the next call."""

    def __init__(self, run: ActiveRun, work: Callable[[], None], *, name: str) -> None:
        self._run = run
        self._work = work
        self._thread = threading.Thread(target=self._do, name=f"everline-{name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait until it is done."""
        self._thread.join()

    def _do(self) -> None:
        try:
            self._work()
        except EverlineError as error:
            self._run.fail(error)
        except OSError as error:
            self._run.fail(UnavailableError(f"Code and environment could not be recorded: {error}."))


_going_on: weakref.WeakSet[ActiveRun] = weakref.WeakSet()


def _after_fork() -> None:
    for run in list(_going_on):
        run._points = {}
        run._attention = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def run(
    *,
    experiment: str = DEFAULT_EXPERIMENT,
    name: str | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    client: Client | None = None,
    record: bool = True,
    progress: bool = False,
    system_metrics: bool = False,
    capture_output: bool = False,
) -> ActiveRun:
    """Start a run; use it as a context manager, or call `finish()`.

    A server that does not answer holds nothing up: the run starts in the journal and is sent later.

    Args:
        experiment: made if it is new.
        client: None opens one for `EVERLINE_URL`, or embedded over `./.everline`.
        record: keep code and environment with the run, so that it can be done again; read in the background.
        progress: a line in the terminal with the latest metrics.
        system_metrics: log the use of CPU, memory, disk, network and GPU every 10 seconds, as `system/…`.
        capture_output: keep what the process prints as the artifact `output.log`.

    Raises:
        EverlineError: the server answers, and does not start this run.
    """
    owned = client is None
    client = client or Client()
    create = CreateRun(
        run=new_run_uid(),
        experiment=experiment,
        name=name or random_name(),
        params=_texts(params),
        tags=_texts(tags),
        started_at=from_ms(time.time_ns() // 1_000_000),
    )
    start = Start(
        run=str(create.run), stream=new_run_uid(), url=client.settings.url, project=client.project, create=create
    )
    active = ActiveRun(client, start, owns_client=owned)
    try:
        active.sender.start()
    except TRANSIENT as error:
        sys.stderr.write(f"everline: {error} Run {active.run} starts without it and is sent later.\n")
    except EverlineError:
        active.journal.close()
        raise
    active.begin()
    if record:
        active.add(Background(active, _recording(active), name="capture"))
    Background(active, lambda: load("everline.sdk.logging.recovery").recover_quietly(client), name="recovery")
    for wanted, module, maker in (
        (capture_output, "output", "CapturedOutput"),
        (system_metrics, "system_metrics", "SystemMetrics"),
        (progress, "progress", "Progress"),
    ):
        if wanted:
            active.add(getattr(load(f"everline.sdk.logging.{module}"), maker)(active))
    return active


def _recording(active: ActiveRun) -> Callable[[], None]:
    """Capture what this process runs, as it is now."""
    entry = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "interactive"
    root, argv, params = Path.cwd(), list(sys.argv[1:]), dict(active._params)

    def work() -> None:
        captured = load("everline.runs.capture").capture(root, entry, argv, params=params)
        record = StoredRecord(msgspec.to_builtins(captured.record), list(captured.blobs))
        active.keep_record(record, captured.blobs)

    return work


def _texts(values: Mapping[str, Any] | None) -> dict[str, str]:
    return {key: str(value) for key, value in (values or {}).items()}


def _whole(step: Any) -> int:
    """A step of another kind of whole number (numpy's, a tensor's), within 64 bits."""
    try:
        return limits.check_long(step.__index__(), field="step")
    except (AttributeError, TypeError):
        raise InvalidInputError(
            f"The step {step!r} is not a whole number.", hint="Count steps with integers.", field="step"
        ) from None


def _no_number(key: str, value: Any) -> InvalidInputError:
    return InvalidInputError(
        f"The value {str(value)[:80]!r} of metric {key!r} is not a number.",
        hint="Metrics are numbers; log a text as a tag.",
        field=f"metrics.{key}",
    )
