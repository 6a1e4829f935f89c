"""Past runs of a pipeline as small pictures: a row of squares, and bars of step times on each other's ends."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import median

import msgspec

from everline.pipelines.history import PastRun, StepSpan
from everline.pipelines.types import RunState
from everline.runs.types import RunStatus
from everline.server.console.view import folding, render

SQUARES = 20
SQUARE, SQUARE_GAP = 14, 4
SERIES_MAX = 8
"""Steps with a colour of their own; the others share one."""
REST = "other steps"
_WIDTH, _PLOT_HEIGHT, _LEFT, _TOP, _BOTTOM = 960.0, 220.0, 62.0, 10.0, 24.0
_BAR_MAX = 44.0
_RECENT = 3
_SLOWER = 1.25
_COMPARED_S_MIN = 0.05


class Square(msgspec.Struct, frozen=True, kw_only=True):
    """One run, the oldest first."""

    x: int
    state: str
    href: str
    title: str


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One step in the bar of one run; `tone` is the number of its colour, None for the rest."""

    x: float
    y: float
    width: float
    height: float
    tone: int | None
    title: str
    href: str


class Stacked(msgspec.Struct, frozen=True, kw_only=True):
    """Bars of runs, the oldest first; ticks are heights with their words; the legend is name and tone."""

    width: float
    height: float
    left: float
    bottom: float
    parts: list[Part]
    labels: list[tuple[float, str]]
    ticks: list[tuple[float, str]]
    legend: list[tuple[str, int | None]]


class StepPast(msgspec.Struct, frozen=True, kw_only=True):
    """One step over the runs.

    Attributes:
        latest: seconds in the newest run where it was computed, all its calls together.
        recent, before: medians over the newest three such runs and those before them; None without any.
        ratio: of the two.
        slower: more than a quarter, and more than what clocks make of nothing.
        cached_share: of its calls that gave a result.
    """

    name: str
    runs: int
    latest: float | None
    recent: float | None
    before: float | None
    ratio: float | None
    slower: bool
    cached_share: float | None
    failed: int


def state_of(run: PastRun) -> str:
    """How a run stands, in the words of `folding.STATES`."""
    if run.state is RunState.WAITING and not run.status.is_terminal:
        return "waiting"
    return {
        RunStatus.FINISHED: "succeeded", RunStatus.FAILED: "failed", RunStatus.KILLED: "cancelled",
        RunStatus.RUNNING: "running", RunStatus.SCHEDULED: "waiting",
    }[run.status]  # fmt: skip


def squares(runs: Sequence[PastRun], href: Callable[[str], str]) -> list[Square]:
    """The newest 20 runs, given the newest first, as squares with the oldest first."""
    return [
        Square(
            x=index * (SQUARE + SQUARE_GAP), state=state_of(run), href=href(run.run),
            title=f"{run.name}: {folding.words(state_of(run))}, {run.started_at:%Y-%m-%d %H:%M}"
            + (f", {render.duration(run.seconds)}" if run.seconds is not None else ""),
        )
        for index, run in enumerate(runs[:SQUARES][::-1])
    ]  # fmt: skip


def success_rate(runs: Sequence[PastRun]) -> float | None:
    """The share of the ended runs that finished; cancelled ones do not count."""
    ended = [run.status for run in runs if run.status in (RunStatus.FINISHED, RunStatus.FAILED)]
    return ended.count(RunStatus.FINISHED) / len(ended) if ended else None


def median_seconds(runs: Sequence[PastRun]) -> float | None:
    """The median time of finished runs."""
    took = [run.seconds for run in runs if run.status is RunStatus.FINISHED and run.seconds is not None]
    return median(took) if took else None


