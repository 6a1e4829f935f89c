"""What earlier processes left: found under the home, sent, and ended.

A journal whose lock is free belongs to a process that is gone. Its entries are sent in order; a run that it had
started and never ended is then ended as `killed`, at the moment of its last entry.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from everline.errors import EverlineError
from everline.runs.columns import Refusal
from everline.runs.types import RunStatus
from everline.sdk.logging.journal import Journal, Kind
from everline.sdk.logging.sender import Finish, Sender

if TYPE_CHECKING:
    from everline.sdk.client import Client


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one journal.

    Attributes:
        sent: entries that the server has now and had not before; `waiting`: those that it still has not.
        refused: what it refused for good, now or earlier; kept in `refused.jsonl` in the folder.
        error: why entries still wait.
    """

    run: str
    folder: str
    server: str
    sent: int = 0
    waiting: int = 0
    points: int = 0
    refused: list[Refusal] = []
    error: str | None = None


def recover(client: Client, *, moved: bool = False) -> list[Recovered]:
    """Send every journal that was left under the client's home.

    Args:
        moved: also those that were written for a server at another address.
    """
    found = [_recover_one(client, folder, moved=moved) for folder in _folders(client.settings.home)]
    return [one for one in found if one is not None]


def recover_quietly(client: Client) -> None:
    """`recover` for the background of a new run: says on stderr what a person must know, and never raises."""
    try:
        found = recover(client)
    except (EverlineError, OSError):
        return  # the server is away or the client is closed: the next process tries again
    for one in found:
        if one.sent and not one.waiting:
            sys.stderr.write(f"everline: sent {one.sent} journal entries that run {one.run} had left unsent.\n")
        elif one.error and one.server == client.settings.url:
            sys.stderr.write(f"everline: run {one.run} still waits in {one.folder}: {one.error}\n")


def _folders(home: Path) -> Iterator[Path]:
    for folder in sorted((home / "journal").glob("*/*/")):
        if (folder / "start.json").exists():
            yield folder


def _recover_one(client: Client, folder: Path, *, moved: bool) -> Recovered | None:
    try:
        journal = Journal.take_over(folder)
    except EverlineError as error:
        return Recovered(run=folder.parent.name, folder=str(folder), server="", error=str(error))
    if journal is None:
        return None
    try:
        refused = journal.refusals()
        if refused and journal.is_done and not any(folder.glob("*.log")):
            return _told(journal, refused=refused)
        if journal.start.url != client.settings.url and not moved:
            return _told(journal, refused=refused, error=f"it is for {journal.start.url or 'the embedded server'}")
        return _send(client, journal, refused)
    finally:
        journal.close()


def _send(client: Client, journal: Journal, refused: list[Refusal]) -> Recovered:
    sender = Sender(client, journal)
    before = journal.confirmed
    error = None
    try:
        sender.start()
        if journal.start.owns_run and sender.run and not sender.run.status.is_terminal and not _has_end(journal):
            end = Finish(RunStatus.KILLED, journal.last_written_ms)
            journal.append(Kind.FINISH, msgspec.msgpack.encode(end))
        sender.ship_with_patience()
    except EverlineError as failure:
        error = str(failure)
    sent = journal.confirmed - before
    return _told(journal, refused=refused + sender.refused, error=error, sent=sent, points=sender.points)


def _has_end(journal: Journal) -> bool:
    last = journal.last_entry()
    return last is not None and last.kind is Kind.FINISH


def _told(
    journal: Journal, *, refused: list[Refusal], error: str | None = None, sent: int = 0, points: int = 0
) -> Recovered:
    return Recovered(
        run=journal.start.run,
        folder=str(journal.folder),
        server=journal.start.url,
        sent=sent,
        waiting=journal.last - journal.confirmed,
        points=points,
        refused=refused,
        error=error,
    )
