"""Plots of a report: text and Mermaid, which GitHub and GitLab show inside a comment, and SVG files for the artifacts.

Everything is written by hand and without times, so that equal reports give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from everline.sdk.reporting import HIGHER_IS_BETTER, MetricRow, Report

_HALF = 24
"""Columns on either side of no difference."""
_SIDE, _MARGIN = 320, 48
_COLOURS = {"candidate": "#0b6bcb", "champion": "#c4651a", "observed": "#555555"}


def intervals_text(rows: Sequence[MetricRow]) -> str:
    """Each metric's difference with its interval, to the left what is better; every line has its own scale.

    Example:
        >>> row = MetricRow(metric="auc", candidate=0.8, champion=0.7, difference=0.1, low=0.05, high=0.15)
        >>> print(intervals_text([row]).splitlines()[1])
        auc ├───────●───────┤       │                          +0.1000
    """
    known = [row for row in rows if row.low is not None and row.high is not None and row.difference is not None]
    if not known:
        return ""
    width = max(len(row.metric) for row in known)
    lines = [f"{'':{width}} {'better ◄':>{_HALF}}│► worse"]
    for row in known:
        low, middle, high = _oriented(row)
        most = max(abs(low), abs(high)) or 1.0
        cells = [" "] * (2 * _HALF + 1)
        cells[_HALF] = "│"
        first, last, at = (_HALF + round(value / most * _HALF) for value in (low, high, middle))
        for place in range(first, last + 1):
            cells[place] = "─" if place != _HALF else "┼"
        cells[first], cells[last], cells[at] = "├", "┤", "●"
        lines.append(f"{row.metric:{width}} {''.join(cells)}  {row.difference:+.4f}".rstrip())
    return "\n".join(lines)


def calibration_mermaid(report: Report) -> str:
    """What was announced and what happened, by tenth of the rows, as a Mermaid chart."""
    if len(report.deciles) < 2:
        return ""
    tenths = ", ".join(f'"{number}"' for number in range(1, len(report.deciles) + 1))
    lines = [
        "xychart-beta",
        '    title "Announced and observed share, by tenth of the candidate\'s probabilities"',
        f"    x-axis [{tenths}]",
        '    y-axis "share" 0 --> 1',
        f"    bar [{_numbers(one.observed for one in report.deciles)}]",
        f"    line [{_numbers(one.candidate for one in report.deciles)}]",
    ]
    if report.champion is not None:
        lines.append(f"    line [{_numbers(one.champion or 0.0 for one in report.deciles)}]")
    return "\n".join(lines)


def svg_files(report: Report) -> dict[str, str]:
    """The plots as SVG, by the ending of their file names."""
    announced = {name: [(tenth.candidate, tenth.observed) for tenth in report.deciles] for name in ("candidate",)}
    if report.champion is not None:
        by_champion = sorted((tenth.champion or 0.0, tenth.observed) for tenth in report.deciles)
        announced["champion"] = by_champion
    return {
        "calibration": _square("Calibration", "announced probability", "observed share", announced),
        "roc": _square("ROC", "false positive rate", "true positive rate", report.curves),
    }


def _oriented(row: MetricRow) -> tuple[float, float, float]:
    low, middle, high = row.low or 0.0, row.difference or 0.0, row.high or 0.0
    return (-high, -middle, -low) if row.metric in HIGHER_IS_BETTER else (low, middle, high)


def _numbers(values: object) -> str:
    return ", ".join(f"{value:.4f}" for value in values)  # type: ignore[attr-defined]


def _square(title: str, across: str, up: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """A chart of lines in the unit square, with the diagonal."""
    full = _SIDE + 2 * _MARGIN

    def place(point: tuple[float, float]) -> str:
        return f"{_MARGIN + point[0] * _SIDE:.1f},{_MARGIN + (1 - point[1]) * _SIDE:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full} {full}" width="{full}" height="{full}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{full}" height="{full}" fill="#ffffff"/>',
        f'<rect x="{_MARGIN}" y="{_MARGIN}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#999999"/>',
        f'<polyline points="{place((0, 0))} {place((1, 1))}" stroke="#bbbbbb" stroke-dasharray="4 4" fill="none"/>',
        f'<text x="{full / 2}" y="{_MARGIN - 24}" text-anchor="middle" font-size="15">{escape(title)}</text>',
        f'<text x="{full / 2}" y="{full - 14}" text-anchor="middle">{escape(across)}</text>',
        f'<text x="14" y="{full / 2}" text-anchor="middle" transform="rotate(-90 14 {full / 2})">{escape(up)}</text>',
    ]
    for tick in (0.0, 0.5, 1.0):
        x, y = _MARGIN + tick * _SIDE, _MARGIN + (1 - tick) * _SIDE
        parts.append(f'<text x="{x}" y="{full - _MARGIN + 16}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{_MARGIN - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS.get(name, "#000000")
        drawn = " ".join(place(point) for point in points)
        parts.append(f'<polyline points="{drawn}" stroke="{colour}" stroke-width="2" fill="none"/>')
        y = _MARGIN + _SIDE - 30 + 18 * number
        parts.append(f'<text x="{_MARGIN + _SIDE - 8}" y="{y}" text-anchor="end" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