def stacked(runs: Sequence[PastRun], spans: Sequence[StepSpan], href: Callable[[str], str]) -> Stacked | None:
    """One bar per run, given the newest first: the seconds of its steps on each other, all calls of one together."""
    took = _seconds(spans)
    total: dict[str, float] = defaultdict(float)
    for (_, name), seconds in took.items():
        total[name] += seconds
    if not any(total.values()):
        return None
    largest = sorted(total, key=lambda name: (-total[name], name))
    tones = {name: tone for tone, name in enumerate(largest[:SERIES_MAX])}
    oldest_first = runs[::-1]
    sums = {run.run: sum(took.get((run.run, name), 0.0) for name in total) for run in oldest_first}
    step = _tick(max(sums.values(), default=1.0) or 1.0)
    most = step * max(1, math.ceil(max(sums.values(), default=1.0) / step))
    pitch = (_WIDTH - _LEFT - 8) / max(1, len(oldest_first))
    width = min(_BAR_MAX, pitch * 0.72)
    parts, labels = [], []
    for index, run in enumerate(oldest_first):
        x = _LEFT + index * pitch + (pitch - width) / 2
        y = _TOP + _PLOT_HEIGHT
        for name, seconds, tone in _layers(run.run, took, tones, largest):
            height = _PLOT_HEIGHT * seconds / most
            y -= height
            title = f"{run.name}, {run.started_at:%Y-%m-%d %H:%M}: {name} {render.duration(seconds)}"
            parts.append(
                Part(
                    x=round(x, 2), y=round(y, 2), width=round(width, 2), height=round(max(height, 0.5), 2), tone=tone,
                    title=title, href=href(run.run),
                )
            )  # fmt: skip
        if pitch >= 48 or index % math.ceil(48 / pitch) == 0:
            labels.append((round(x + width / 2, 2), f"{run.started_at:%m-%d %H:%M}"[: 11 if pitch > 80 else 5]))
    ticks = [
        (round(_TOP + _PLOT_HEIGHT * (1 - level * step / most), 2), render.duration(level * step) if level else "0")
        for level in range(round(most / step) + 1)
    ]
    legend: list[tuple[str, int | None]] = [*tones.items()]
    if len(largest) > SERIES_MAX:
        legend.append((REST, None))
    return Stacked(
        width=_WIDTH, height=_TOP + _PLOT_HEIGHT + _BOTTOM, left=_LEFT, bottom=_TOP + _PLOT_HEIGHT, parts=parts,
        labels=labels, ticks=ticks, legend=legend,
    )  # fmt: skip


def steps(runs: Sequence[PastRun], spans: Sequence[StepSpan]) -> list[StepPast]:
    """Each step over the runs, given the newest first; those that take longest come first."""
    order = [run.run for run in runs]
    took = _seconds(spans)
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for span in spans:
        counts[folding.family(span.name)][span.status.value] += 1
    found = []
    for name, ended in counts.items():
        seconds = [took[run, name] for run in order if (run, name) in took]
        recent, before = seconds[:_RECENT], seconds[_RECENT:]
        now, then = (median(part) if part else None for part in (recent, before))
        ratio = now / then if now is not None and then else None
        gave = ended["succeeded"] + ended["cached"]
        found.append(
            StepPast(
                name=name, runs=len({span.run for span in spans if folding.family(span.name) == name}),
                latest=seconds[0] if seconds else None, recent=now, before=then, ratio=ratio,
                slower=ratio is not None and ratio > _SLOWER and (now or 0) - (then or 0) > _COMPARED_S_MIN,
                cached_share=ended["cached"] / gave if gave else None, failed=ended["failed"],
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (-(one.recent or 0.0), one.name))


def _seconds(spans: Sequence[StepSpan]) -> dict[tuple[str, str], float]:
    """By run and step, the seconds of all calls that were computed."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    for span in spans:
        if span.status.value in ("succeeded", "failed"):
            found[span.run, folding.family(span.name)] += span.seconds
    return dict(found)


def _layers(
    run: str, took: dict[tuple[str, str], float], tones: dict[str, int], largest: Sequence[str]
) -> list[tuple[str, float, int | None]]:
    layers: list[tuple[str, float, int | None]] = [
        (name, took[run, name], tone) for name, tone in tones.items() if took.get((run, name))
    ]
    rest = sum(took.get((run, name), 0.0) for name in largest[SERIES_MAX:])
    return [*layers, (REST, rest, None)] if rest else layers


def _tick(most: float) -> float:
    """A round distance, four or five of which reach the top."""
    power = 10.0 ** math.floor(math.log10(most / 4))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power * 5 >= most)
