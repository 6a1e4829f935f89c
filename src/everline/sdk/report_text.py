"""A report as Markdown that reads the same in a comment of GitHub and of GitLab."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from everline.governance.types import Outcome, Verdict
from everline.sdk.report_plots import calibration_mermaid, intervals_text
from everline.sdk.reporting import HIGHER_IS_BETTER, MetricRow, Report

MARKER = "<!-- everline report -->"
"""The first line, by which a CI script finds the comment that it wrote before."""
_SLICES_TOLD = 50
_VALUE_CHARACTERS = 60
_MARKS = {Outcome.PASS: "✅", Outcome.FAIL: "❌", Outcome.UNKNOWN: "❓"}
_VERDICTS = {"better": "✅ better", "worse": "❌ worse"}


def markdown(report: Report, *, files: Sequence[str] = ()) -> str:
    """Write the report.

    Args:
        files: names of plots that lie beside it.
    """
    parts = [MARKER, _title(report), _what(report)]
    if report.missed:
        parts += ["**What is missed**", "\n".join(f"- {_plain(one)}" for one in report.missed)]
    parts += ["### Metrics", _metrics(report)]
    text = intervals_text(report.metrics)
    if text:
        parts += [f"```text\n{text}\n```", f"{report.level:.0%} intervals of the difference; {report.method}."]
    if report.slices:
        parts.append(_folded(f"{len(report.slices)} slices", _slices(report)))
    chart = calibration_mermaid(report)
    if chart:
        lines = "the lines what the candidate and the champion" if report.champion else "the line what the candidate"
        parts += ["### Calibration", f"```mermaid\n{chart}\n```", f"The bars are what happened, {lines} announced."]
    if files:
        parts.append("Plots beside this report: " + ", ".join(f"`{name}`" for name in files) + ".")
    if not report.live:
        parts += ["### Policy preview", _policies(report.verdicts)]
    return "\n\n".join(parts) + "\n"


def _title(report: Report) -> str:
    what = f"`{report.candidate}`"
    if report.live and report.passed:
        return f"## ✅ {what} is what answers `{report.endpoint}` already"
    if report.passed:
        people = [one.approvals.text for one in report.verdicts if one.approvals is not None]
        then = f" once approved ({'; '.join(people)})" if report.gate.value == "awaiting_approval" else ""
        return f"## ✅ {what} may be released to `{report.endpoint}`{then}"
    return f"## ❌ {what} may not be released to `{report.endpoint}`"


def _what(report: Report) -> str:
    against = f"against the champion `{report.champion}`" if report.champion else "with no champion to compare with"
    made = f" made by run `{report.run}`" if report.run else ""
    if report.commit:
        made += f" from commit `{report.commit[:12]}`" + (" with uncommitted changes" if report.dirty else "")
    return f"Candidate `{report.candidate}`{made}, {against}, on {report.rows:,} rows: {report.data}."


def _metrics(report: Report) -> str:
    if report.champion is None:
        return _table(("metric", "candidate"), ((_metric(row), f"{row.candidate:.4f}") for row in report.metrics))
    return _table(
        ("metric", "champion", "candidate", "difference", "interval", ""),
        (
            (
                _metric(row),
                f"{row.champion:.4f}",
                f"{row.candidate:.4f}",
                f"{row.difference:+.4f}",
                f"{row.low:+.4f} to {row.high:+.4f}" if row.low is not None else "–",
                _VERDICTS.get(row.verdict or "", row.verdict or ""),
            )
            for row in report.metrics
        ),
    )


def _metric(row: MetricRow) -> str:
    return f"{row.metric} {'↑' if row.metric in HIGHER_IS_BETTER else '↓'}"


def _slices(report: Report) -> str:
    worst = sorted(report.slices, key=lambda one: (one.verdict != "worse", one.by, one.value))[:_SLICES_TOLD]
    rows = (
        (
            f"{one.by} = {one.value}",
            f"{one.n:,}",
            f"{one.difference:+.4f}",
            f"{one.low:+.4f} to {one.high:+.4f}",
            _VERDICTS.get(one.verdict, one.verdict),
        )
        for one in worst
    )
    return _table(("slice", "rows", "difference", "simultaneous interval", ""), rows)


def _policies(verdicts: Iterable[Verdict]) -> str:
    rows: list[tuple[str, ...]] = []
    for verdict in verdicts:
        name = f"{verdict.policy} {verdict.version}"
        for rule in verdict.rules:
            for clause in rule.clauses:
                seen = ", ".join(
                    f"{one.path} = {'missing' if one.missing else _short(one.value)}" for one in clause.values
                )
                rows.append((_MARKS[clause.outcome], name, rule.name, f"`{' '.join(clause.text.split())}`", seen))
        if verdict.approvals is not None:
            mark = "⏳" if verdict.approvals.outcome is Outcome.UNKNOWN else _MARKS[verdict.approvals.outcome]
            rows.append((mark, name, "approvals", verdict.approvals.text, ""))
    return _table(("", "policy", "rule", "clause", "sees"), rows) if rows else "No policy is in force."


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _cell(text: str) -> str:
    # A bar would end the cell, in code too.
    return text.replace("|", "\\|").replace("\n", " ")


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;")


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return _plain(text if len(text) <= _VALUE_CHARACTERS else text[: _VALUE_CHARACTERS - 1] + "…")
