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
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from everline.errors import ConflictError, EverlineError, InvalidInputError, UnavailableError
from everline.ids import digest_bytes, digest_file, new_run_uid
from everline.loader import load
from everline.runs import limits
from everline.runs.types import (
    Artifact,
    Run,
    RunInput,
    RunStatus,
)
from everline.sdk.client import Client
from everline.sdk.logging.buffer import Buffer
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
STORED_FILE_BYTES_MAX = 8 << 20
_STEP_MAX = limits.LONG_MAX


class Part(Protocol):
    """Something that goes along with a run."""

    def stop(self) -> None:
        """End, and log what is still to be logged; called again, do nothing."""


class ActiveRun:
    """A run that is going on; made by `everline.run()`. Safe to log to from several threads, and from forked processes.

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
        self._parts: list[Part] = []
        self._needed: list[Part] = []
        self._ended = False
        self.is_cut_off = False
        """Whether the server did not answer when it was last spoken to."""
        self._reset()
        self.journal = Journal.create(client.settings.home, start, bytes_max=client.settings.journal_bytes_max)
        self.sender = Sender(client, self.journal)
        _going_on.add(self)

    def log_metric(self, key: str, value: float, *, step: int | None = None) -> None:
        """Log a value; without a step, each metric counts from 0."""
        points = self._points.get(key)
        if points is None:
            points = self._buffer.open(key)
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
        pairs = texts(values)
        limits.check_pairs(pairs, limit=limits.PARAM_VALUE_CHARACTERS_MAX, field="params")
        self._buffer.add_params(pairs)
        if self._attention:
            self._attend()

    def set_tag(self, key: str, value: Any) -> None:
        """Set a tag."""
        pair = {key: str(value)}
        limits.check_pairs(pair, limit=limits.TAG_VALUE_CHARACTERS_MAX, field="tags")
        self._buffer.add_tags(pair)
        if self._attention:
            self._attend()

    def log_input(self, name: str, digest: str, *, version: int | None = None, context: str = "") -> None:
        """Say which dataset version the run reads."""
        given = RunInput(name=name, digest=digest, version=version, context=context)
        limits.check_inputs([given])
        self._buffer.add_input(given)
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

    @property
    def params(self) -> dict[str, str]:
        """The parameters that this process has logged."""
        return self._buffer.params

    @property
    def points(self) -> int:
        """How many points this process has logged, as far as they are in the journal."""
        return self._buffer.taken

    @property
    def latest(self) -> Mapping[str, float]:
        """The newest of those of each metric."""
        return self._buffer.newest

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
        for part in self._needed:
            part.stop()
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
        for part in (*reversed(self._parts), *self._needed):
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
        """Start the threads; called once."""
        self._threads = [
            threading.Thread(target=work, name=f"everline-{name}", daemon=True)
            for name, work in (("journal", self._keep_writing), ("send", self._keep_sending))
        ]
        for thread in self._threads:
            thread.start()
        atexit.register(self._at_exit)

    def add(self, part: Part, *, needed: bool = False) -> None:
        """Let something live as long as the run: `part.stop()` is called before it ends.

        Args:
            needed: `flush` waits for its end too.
        """
        (self._needed if needed else self._parts).append(part)

    def keep_record(self, record: StoredRecord, blobs: Mapping[str, bytes]) -> None:
        """Keep the code and environment that were captured."""
        for digest, content in blobs.items():
            self.journal.put_blob(digest, content)
        self.journal.append(Kind.RECORD, msgspec.msgpack.encode(record))

    def fail(self, error: EverlineError) -> None:
        """Raise this at the next call."""
        self._failure = self._failure or error
        self._attention = True

    def _reset(self) -> None:
        """Fresh buffers and locks: at the start, and in a forked process, where the old ones are the parent's."""
        self._buffer = Buffer(self._start.create.params)
        self._points = self._buffer.points
        self._writing = threading.Lock()
        self._sending = threading.Lock()
        self._wake = threading.Event()
        self._failure = None
        self._attention = False
        self._pid = os.getpid()

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
            try:
                self._write()
            except Exception as error:  # the thread must live, and nothing be lost in silence
                self.fail(UnavailableError(f"Something that was logged could not be written to the journal: {error!r}"))
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
                pause, self.is_cut_off = SEND_S, False
            except TRANSIENT:
                self.is_cut_off = True
                pause = min(pause * 2, RETRY_S_MAX)  # it is all still in the journal
            except EverlineError as error:
                pause = RETRY_S_MAX
                if str(error) != told:
                    told = str(error)
                    self.fail(error)

    def _write(self) -> None:
        """Move what came into the buffer to the journal."""
        with self._writing:
            for encode in self._buffer.take():
                self.journal.append_numbered(Kind.BATCH, encode)

    def _name_file(self, stored: StoredFile) -> Artifact:
        self.journal.append(Kind.FILE, msgspec.msgpack.encode(stored))
        if self._attention:
            self._attend()
        return Artifact(path=stored.path, is_dir=False, digest=stored.digest, bytes=stored.bytes)

    def _go_on_in_child(self) -> None:
        """A forked process logs as a stream of its own; the parent ends the run."""
        kept = self._buffer
        self._reset()
        self._buffer, self._points = kept, kept.points
        self._start = msgspec.structs.replace(self._start, stream=new_run_uid(), owns_run=False)
        self.journal = Journal.create(
            self.client.settings.home, self._start, bytes_max=self.client.settings.journal_bytes_max
        )
        self.sender = Sender(self.client, self.journal)
        self._parts, self._needed = [], []
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


_going_on: weakref.WeakSet[ActiveRun] = weakref.WeakSet()


def _after_fork() -> None:
    for run in list(_going_on):
        run._buffer = Buffer(run.params)
        run._points = run._buffer.points
        run._attention = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def texts(values: Mapping[str, Any] | None) -> dict[str, str]:
    """Values of parameters and tags as they are kept."""
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
