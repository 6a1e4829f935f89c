"""What the data plane keeps on local disk, so that it answers after a restart with nobody else alive.

<home>/dataplane/
  lock                 held by the one process that serves from here
  replica              this replica's uid
  pinned.pub           the control plane's public key, taken once, believed from then on
  state.json           the last desired state that was applied
  packages/<hex>/      packages by digest         signatures/<hex>.json   their DSSE envelopes
  spool/               raw segments               outbox/                 Parquet that waits to ship
  refused/             segments that the control plane did not want
  workers/             what each of several workers says of itself
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

import msgspec

from everline.errors import ConflictError
from everline.governance.signing import VerifyKey
from everline.ids import new_uid
from everline.serving.types import DesiredState


class LocalStore:
    """The directory of one data plane; several processes may read it, one serves from it."""

    def __init__(self, home: Path) -> None:
        self.root = home.absolute() / "dataplane"
        self.packages = self.root / "packages"
        self.signatures = self.root / "signatures"
        self.spool = self.root / "spool"
        self.outbox = self.root / "outbox"
        self.refused = self.root / "refused"
        self.workers = self.root / "workers"
        for directory in (self.packages, self.signatures, self.spool, self.outbox, self.refused, self.workers):
            directory.mkdir(parents=True, exist_ok=True)
        self.shipper_lock = self.root / "shipper.lock"
        self._state = self.root / "state.json"
        self._key = self.root / "pinned.pub"

    def lock(self) -> IO[str]:
        """Take the directory for this process, until the returned file is closed.

        Raises:
            ConflictError: another process serves from it.
        """
        file = (self.root / "lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise ConflictError(
                f"Another data plane serves from {self.root}.",
                hint="Stop it, or give this one its own directory with --home.",
            ) from None
        return file

    def replica(self) -> str:
        """This replica's uid: made at the first start, the same ever after."""
        file = self.root / "replica"
        if not file.exists():
            write_whole(file, (new_uid() + "\n").encode())
        return file.read_text().strip()

    def read_state(self) -> DesiredState | None:
        """The last state that was applied; None before the first, or if the file cannot be read."""
        try:
            return msgspec.json.decode(self._state.read_bytes(), type=DesiredState)
        except (OSError, msgspec.DecodeError):
            return None

    def write_state(self, state: DesiredState) -> None:
        """Keep the state that was applied."""
        write_whole(self._state, msgspec.json.encode(state))

    def read_pinned_key(self) -> VerifyKey | None:
        """The key that was pinned; None before that.

        Raises:
            InvalidInputError: the file is there and does not hold a key; nothing else is believed then.
        """
        return VerifyKey.parse(self._key.read_text()) if self._key.exists() else None

    def pin_key(self, key: VerifyKey) -> None:
        """Believe this key from now on."""
        write_whole(self._key, (key.text + "\n").encode())

    def spool_bytes(self) -> int:
        """Bytes of prediction log that wait on this disk, the open segment among them."""
        return sum(_size(entry) for directory in (self.spool, self.outbox) for entry in os.scandir(directory))

    def make_room(self, spool_bytes: int, bytes_max: int) -> int:
        """Remove the oldest closed segments until the log takes at most `bytes_max`; return what it takes then."""
        for path in sorted(self.spool.glob("*.raw")) if spool_bytes > bytes_max else ():
            size = path.stat().st_size
            path.unlink()
            spool_bytes -= size
            if spool_bytes <= bytes_max:
                break
        return spool_bytes

    def refused_segments(self) -> int:
        """How many segments the control plane did not want."""
        return sum(1 for _ in os.scandir(self.refused))


def write_whole(path: Path, data: bytes, *, lasting: bool = True) -> None:
    """Replace a file so that a reader, or a restart, finds the old or the new content, never a part.

    Args:
        lasting: wait for the disk; what is written anew every moment need not.
    """
    temporary = path.with_name(f".{path.name}.{new_uid()}")
    with temporary.open("wb") as file:
        file.write(data)
        if lasting:
            file.flush()
            os.fsync(file.fileno())
    temporary.rename(path)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError:  # shipped in between
        return 0
