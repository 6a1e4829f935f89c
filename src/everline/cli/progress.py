"""The progress of a pipeline's run in a terminal."""

from __future__ import annotations

import collections
import shutil
import sys
import time

import click

from everline.pipelines.types import StepStatus, StepUpdate

_MARKS = {
    StepStatus.RUNNING: ("…", "cyan"), StepStatus.SUCCEEDED: ("✓", "green"),
    StepStatus.CACHED: ("=", "blue"), StepStatus.FAILED: ("✗", "red"), StepStatus.WAITING: ("?", "yellow"),
    StepStatus.SKIPPED: ("–", "white"), StepStatus.CANCELLED: ("✗", "yellow"),
}  # fmt: skip

_LINES_MAX = 200
"""So many steps get a line of their own; of the others there are counts."""
_DRAW_S = 0.1


class Progress:
    """One line per step that ended, up to a number; the running ones and the counts on a line that is written over."""

    def __init__(self, *, why: bool) -> None:
        self._why = why
        self._live = sys.stderr.isatty()
        self._counts: collections.Counter[str] = collections.Counter()
        self._running: dict[str, str] = {}
        self._drawn_at = 0.0
        self._told = 0

    def __call__(self, update: StepUpdate) -> None:
        if update.status is StepStatus.RUNNING:
            self._running[update.uid] = update.name
        else:
            self._running.pop(update.uid, None)
            self._counts[update.status] += 1
            self._tell(update)
        self._draw()

    def printed(self, name: str, data: bytes) -> None:
        """What a step prints, with its name before each line."""
        self._clear()
        for line in data.decode(errors="replace").splitlines():
            click.echo(f"{click.style(f'{name} |', dim=True)} {line}", err=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._clear()
        if self._told > _LINES_MAX:
            click.echo(f"  … {self._told - _LINES_MAX} steps more: {self._summary()}", err=True)

    def _tell(self, update: StepUpdate) -> None:
        self._told += 1
        if self._told > _LINES_MAX and update.status is not StepStatus.FAILED:
            return
        self._clear()
        mark, colour = _MARKS[update.status]
        seconds = ((update.ended_at or update.started_at) - update.started_at).total_seconds()
        line = f"{click.style(mark, fg=colour)} {update.name:<24} {update.status:<10} {seconds:7.2f} s"
        if self._why and update.reason:
            line += f"  {click.style(update.reason, dim=True)}"
        click.echo(line, err=True)

    def _draw(self) -> None:
        now = time.monotonic()
        if not self._live or now - self._drawn_at < _DRAW_S:
            return
        self._drawn_at = now
        names = list(self._running.values())
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        width = shutil.get_terminal_size().columns - 1
        text = f"… {shown}  ({self._summary()})" if self._counts else f"… {shown}"
        click.echo(f"\r\x1b[2K{text[:width]}", nl=False, err=True)

    def _clear(self) -> None:
        if self._live:
            click.echo("\r\x1b[2K", nl=False, err=True)

    def _summary(self) -> str:
        return ", ".join(f"{count} {status}" for status, count in self._counts.items())
