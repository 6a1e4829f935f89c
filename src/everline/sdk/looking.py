"""Looks on while a rebuild runs: what its process reads, Python's code and compiled code alike."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from everline.config import Settings
from everline.loader import load
from everline.pipelines.types import StepRecord
from everline.runs.undeclared import merged, own_folders, peers, read_tag, tag_of
from everline.runs.watching import Seen, Watch
from everline.sdk.client import Client

if TYPE_CHECKING:
    from everline.sdk.syscalls import Supervisor

_POSTGRES = 5432


class Look:
    """What the kernel told of one process.

    Attributes:
        supervisor: for `run_process`; None where there is none.
    """

    def __init__(self, watch: Watch, supervisor: Supervisor | None, *, hosts: bool) -> None:
        self._watch, self.supervisor, self._hosts = watch, supervisor, hosts

    def seen(self) -> list[Seen]:
        """Undeclared inputs, with the digests that files have now."""
        return [one for one in self._watch.stop() if one.kind == "file" or self._hosts]

    def note(self, client: Client, run: str) -> None:
        """Add to the tag of a pipeline's rebuild what its own hook could not hear, with the step that was going on."""
        seen = self.seen()
        if self.supervisor is None or not seen:
            return
        steps = client.pipelines.steps(run)
        moments = self.supervisor.moments
        told = [one._replace(step=_step_at(moments.get(one.name), steps)) for one in seen]
        known = read_tag(client.runs.get(run).tags)
        found = merged(known, told)
        if len(found) > len(known):
            client.runs.log_batch(run, tags=tag_of(found))


@contextmanager
def looking(client: Client, *, python: str, root: Path, url: str) -> Iterator[Look]:
    """Look on at one process.

    Args:
        python: what it runs with; its environment is declared.
        root: the folder with its recorded code.
        url: the control plane that it speaks to.
    """
    folders = [str(root), *_shared_objects(root), str(Path(python).parent.parent), *own_folders(client.settings.home)]
    own = peers(url, addresses=True) if url else _embedded(client.settings)
    watch = Watch(peers=own or [], folders=folders)
    if not sys.platform.startswith("linux"):
        yield Look(watch, None, hosts=False)
        return
    with load("everline.sdk.syscalls").Supervisor(watch) as supervisor:
        yield Look(watch, supervisor, hosts=own is not None)


def _shared_objects(root: Path) -> list[str]:
    """Where a checked-out commit has its Git objects: in the repository that it was cloned from."""
    try:
        return (root / "project" / ".git" / "objects" / "info" / "alternates").read_text("utf-8").splitlines()
    except OSError:
        return []


def _embedded(settings: Settings) -> list[str] | None:
    """Where an embedded control plane connects to itself: its database; None if that is not to be known."""
    if "://" in settings.blob_url.removeprefix("file://"):
        return None  # an object store, at whatever addresses it has today
    if not settings.database_url or settings.database_url.startswith("sqlite"):
        return []
    parts = urlsplit(settings.database_url)
    return peers(f"//{parts.hostname}:{parts.port or _POSTGRES}", addresses=True) if parts.hostname else []


def _step_at(moment: float | None, steps: Sequence[StepRecord]) -> str | None:
    for step in steps:
        if moment is None or step.ended_at is None:
            continue
        if step.started_at.timestamp() <= moment <= step.ended_at.timestamp():
            return step.name
    return None
