"""What the process prints, kept as the run's artifact `output.log`, while it is printed as ever.

The artifact is written anew after 2, 4, 8, … seconds, then every minute, and at the end. Of more than 8 MiB the first
and the last half are kept. What C code writes past Python, and what child processes print, is not seen.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from everline.errors import EverlineError

if TYPE_CHECKING:
    from everline.sdk.logging.active_run import ActiveRun

ARTIFACT = "output.log"
OUTPUT_BYTES_MAX = 8 << 20
FIRST_PAUSE_S = 2.0
PAUSE_S_MAX = 60.0


class CapturedOutput:
    """Stands before `sys.stdout` and `sys.stderr` until the run ends."""

    def __init__(self, run: ActiveRun) -> None:
        self._run = run
        self._kept = Kept(OUTPUT_BYTES_MAX)
        self._tees = {name: _Tee(getattr(sys, name), self._kept) for name in ("stdout", "stderr")}
        for name, tee in self._tees.items():
            setattr(sys, name, tee)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="everline-output", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Give the streams back and keep what was printed."""
        for name, tee in self._tees.items():
            tee.is_open = False
            if getattr(sys, name) is tee:  # else somebody stands before us, and we only hand on
                setattr(sys, name, tee.stream)
        self._done.set()
        self._thread.join()
        self._upload()

    def _work(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._done.wait(pause):
            pause = min(2 * pause, PAUSE_S_MAX)
            self._upload()

    def _upload(self) -> None:
        content = self._kept.take_if_new()
        if content is None:
            return
        try:
            self._run.log_bytes(content, path=ARTIFACT)
        except EverlineError as error:
            self._run.fail(error)


class Kept:
    """The beginning and the end of a text that may grow without end."""

    def __init__(self, bytes_max: int) -> None:
        self._half = bytes_max // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0
        self._new = False
        self._lock = threading.Lock()

    def add(self, text: str) -> None:
        """Add what was printed."""
        content = text.encode("utf-8", "backslashreplace")
        with self._lock:
            self._new = True
            room = self._half - len(self._head)
            self._head += content[:room] if room > 0 else b""
            self._tail += content[max(room, 0) :]
            if len(self._tail) > 2 * self._half:  # cut seldom, and then a lot
                self._dropped += len(self._tail) - self._half
                del self._tail[: -self._half]

    def take_if_new(self) -> bytes | None:
        """All of it, or None if nothing came since the last time."""
        with self._lock:
            if not self._new:
                return None
            self._new = False
            tail, dropped = self._tail[-self._half :], self._dropped + max(0, len(self._tail) - self._half)
            note = f"\n[everline: {dropped} bytes are left out here]\n".encode() if dropped else b""
            return bytes(self._head) + note + bytes(tail)


class _Tee:
    """A text stream that also keeps what it is told; everything else is the stream behind it."""

    def __init__(self, stream: Any, kept: Kept) -> None:
        self.stream = stream
        self.is_open = True
        self._kept = kept
        self._here = threading.local()

    def write(self, text: str) -> int:
        """Print, and keep; what keeping itself prints is printed only."""
        written: int = self.stream.write(text)
        if self.is_open and not getattr(self._here, "busy", False):
            self._here.busy = True
            try:
                self._kept.add(text)
            finally:
                self._here.busy = False
        return written

    def writelines(self, lines: Any) -> None:
        """Print several."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
