"""A line in the terminal: how long the run goes on, how much it has logged, its latest metrics, what waits."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from everline.sdk.logging.active_run import ActiveRun

METRICS_SHOWN_MAX = 5
REFRESHES_PER_S = 4


class Progress:
    """On standard error, and only at the end if that is no terminal."""

    def __init__(self, run: ActiveRun) -> None:
        self._run = run
        self._began = time.monotonic()
        self._console = Console(stderr=True)
        self._live = Live(
            console=self._console,
            get_renderable=self.line,
            refresh_per_second=REFRESHES_PER_S,
            redirect_stdout=sys.stdout.isatty(),  # a pipe gets what is printed, as ever
        )
        if self._console.is_terminal:
            self._live.start()

    def line(self) -> Text:
        """The line as it is now."""
        run, seconds = self._run, int(time.monotonic() - self._began)
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(run.name, style="bold")
        line.append(
            f"  {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}  {run.points:,} points", style="dim"
        )
        for key, value in [item for item in run.latest.items() if not item[0].startswith("system/")][
            :METRICS_SHOWN_MAX
        ]:
            line.append(f"  {key} ", style="dim")
            line.append(f"{value:.4g}")
        waiting = run.journal.last - run.journal.confirmed
        if run.is_cut_off:
            line.append(f"  the server does not answer; {waiting:,} entries wait", style="yellow")
        return line

    def stop(self) -> None:
        """Leave the last line standing."""
        if self._live.is_started:
            self._live.stop()
        else:
            self._console.print(self.line())
