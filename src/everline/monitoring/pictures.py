"""Pictures of profiles: each column's distribution, then and now, as one SVG or an HTML page that stands alone.

Everything is drawn from counts and without times, so equal profiles give equal bytes.
"""

from collections.abc import Sequence
from html import escape

import numpy as np

from everline.monitoring.profiles import CategoryProfile, FloatArray, IntArray, NumberProfile
from everline.monitoring.report import DriftReport, FeatureDrift
from everline.monitoring.table_profiles import ColumnProfile, TableProfile

BINS = 24
LATTICE_MAX = 40
VALUES = 12
_WIDTH, _HEIGHT, _PLOT, _COLUMNS = 300, 150, 90, 3
_STYLE = (
    ".then{fill:#8a8f98;fill-opacity:.55}.now{fill:none;stroke:#0b6bcb;stroke-width:1.5}.drifted{fill:#c4381a}"
    "text{font:12px system-ui,sans-serif;fill:currentColor}.small{font-size:10px;opacity:.75}"
)
_PAGE = (
    ":root{color-scheme:light dark}"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #8884}"
    "svg{width:100%;height:auto}"
)


def picture_svg(
    current: TableProfile, *, reference: TableProfile | None = None, report: DriftReport | None = None
) -> str:
    """Draw each column's distribution; with a reference, both over each other, the most drifted column first.

    Args:
        current: what is drawn, as a line.
        reference: what it is compared with, as an area; on the same axes.
        report: sets the order and marks what drifted.
    """
    verdicts = {one.name: one for one in report.features} if report is not None else {}
    names = [*verdicts, *(name for name in current.columns if name not in verdicts)]
    rows = -(-len(names) // _COLUMNS) or 1
    size = f'width="{_COLUMNS * _WIDTH}" height="{rows * _HEIGHT}" viewBox="0 0 {_COLUMNS * _WIDTH} {rows * _HEIGHT}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="Distributions">']
    parts.append(f"<style>{_STYLE}</style>")
    for position, name in enumerate(names):
        x, y = position % _COLUMNS * _WIDTH, position // _COLUMNS * _HEIGHT
        before = reference.columns.get(name) if reference is not None else None
        parts.append(f'<g transform="translate({x},{y})">')
        parts += _panel(name, before, current.columns.get(name), verdicts.get(name))
        parts.append("</g>")
    return "".join([*parts, "</svg>\n"])


def page_html(
    current: TableProfile, *, reference: TableProfile | None = None, report: DriftReport | None = None
) -> str:
    """Return the picture with the table of verdicts as one HTML file that loads nothing."""
    title = "Profile" if report is None else ("Drifted" if report.drifted else "No drift")
    counted = f"{current.rows:,} rows" + (f" against {reference.rows:,}" if reference is not None else "")
    body = [f"<h1>{title}</h1><p>{counted}</p>", picture_svg(current, reference=reference, report=report)]
    if report is not None:
        body.append("<table><tr><th>column<th>verdict<th>test<th>p<th>effect</tr>")
        for one in report.features:
            verdict = "drifted" if one.drifted else "–"
            body.append(
                f"<tr><td>{escape(one.name)}<td>{verdict}<td>{escape(one.test)}<td>{one.p_value:.2g}<td>{one.effect:+.3g}</tr>"
            )
        body.append(f"</table><p>At most {report.q:.1%} of reports alarm when nothing drifts.</p>")
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_PAGE}</style>'
    return head + "".join(body) + "</html>\n"


