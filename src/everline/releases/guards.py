"""What a canary must keep to: each guard looks at this step's traffic of both revisions and says one of three things.

`holds` lets the rollout go on, `broken` takes it back, `unclear` waits. A guard is broken only when an interval of
99 % lies beyond its limit, because it is looked at again and again; it holds when the estimate is within the limit.

| guard | measures | interval |
| --- | --- | --- |
| error rate | failed requests (5xx), canary minus champion, and the canary's alone | Newcombe (1998); Wilson (1927) |
| p99 latency | of logged answers, in ms, against the champion's and alone | order statistics |
| drift | the canary's predictions against the champion's, tests of a minimum effect | false alarms at 1 % |
| quality | log loss, else squared error, canary minus champion, where outcomes are known | Welch (1947) |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from everline.loader import late
from everline.models.comparison import FloatArray, log_losses
from everline.releases.intervals import Z_99, newcombe, quantile_low, welch, wilson
from everline.releases.types import Guards, Reading

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from everline.monitoring import report
else:
    np = late("numpy")
    pa = late("pyarrow")
    pc = late("pyarrow.compute")
    report = late("everline.monitoring.report")

HOLDS, BROKEN, UNCLEAR = "holds", "broken", "unclear"
OUTCOMES_MIN = 30
DRIFT_ROWS_MIN = 100
_PROBABILITY = "out.probability"

Counts = tuple[int, int]
"""Requests, and errors among them."""


def judge(
    guards: Guards, *, canary: Counts, champion: Counts, rows: Mapping[str, pa.Table], labelled: Mapping[str, pa.Table]
) -> list[Reading]:
    """Let every guard that is on speak.

    Args:
        canary, champion: requests of this step.
        rows: what `canary` and `champion` answered in this step, as `predictions.newest` gives it.
        labelled: the same since the canary began, for outcomes come late.
    """
    few = canary[0] < guards.requests_min
    readings = [_enough(guards, canary[0])]
    readings += [one for one in _errors(guards, canary, champion) if one]
    readings += _latency(guards, rows["canary"], rows["champion"], few=few)
    if guards.drift:
        readings.append(_drift(rows["canary"], rows["champion"]))
    if guards.quality:
        readings.append(_quality(labelled["canary"], labelled["champion"]))
    return readings


def of_revision(table: pa.Table, revision: str) -> pa.Table:
    """The rows that one revision answered."""
    return table.filter(pc.equal(table["revision"], revision))


def _enough(guards: Guards, requests: int) -> Reading:
    return Reading(
        guard="requests",
        verdict=HOLDS if requests >= guards.requests_min else UNCLEAR,
        value=float(requests),
        limit=None,
        n=requests,
        text=f"{requests} of at least {guards.requests_min} requests in this step",
    )


def _errors(guards: Guards, canary: Counts, champion: Counts) -> Sequence[Reading | None]:
    (n, wrong), (other_n, other_wrong) = canary, champion
    if n == 0:
        return [_silent("error rate", guards.error_rate_over, 0, "the canary has answered nothing in this step")]
    alone = wilson(wrong, n, z=Z_99)
    found = newcombe(wrong, n, other_wrong, other_n, z=Z_99) if other_n else alone
    told = f"{wrong} of {n} requests failed"
    over = _reading(
        "error rate", found.value, found.low, guards.error_rate_over, n,
        f"{told}, champion {other_wrong} of {other_n}: {found.value:+.2%}, at most {guards.error_rate_over:+.2%}",
    )  # fmt: skip
    if guards.error_rate_max is None:
        return [over]
    text = f"{told}: {alone.value:.2%}, at most {guards.error_rate_max:.2%}"
    return [over, _reading("error rate alone", alone.value, alone.low, guards.error_rate_max, n, text)]


def _latency(guards: Guards, canary: pa.Table, champion: pa.Table, *, few: bool) -> list[Reading]:
    if guards.p99_ratio_max is None and guards.p99_ms_max is None:
        return []
    mine, other = _ms(canary), _ms(champion)
    if few or mine.size < guards.requests_min:
        return [_silent("p99 latency", guards.p99_ms_max, mine.size, f"{mine.size} answers are logged so far")]
    p99, low = float(np.quantile(mine, 0.99)), quantile_low(mine, 0.99)
    readings = []
    if guards.p99_ms_max is not None:
        text = f"{p99:.3g} ms, at most {guards.p99_ms_max:g} ms"
        readings.append(_reading("p99 latency", p99, low, guards.p99_ms_max, mine.size, text))
    if guards.p99_ratio_max is not None and other.size:
        base = float(np.quantile(other, 0.99))
        limit = guards.p99_ratio_max * base
        text = f"{p99:.3g} ms, champion {base:.3g} ms: at most {guards.p99_ratio_max:g} times as much"
        readings.append(_reading("p99 latency against the champion", p99, low, limit, mine.size, text))
    return readings


def _drift(canary: pa.Table, champion: pa.Table) -> Reading:
    # Rows of one request belong together; the tests ask for independent ones.
    mine, other = (table.filter(pc.equal(table["row"], 0)) for table in (canary, champion))
    n = mine.num_rows
    if min(n, other.num_rows) < DRIFT_ROWS_MIN:
        return _silent("prediction drift", None, n, f"{n} and {other.num_rows} answers, of at least {DRIFT_ROWS_MIN}")
    names = [name for name in other.column_names if name.startswith("out.")]
    mine = mine.select([name for name in names if name in mine.column_names])
    found = report.drift_report(other.select(names), mine)
    worst = found.features[0]
    name = worst.name.removeprefix("out.")
    text = f"{name}: {worst.test}, effect {worst.effect:+.3g}, p = {worst.p_value:.2g}"
    return Reading(
        guard="prediction drift", verdict=BROKEN if found.drifted else HOLDS, value=worst.effect, limit=None, n=n,
        text=f"drifted from the champion: {text}" if found.drifted else f"none from the champion ({text})",
    )  # fmt: skip


def _quality(canary: pa.Table, champion: pa.Table) -> Reading:
    (what, mine), (_, other) = losses(canary), losses(champion)
    if min(mine.size, other.size) < OUTCOMES_MIN:
        text = f"{min(mine.size, other.size)} outcomes on the smaller side, of at least {OUTCOMES_MIN}"
        # Outcomes may come weeks later, or never: a rollout does not wait for them.
        return Reading(
            guard="quality", verdict=HOLDS, value=None, limit=0.0, n=mine.size, text=f"not known yet: {text}"
        )
    found = welch(mine, other, level=0.99)
    return Reading(
        guard="quality", verdict=BROKEN if found.low > 0 else HOLDS, value=found.value, limit=0.0, n=mine.size,
        text=f"{what} {found.value:+.4g} against the champion, 99 % {found.low:+.4g} to {found.high:+.4g}",
    )  # fmt: skip


def losses(rows: pa.Table) -> tuple[str, FloatArray]:
    """The loss of every row with an outcome, and its name: log loss of a probability, else the squared error."""
    if rows.num_rows == 0:
        return "loss", np.empty(0)
    name = "log loss" if _PROBABILITY in rows.column_names else "squared error"
    return name, loss_of_rows(rows).drop_null().to_numpy()


def loss_of_rows(rows: pa.Table) -> pa.ChunkedArray:
    """The loss of each row, float64, null where it is not known."""
    name = _PROBABILITY if _PROBABILITY in rows.column_names else _first_number(rows)
    if name is None:
        return pa.chunked_array([pa.nulls(rows.num_rows, pa.float64())])
    y, p = (rows[column].cast(pa.float64()).to_numpy(zero_copy_only=False) for column in ("outcome", name))
    known = np.isfinite(y) & np.isfinite(p)
    if name == _PROBABILITY:
        known &= np.isin(y, (0.0, 1.0)) & (p >= 0.0) & (p <= 1.0)
        found = log_losses(np.where(known, y, 0.0), np.where(known, p, 0.5))
    else:
        found = (np.where(known, y, 0.0) - np.where(known, p, 0.0)) ** 2
    return pa.chunked_array([pa.array(found, mask=~known)])


def _first_number(rows: pa.Table) -> str | None:
    for name in rows.column_names:
        kind = rows.schema.field(name).type
        if name.startswith("out.") and (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            return str(name)
    return None


def _ms(rows: pa.Table) -> FloatArray:
    found: FloatArray = rows["latency_us"].to_numpy() / 1000
    return found


def _reading(guard: str, value: float, low: float, limit: float, n: int, text: str) -> Reading:
    verdict = BROKEN if low > limit else HOLDS if value <= limit else UNCLEAR
    return Reading(guard=guard, verdict=verdict, value=value, limit=limit, n=n, text=text)


def _silent(guard: str, limit: float | None, n: int, text: str) -> Reading:
    return Reading(guard=guard, verdict=UNCLEAR, value=None, limit=limit, n=n, text=text)
