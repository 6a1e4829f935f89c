"""What a step prints: bounded, and without the values of secrets."""

from __future__ import annotations

from everline.pipelines.executors.tasks import Printed, Task


class Output:
    """The output of one task, as it comes.

    Args:
        secrets: values to black out; they are looked for in whole lines.
        bytes_max: how much is passed on; the rest is counted, and told at the end.
    """

    def __init__(self, task: Task, *, secrets: list[str], bytes_max: int) -> None:
        self._task, self._left = task, bytes_max
        self._secrets = [value.encode() for value in secrets]
        self._line = b""
        self._dropped = 0

    def add(self, data: bytes) -> list[Printed]:
        """Bytes that were written; those that may be passed on."""
        if self._secrets:
            whole, newline, self._line = (self._line + data).rpartition(b"\n")
            data = whole + newline
            if len(self._line) > 1 << 20:
                data, self._line = data + self._line, b""
        return self._passed(data)

    def end(self) -> list[Printed]:
        """The task is over."""
        found = self._passed(self._line)
        self._line = b""
        if self._dropped:
            found.append(Printed(self._task, f"\n[{self._dropped} bytes more were printed and not kept]\n".encode()))
            self._dropped = 0
        return found

    def _passed(self, data: bytes) -> list[Printed]:
        for value in self._secrets:
            data = data.replace(value, b"[secret]")
        kept = data[: self._left]
        self._left -= len(kept)
        self._dropped += len(data) - len(kept)
        return [Printed(self._task, kept)] if kept else []
