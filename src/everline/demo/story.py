"""The demo's chapters in order, and what happens when one fails."""

from __future__ import annotations

import functools
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape

from everline.clock import SystemClock, rfc3339
from everline.demo import flights, prepare, proof, releasing, retraining, watching
from everline.demo.stage import Stage
from everline.demo.traffic import Traffic, in_kilometres
from everline.errors import ConflictError, EverlineError
from everline.loader import require

LIVE_FROM = flights.moment(5, 1)
SUMMER_UNTIL = flights.moment(7, 15)
CANARY_UNTIL = flights.moment(7, 29)
FAULT_FROM = flights.moment(9, 10)
FAULT_UNTIL = flights.moment(9, 20)
CLOCK = SystemClock()


class ChapterError(EverlineError):
    """A chapter failed; the message names it and says why."""

    code = "chapter_failed"
    status = 500


def traffic(stage: Stage) -> Traffic:
    """The airline, asking the running data plane."""
    if stage.data is None:
        raise ConflictError("The data plane does not run.")
    return Traffic(stage.data.url, stage.as_person("maya"))


def start(stage: Stage) -> None:
    """Two processes on free loopback ports, SQLite and a directory."""
    stage.open()
    if stage.control:
        stage.say(f"control plane and console: {stage.control.url}, home {stage.home}")


def first_release(stage: Stage) -> None:
    """The gate, with every value shown; four eyes; a verified load."""
    releasing.first_release(stage)
    stage.note("champion_version", stage["first_version"])


def summer(stage: Stage) -> None:
    """May to mid-July as live traffic; monitors look at every day."""
    watching.monitors(stage)
    _replay(stage, LIVE_FROM, SUMMER_UNTIL)
    opened = watching.look(stage)
    for incident in opened:
        watching.tell(stage, incident)
    quality = [found for found in opened if found.monitor_name == "quality"]
    if not quality:
        raise ConflictError("No incident of quality was opened over the summer, so nothing retrains the model.")
    stage.note("quality_incident", quality[0].uid)
    stage.note("before_canary", rfc3339(CLOCK.now()))
    stage.fact(
        "monitoring",
        f"{len(opened)} incidents from what really shifted: {', '.join(sorted({str(i.monitor_name) for i in opened}))}",
        evidence=quality[0].sentence,
        command=f"everline incidents show {quality[0].uid}",
    )


def better_model(stage: Stage) -> None:
    """The incident retrains; champion and candidate on the same rows; a canary."""
    incident = stage.as_person("maya").incidents.get(stage["quality_incident"])
    version = retraining.retrain(stage, incident)
    retraining.compare(stage, version, until=SUMMER_UNTIL)
    stage.note("canary_release", retraining.canary(stage, version))
    _replay(stage, SUMMER_UNTIL, CANARY_UNTIL)
    watching.wait_shipped(stage)
    retraining.promote(stage, stage["canary_release"])
    stage.note("after_promotion", rfc3339(CLOCK.now()))


def fault(stage: Stage) -> None:
    """On, until somebody upstream sends kilometres for miles: the demo's one injected fault."""
    _replay(stage, CANARY_UNTIL, FAULT_FROM)
    for incident in watching.look(stage):
        watching.tell(stage, incident)
    stage.say(f"[bold]injected by the demo[/bold]: from {FAULT_FROM:%d %B} on, `distance` is sent in kilometres.")
    _replay(stage, FAULT_FROM, FAULT_UNTIL, alter=in_kilometres)
    opened = watching.look(stage)
    named = [found for found in opened if "distance" in found.features]
    for incident in opened:
        watching.tell(stage, incident)
    if not named:
        raise ConflictError("The injected fault opened no incident that names `distance`.")
    stage.fact(
        "monitoring",
        "the injected fault was found and named",
        evidence=named[0].sentence,
        command=f"everline incidents show {named[0].uid}",
    )


def back(stage: Stage) -> None:
    """Roll the promoted release back, on purpose."""
    retraining.roll_back(stage)
    stage.note("end", rfc3339(CLOCK.now()))


def prove(stage: Stage) -> None:
    """Replay, rebuild, ask the past, verify offline."""
    proof.replay(stage)
    proof.reproduce(stage)
    proof.ask_the_past(stage)
    proof.verify_offline(stage)


CHAPTERS: tuple[tuple[str, Callable[[Stage], None]], ...] = (
    ("Start the control plane", start),
    ("People with different powers", prepare.people),
    ("Data with an identity", prepare.data),
    ("A first model through typed, cached steps", prepare.first_model),
    ("A release that cannot happen without its evidence", first_release),
    ("May to July as live traffic, watched by the day", summer),
    ("An incident makes a better model: retrained, compared, canary, promoted", better_model),
    ("A fault from upstream, injected", fault),
    ("A deliberate roll-back", back),
    ("Proof", prove),
)