def _panel(
    name: str, before: ColumnProfile | None, now: ColumnProfile | None, verdict: FeatureDrift | None
) -> Sequence[str]:
    label = name if len(name) <= 34 else name[:33] + "…"
    marked = ' class="drifted"' if verdict is not None and verdict.drifted else ""
    told = f"{verdict.test}, p = {verdict.p_value:.2g}" if verdict is not None else (now.kind if now else "")
    parts = [f'<text x="8" y="16"{marked}>{escape(label)}</text>']
    parts.append(f'<text x="8" y="30" class="small">{escape(told)}{escape(_missing(now))}</text>')
    drawn = _shares(before, now)
    if drawn is None:
        return [*parts, '<text x="8" y="80" class="small">nothing to draw</text>']
    then, here, low, high = drawn
    most = max(float(then.max(initial=0.0)), float(here.max(initial=0.0))) or 1.0
    step = (_WIDTH - 24) / max(1, len(here))
    base = 36 + _PLOT
    for position, share in enumerate(then):
        tall = share / most * _PLOT
        place = f'x="{8 + position * step:.1f}" y="{base - tall:.1f}" width="{step:.1f}" height="{tall:.1f}"'
        parts.append(f'<rect class="then" {place}/>')
    points = " ".join(
        f"{8 + (position + side) * step:.1f},{base - share / most * _PLOT:.1f}"
        for position, share in enumerate(here)
        for side in (0, 1)
    )
    parts.append(f'<polyline class="now" points="{points}"/>')
    parts.append(f'<text x="8" y="{base + 12}" class="small">{escape(low)}</text>')
    return [*parts, f'<text x="{_WIDTH - 16}" y="{base + 12}" text-anchor="end" class="small">{escape(high)}</text>']


def _missing(column: ColumnProfile | None) -> str:
    if column is None:
        return " – the column is gone"
    return f", {column.missing / column.rows:.1%} missing" if column.missing and column.rows else ""


def _shares(before: ColumnProfile | None, now: ColumnProfile | None) -> tuple[FloatArray, FloatArray, str, str] | None:
    """Shares of rows per bin or value, then and now, and what stands at either end of the axis."""
    sides = [None if one is None else one.counts for one in (before, now)]
    numbers = [one for one in sides if isinstance(one, NumberProfile) and one.present]
    if numbers:
        cells = np.unique(np.concatenate([one.cells for one in numbers]))
        if len(cells) <= LATTICE_MAX and np.isfinite(numbers[0].axis.values(cells)).all():
            # A bar for each value: bins that are no multiple of a lattice's step would show combs that are not there.
            first, last = numbers[0].axis.values(cells[[0, -1]])
            then, here = (_celled(one, cells) if isinstance(one, NumberProfile) else np.zeros(0) for one in sides)
            return then, here, f"{first:.4g}", f"{last:.4g}"
        ends = np.concatenate([one.quantile(np.asarray([0.005, 0.995])) for one in numbers])
        ends = ends[np.isfinite(ends)]
        if not len(ends):
            return None
        low, high = float(ends.min()), float(ends.max())
        if not high > low:
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, BINS + 1)
        then, here = (_binned(one, edges) if isinstance(one, NumberProfile) else np.zeros(0) for one in sides)
        return then, here, f"{low:.4g}", f"{high:.4g}"
    categories = [one for one in sides if isinstance(one, CategoryProfile) and one.present]
    if not categories:
        return None
    known = categories[0].axis.known[:VALUES]
    shares = [_valued(one, len(known)) if isinstance(one, CategoryProfile) else np.zeros(0) for one in sides]
    return shares[0], shares[1], known[0] if known else "", "others"


def _binned(profile: NumberProfile, edges: FloatArray) -> FloatArray:
    values = np.clip(profile.axis.values(profile.cells), edges[0], edges[-1])
    shares: FloatArray = np.histogram(values, edges, weights=profile.counts / max(1, profile.present))[0]
    return shares


def _celled(profile: NumberProfile, cells: IntArray) -> FloatArray:
    shares = np.zeros(len(cells))
    shares[np.searchsorted(cells, profile.cells)] = profile.counts / max(1, profile.present)
    return shares


def _valued(profile: CategoryProfile, shown: int) -> FloatArray:
    others = profile.present - int(profile.counts[:shown].sum())
    shares: FloatArray = np.append(profile.counts[:shown], others) / max(1, profile.present)
    return shares
