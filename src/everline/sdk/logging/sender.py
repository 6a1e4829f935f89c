"""The sender: brings a journal's entries to the server, in order, each exactly once.

The same code sends while the run goes on and, from the journal that a killed process left, in the next process.
Points travel in batches that the server numbers off (`runs.streaming`); everything else is idempotent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec

from everline.errors import (
    ConflictError,
    EverlineError,
    IntegrityError,
    InvalidInputError,
    TooBusyError,
    TooLargeError,
    UnavailableError,
)
from everline.runs.columns import Refusal, StreamAnswer, body
from everline.runs.types import CreateRun, FinishRun, Run, RunStatus, from_ms
from everline.sdk.logging.journal import Entry, Journal, Kind

if TYPE_CHECKING:
    from everline.sdk.client import Client

T = TypeVar("T")
REQUEST_BYTES_MAX = 1 << 20
CONNECT_S = 2.0
PATIENCE_S = 15.0
TRANSIENT = (UnavailableError, TooBusyError)
_FOR_GOOD = (ConflictError, IntegrityError, InvalidInputError, TooLargeError)


class StoredFile(msgspec.Struct, frozen=True, array_like=True):
    """A file of the run whose content lies in the journal."""

    path: str
    digest: str
    bytes: int


class StoredRecord(msgspec.Struct, frozen=True, array_like=True):
    """Code and environment of the run; the blobs that it names lie in the journal."""

    record: dict[str, object]
    blobs: list[str]


class Finish(msgspec.Struct, frozen=True, array_like=True):
    """The run's end."""

    status: RunStatus
    ended_ms: int


class Sender:
    """Sends one journal through one client; one thread at a time."""

    def __init__(self, client: Client, journal: Journal) -> None:
        self.client = client
        self.journal = journal
        self.run: Run | None = None
        """The run as the server last told it: after its start, then after its end."""
        self.points = 0
        """How many points were taken through this sender."""
        self.refused: list[Refusal] = []
        """What was refused since somebody last looked."""

    def start(self) -> None:
        """Start the run; asked again, it is the same run.

        Raises:
            UnavailableError: nobody answers; it may have been started.
            EverlineError: it may not be started like this.
        """
        create: CreateRun = self.journal.start.create
        content = msgspec.json.encode(create)
        self.run = self._send("POST", "/runs", content, returns=Run)

    def ship(self) -> None:
        """Send everything that waits; returns when it is durable at the server, or refused for good.

        Raises:
            UnavailableError, TooBusyError: try again later; what was sent until then is confirmed.
            EverlineError: the server takes nothing from this journal (the run is deleted, a token is missing);
                it all stays.
        """
        if self.run is None:
            self.start()
        while entries := self.journal.pending(bytes_max=REQUEST_BYTES_MAX):
            batches = list(_leading_batches(entries))
            if batches:
                self._send_batches(batches)
            else:
                self._send_one(entries[0])

    def ship_with_patience(self) -> None:
        """`ship`, tried again for 15 seconds without progress; where nothing listens at all, once again."""
        pause, deadline = 0.1, time.monotonic() + PATIENCE_S
        while True:
            confirmed = self.journal.confirmed
            try:
                self.ship()
                return
            except TRANSIENT as error:
                if self.journal.confirmed > confirmed:
                    pause, deadline = 0.1, time.monotonic() + PATIENCE_S
                nobody = isinstance(error.__cause__, ConnectionRefusedError) and pause > 0.1
                if nobody or time.monotonic() > deadline:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, 1.0)

    def _send_batches(self, batches: Sequence[Entry]) -> None:
        content = body(self.journal.start.stream, [entry.content for entry in batches])
        answer = self._send("POST", f"/runs/{self.journal.start.run}/stream", content, returns=StreamAnswer)
        for refusal in answer.refused:
            self._refuse(refusal)
        self.points += answer.points
        self.journal.confirm(batches[-1])

    def _send_one(self, entry: Entry) -> None:
        digests: list[str] = []
        try:
            match entry.kind:
                case Kind.FILE:
                    file = msgspec.msgpack.decode(entry.content, type=StoredFile)
                    digests = [file.digest]
                    self._send_file(file)
                case Kind.RECORD:
                    record = msgspec.msgpack.decode(entry.content, type=StoredRecord)
                    digests = record.blobs
                    self._send_record(record)
                case _:
                    self._finish(msgspec.msgpack.decode(entry.content, type=Finish))
        except _FOR_GOOD as error:
            field = error.field or entry.kind.name.lower()
            self._refuse(Refusal(sequence=entry.sequence, field=field, message=error.message, hint=error.hint))
        self.journal.confirm(entry)
        self.journal.drop_blobs(digests)

    def _send_file(self, file: StoredFile) -> None:
        self._upload([file.digest])
        named = msgspec.json.encode({"path": file.path, "digest": file.digest})
        self._send("PUT", f"/runs/{self.journal.start.run}/artifacts", named, returns=dict)

    def _send_record(self, stored: StoredRecord) -> None:
        self._upload(stored.blobs)
        path = f"/runs/{self.journal.start.run}/record"
        self._send("PUT", path, msgspec.json.encode(stored.record), returns=dict)

    def _finish(self, finish: Finish) -> None:
        ended = FinishRun(status=finish.status, ended_at=from_ms(finish.ended_ms))
        path = f"/runs/{self.journal.start.run}/finish"
        self.run = self._send("POST", path, msgspec.json.encode(ended), returns=Run)

    def _upload(self, digests: Sequence[str]) -> None:
        for digest in self.client.blobs.missing(digests):
            path = self.journal.blob(digest)
            try:
                self.client.blobs.put_file(path, digest=digest)
            except FileNotFoundError:
                raise IntegrityError(f"The content {digest} is no longer in the journal {path.parent}.") from None

    def _refuse(self, refusal: Refusal) -> None:
        self.journal.refuse(refusal)
        self.refused.append(refusal)

    def _send(self, method: str, path: str, content: bytes, *, returns: type[T]) -> T:
        """One call. A fault of the server, or of something before it, is a reason to try again, not to give up."""
        try:
            answer = self.client.send(
                method,
                "/api/v1" + path,
                query={"project": self.journal.start.project},
                content=content,
                connect_s=CONNECT_S,
            )
            return msgspec.json.decode(answer.content, type=returns)
        except msgspec.MsgspecError as error:
            raise UnavailableError(
                f"What answers at {self.client.transport.origin} does not speak as Everline does ({error}).",
                hint="Check EVERLINE_URL.",
            ) from error
        except EverlineError as error:
            if error.status < 500 or isinstance(error, TRANSIENT):
                raise
            raise UnavailableError(error.message, hint=error.hint) from error


def refusal_error(refused: Sequence[Refusal]) -> EverlineError:
    """What was refused, as one error: the first, and how many more there are."""
    first = refused[0]
    more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    return InvalidInputError(f"{first.message}{more}", hint=first.hint, field=first.field)


def _leading_batches(entries: Sequence[Entry]) -> Iterator[Entry]:
    for entry in entries:
        if entry.kind is not Kind.BATCH:
            return
        yield entry