def tell(home: Path, *, serve_on: bool, fresh: bool, as_json: bool) -> int:
    """Tell the story, or take an ended one up again; return the exit code."""
    flights.data_folder()  # says what to install before anything is made
    require("skops", extra="demo")
    console = Console(stderr=as_json, highlight=False)
    if fresh:
        _clear(home)
    stage = Stage(home, console)
    if not (home / "everline.db").exists():
        stage.remember()  # from here on the home is known as the demo's own, which --fresh may remove
    ended = len(stage.memory.chapters) == len(CHAPTERS)
    if not ended and (stage.memory.chapters or (home / "everline.db").exists()):
        reached = stage.memory.chapters[-1] if stage.memory.chapters else "somebody else's data"
        raise ConflictError(
            f"{home} holds an unfinished demo or other data (last: {reached}).",
            hint="Look at it with `everline server`, begin anew with --fresh, or choose another --home.",
        )
    signal.signal(signal.SIGTERM, lambda *_: _raise_interrupt())
    try:
        if ended:
            _take_up(stage)
        else:
            _play(stage)
        _finish(stage, as_json=as_json)
        if serve_on and stage.control:
            console.print(f"\nConsole: [bold]{stage.control.url}[/bold]   (Ctrl-C ends both processes)", soft_wrap=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        console.print("\nStopping …")
    finally:
        stage.close()
    return 0


def _play(stage: Stage) -> None:
    for number, (title, chapter) in enumerate(CHAPTERS, start=1):
        stage.chapter(number, len(CHAPTERS), title)
        try:
            chapter(stage)
        except Exception as error:
            stage.remember()
            reason = error.message if isinstance(error, EverlineError) else f"{type(error).__name__}: {error}"
            hint = f"{getattr(error, 'hint', None) or ''} The home is left as it is for a look: {stage.home}"
            raise ChapterError(f"Chapter {number} ({title}) failed: {reason}", hint=hint.strip()) from error
        stage.memory.chapters.append(title)
        stage.remember()
    stage.memory.seconds = time.monotonic() - stage.started
    stage.remember()


def _take_up(stage: Stage) -> None:
    stage.console.print(f"The demo in {stage.home} has ended before; starting its two processes again.")
    stage.open()
    stage.open_data_plane()


def _finish(stage: Stage, *, as_json: bool) -> None:
    if as_json:
        value = {"seconds": stage.memory.seconds, "facts": stage.memory.facts, "notes": stage.memory.notes}
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
        return
    _print_summary(stage)


def _print_summary(stage: Stage) -> None:
    """One row per fact; commands stand on lines of their own and are never broken, so that they can be copied."""
    say = functools.partial(stage.console.print, highlight=False, soft_wrap=True)
    say(f"\n[bold]What happened, in {stage.memory.seconds:.0f} s[/bold]\n")
    width = max(len(fact.goal) for fact in stage.memory.facts)
    for fact in stage.memory.facts:
        say(f"[cyan]{fact.goal:{width}}[/cyan]  [bold]{escape(fact.what)}[/bold]")
        say(f"{'':{width}}  {escape(fact.evidence)}")
        say(f"{'':{width}}  [dim]$ {escape(fact.command)}[/dim]\n")
    say(f"Before these commands: export EVERLINE_HOME={stage.home}")


def _replay(stage: Stage, begin: Any, end: Any, **options: Any) -> None:
    airline = traffic(stage)
    try:
        began = time.monotonic()
        done = airline.replay(stage, begin, end, **options)
        rate = done.predictions / max(time.monotonic() - began, 1e-9)
    finally:
        airline.close()
    days = (end - begin) / timedelta(days=1)
    stage.say(
        f"{done.predictions:,} flights in {done.requests:,} requests over {days:.0f} days "
        f"({rate:,.0f} a second), {done.outcomes:,} outcomes came back."
    )


def _clear(home: Path) -> None:
    """Remove what an earlier demo left: only in a home that a demo began."""
    if (home / "everline.db").exists() and not (home / "demo" / "memory.json").exists():
        raise ConflictError(
            f"{home} was not made by the demo, so --fresh does not remove it.",
            hint="Choose another --home for the demo.",
        )
    for name in ("demo", "blobs", "cache", "dataplane", "keys", "logs"):
        shutil.rmtree(home / name, ignore_errors=True)
    for file in home.glob("everline.db*"):
        file.unlink()


def _raise_interrupt() -> None:
    raise KeyboardInterrupt
