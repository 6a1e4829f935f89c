"""One table for each workload: a row for each tool, what Everline set itself to reach below it."""

from __future__ import annotations

import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from benchmarks.pipelines.peer import Peer, short
from benchmarks.pipelines.processes import ToolError

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
CELL_S = float(os.environ.get("BENCH_CELL_S", "4"))
"""A tool that has used up so many seconds takes no part in further rounds."""
OURS = "Everline"
Figures = dict[str, list[float]]


def in_turn(
    peers: Sequence[Peer], work: Callable[[Peer], tuple[float, float]], *, rounds: int = ROUNDS
) -> tuple[Figures, dict[str, str]]:
    """Each tool once a round, so that drift of the machine meets all; what went wrong ends the rounds of that tool.

    Args:
        work: does the workload once; gives the figure, and the seconds that it took of everybody's time.
    """
    figures: Figures = defaultdict(list)
    spent: dict[str, float] = defaultdict(float)
    wrong: dict[str, str] = {}
    for _ in range(rounds):
        for peer in peers:
            if peer.name in wrong or spent[peer.name] > CELL_S:
                continue
            try:
                figure, seconds = work(peer)
            except (ToolError, OSError, ValueError, StopIteration) as error:
                wrong[peer.name] = short(error)
                print(f"  {peer.name}: {wrong[peer.name]}", file=sys.stderr, flush=True)
                continue
            print(f"  {peer.name}: {number(figure)}, {seconds:.0f} s", file=sys.stderr, flush=True)
            figures[peer.name].append(figure)
            spent[peer.name] += seconds
    return figures, wrong


def head(*columns: str) -> None:
    print(f"| tool | {' | '.join(columns)} | remarks |")
    print(f"| --- |{' --- |' * (len(columns) + 1)}", flush=True)


def rows(
    kinds: Sequence[type[Peer]],
    columns: Sequence[tuple[Mapping[str, Sequence[float]], str]],
    remarks: Mapping[str, str],
) -> None:
    """A line for each tool.

    Args:
        columns: figures by tool, and their unit; the first is also given as a multiple of Everline's.
        remarks: by tool; reasons where it has no figure.
    """
    ours = columns[0][0].get(OURS)
    for kind in kinds:
        cells = [spread(figures.get(kind.name), unit) for figures, unit in columns]
        theirs = columns[0][0].get(kind.name)
        ratio = ""
        if ours and theirs and kind.name != OURS:
            ratio = f"{number(statistics.median(theirs) / statistics.median(ours))} x"
        print(f"| {kind.name} | {cells[0]} | {' | '.join([ratio, *cells[1:]])} | {remarks.get(kind.name, '')} |")
    print(flush=True)


def verdict(what: str, ours: float | None, most: float | None) -> None:
    """A line that says whether a target is reached; nothing where there is no figure to hold against it."""
    if ours is None:
        print(f"- {what}: Everline has no figure.")
    elif most is not None:
        print(f"- {what}: {'reached' if ours <= most else 'missed'} ({number(ours)} against {number(most)})")


def median(figures: Mapping[str, Sequence[float]], name: str = OURS) -> float | None:
    """A tool's median, if it has one."""
    return statistics.median(figures[name]) if figures.get(name) else None


def share(figures: Mapping[str, Sequence[float]], name: str, part: float) -> float | None:
    """A part of a peer's median."""
    theirs = median(figures, name)
    return None if theirs is None else theirs * part


def spread(figures: Sequence[float] | None, unit: str) -> str:
    """Median and range."""
    if not figures:
        return "–"
    extent = f" ({number(min(figures))}–{number(max(figures))})" if len(figures) > 1 else ""
    return f"{number(statistics.median(figures))} {unit}{extent}"


def number(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
