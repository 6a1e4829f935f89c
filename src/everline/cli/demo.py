"""`everline demo`: the whole loop on real flight data, then the console's address."""

from __future__ import annotations

import os
from pathlib import Path

import click

from everline.loader import load


@click.command("demo")
@click.option("--home", type=click.Path(path_type=Path), help="Home directory. [$EVERLINE_HOME, ./.everline]")
@click.option("--exit", "leave", is_flag=True, help="End after the summary instead of serving on.")
@click.option("--fresh", is_flag=True, help="Remove what an earlier demo left in the home directory, and begin anew.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON for programs.")
def command(*, home: Path | None, leave: bool, fresh: bool, as_json: bool) -> int:
    """Run the whole loop on real flight data: train, release, serve, monitor, retrain, roll back, prove.

    Takes under two minutes. Everything happens on this machine: two processes on free loopback ports, SQLite and
    a directory under --home.
    """
    folder = home or Path(os.environ.get("EVERLINE_HOME") or ".everline")
    story = load("everline.demo.story")
    result: int = story.tell(folder.absolute(), serve_on=not leave, fresh=fresh, as_json=as_json)
    return result
