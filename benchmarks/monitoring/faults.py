"""Faults planted in the real flights by construction: are they found, and named first? What cries wolf?

Each trial draws its rows and the feature that it breaks at random, from a seed that nothing was tuned on
(`BENCH_FAULT_SEED` gives another, `BENCH_FAULT_REPORTS` more trials). Other tools see the same first tables.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.monitoring import peers
from everline.demo import flight_delay, flights
from everline.monitoring.drift.columns import Column, blocks_of, column_of
from everline.monitoring.drift.combination import benjamini_hochberg
from everline.monitoring.drift.joint import joint_drift
from everline.monitoring.report import drift_report
from everline.monitoring.windows.blocks import judge_window, prepare_blocks
from everline.monitoring.windows.sequence import Evidence, accumulate, e_value, threshold

SEED = int(os.environ.get("BENCH_FAULT_SEED", "8128"))
REFERENCE_ROWS, ROWS = 20_000, 2_000
REPORTS = int(os.environ.get("BENCH_FAULT_REPORTS", "40"))
PEER_REPORTS = int(os.environ.get("BENCH_FAULT_PEER_REPORTS", "5"))
SPLITS = int(os.environ.get("BENCH_FAULT_SPLITS", "10"))
WINDOWS_BETWEEN = 91
KILOMETRES = 1.609344
NUMBERS = ("distance", "scheduled_minutes", "sched_minute_of_day", "temp", "dewp", "humid", "wind_speed", "pressure")
CATEGORIES = ("carrier", "origin")

Values = dict[str, Any]
Plant = Callable[[Values, np.random.Generator], set[str]]


class Trial(NamedTuple):
    """A reference, a current table, and the features that are broken in it."""

    reference: pa.Table
    current: pa.Table
    broken: set[str]


def main() -> None:
    year = flight_delay.joined(flights.all_flights(), flights.weather())
    winter = year.filter(pc.less(year["day"], pa.scalar("2013-04-01").cast(pa.date32())))
    independent(winter.select(flight_delay.FEATURES))
    jointly(winter.select(flight_delay.FEATURES))
    days = blocks_of(winter.select([*flight_delay.FEATURES, "day"]), by="day", side="winter")
    ordinary_days(days)
    faults_by_day(days)


def faults() -> Iterator[tuple[str, Plant]]:
    """What is planted, and how; each returns the features that it broke."""

    def number(change: Callable[[np.ndarray, np.random.Generator], Any]) -> Plant:
        def plant(values: Values, rng: np.random.Generator) -> set[str]:
            name = str(rng.choice(NUMBERS))
            values[name] = change(values[name].astype(np.float64), rng)
            return {name}

        return plant

    def some(share: float, value: float) -> Plant:
        return number(lambda x, rng: np.where(rng.random(len(x)) < share, value, x))

    def category(values: Values, rng: np.random.Generator) -> set[str]:
        name = str(rng.choice(CATEGORIES))
        values[name] = np.where(rng.random(ROWS) < 0.02, "ZZ", values[name].astype(str))
        return {name}

    def swapped(values: Values, rng: np.random.Generator) -> set[str]:
        first, second = map(str, rng.choice(NUMBERS, 2, replace=False))
        values[first], values[second] = values[second], values[first]
        return {first, second}

    yield "shift of 0.1 sd", number(lambda x, _: x + 0.1 * np.nanstd(x))
    yield "scale x1.5", number(lambda x, _: np.nanmean(x) + 1.5 * (x - np.nanmean(x)))
    yield "unit: x1.609", number(lambda x, _: x * KILOMETRES)
    yield "5 % nulls", some(0.05, np.nan)
    yield "20 % nulls", some(0.20, np.nan)
    yield "2 % new category", category
    yield "frozen at a random row's value", number(lambda x, rng: np.full(len(x), rng.choice(x[~np.isnan(x)])))
    yield "two columns swapped", swapped
    yield "1 % sentinels of -999", some(0.01, -999.0)
    yield "number to text", number(lambda x, _: x.astype(str))


def trial(table: pa.Table, plant: Plant | None, rng: np.random.Generator) -> Trial:
    """A reference and a current sample without a row in common, the current one broken."""
    rows = rng.permutation(table.num_rows)[: REFERENCE_ROWS + ROWS]
    old, new = table.take(pa.array(rows[:REFERENCE_ROWS])), table.take(pa.array(rows[REFERENCE_ROWS:]))
    if plant is None:
        return Trial(old, new, set())
    values = {name: new[name].to_numpy(zero_copy_only=False) for name in new.column_names}
    broken = plant(values, rng)
    return Trial(old, pa.table({name: pa.array(one, from_pandas=True) for name, one in values.items()}), broken)


def independent(table: pa.Table) -> None:
    """Random rows of January to March against other random rows of them."""
    rng = np.random.default_rng(SEED)
    began, alarms, quiet = time.process_time(), 0, []
    for number in range(5 * REPORTS):
        one = trial(table, None, rng)
        alarms += drift_report(one.reference, one.current).drifted
        quiet += [one] if number < PEER_REPORTS else []
    cost = (time.process_time() - began) / (5 * REPORTS)
    others = peers.present()
    print(
        f"{REFERENCE_ROWS:,} against {ROWS:,} independent rows of {table.num_columns} features, seed {SEED}; "
        f"{cost * 1000:.0f} ms a report, sampling included.\n"
    )
    print("| planted in one feature, drawn at random | found | named first | target |", end="")
    print("".join(f" {peer}: found, broken ones named |" for peer in others))
    print("| --- | --- | --- | --- |" + " --- |" * len(others))
    line = f"| nothing (false alarms) | {alarms} of {5 * REPORTS} | – | ≤ 1 % |"
    print(line + "".join(f" {_peer(peer, quiet)} |" for peer in others))
    for name, plant in faults():
        trials = [trial(table, plant, rng) for _ in range(REPORTS)]
        reports = [drift_report(one.reference, one.current) for one in trials]
        found = sum(report.drifted for report in reports)
        named = sum(
            report.drifted and report.features[0].name in one.broken
            for report, one in zip(reports, trials, strict=True)
        )
        line = f"| {name} | {found / REPORTS:.0%} | {named / REPORTS:.0%} | ≥ 95 % |"
        print(line + "".join(f" {_peer(peer, trials[:PEER_REPORTS])} |" for peer in others), flush=True)


def jointly(table: pa.Table) -> None:
    """One feature's values dealt anew among the rows: each feature is as it was, only not beside the same others."""
    rng = np.random.default_rng(SEED)

    def dealt(values: Values, rng: np.random.Generator) -> set[str]:
        name = str(rng.choice(NUMBERS))
        values[name] = rng.permutation(values[name])
        return {name}

    began, alarms = time.process_time(), 0
    for _ in range(2 * REPORTS):
        one = trial(table, None, rng)
        alarms += joint_drift(one.reference, one.current).drifted
    cost = (time.process_time() - began) / (2 * REPORTS)
    found = named = single = 0
    for _ in range(REPORTS // 2):
        one = trial(table, dealt, rng)
        said = joint_drift(one.reference, one.current)
        found += said.drifted
        named += said.drifted and bool(one.broken & {*(said.pair or ())})
        single += drift_report(one.reference, one.current).drifted
    print(f"\nJoint drift, {cost * 1000:.0f} ms each: nothing planted, {alarms} of {2 * REPORTS} alarm (≤ 1 %).")
    print(
        f"One feature dealt anew: {found} of {REPORTS // 2} found, {named} with it in the pair named; "
        f"tests of single features find {single}."
    )


def _peer(peer: str, trials: list[Trial]) -> str:
    with tempfile.TemporaryDirectory(prefix="everline-bench-") as folder:
        pairs = []
        for number, one in enumerate(trials):
            pair = Path(folder, f"{number}-old.parquet"), Path(folder, f"{number}-new.parquet")
            pq.write_table(one.reference, pair[0])
            pq.write_table(one.current, pair[1])
            pairs.append(pair)
        verdicts = peers.judged(peer, pairs)
    if verdicts is None:
        return "cannot run here"
    errors = sum(one.error is not None for one in verdicts)
    named = sum(one.drifted and bool(trial.broken & {*one.named}) for one, trial in zip(verdicts, trials, strict=True))
    told = f"{sum(one.drifted for one in verdicts)}, {named} of {len(verdicts)}"
    return told + (f" ({errors} raised)" if errors else "")


def ordinary_days(winter: list[dict[str, Column]]) -> None:
    """Fifteen days at a time are held out of January to March and judged against the rest."""
    rng = np.random.default_rng(SEED)
    alarms = reports = 0
    for _ in range(SPLITS):
        order = rng.permutation(len(winter))
        reference = prepare_blocks([winter[n] for n in sorted(order[15:])])
        for n in order[:15]:
            judged = judge_window(reference, winter[n])
            alarms += any(benjamini_hochberg([one.loudest.p_value for one in judged.values()]))
            reports += 1
    share = f"{alarms / reports:.1%}; target ≤ 3 %"
    print(f"\nWhole days held out, nothing planted: {alarms} of {reports} reports alarm ({share}).\n")


def faults_by_day(winter: list[dict[str, Column]]) -> None:
    """Days until the evidence alarms, for faults planted in the last 30 days of March against the 60 before."""
    reference = prepare_blocks(winter[:60])
    level = threshold(WINDOWS_BETWEEN, streams=len(reference.features))
    rng = np.random.default_rng(SEED)

    def nulled(share: float) -> Callable[[np.ndarray], Any]:
        return lambda values: np.where(rng.random(len(values)) < share, np.nan, values)

    planted: list[tuple[str, str, Callable[[np.ndarray], Any]]] = [
        ("kilometres", "distance", lambda values: values * KILOMETRES),
        ("2 % nulls", "distance", nulled(0.02)),
        ("1 % nulls", "distance", nulled(0.01)),
        ("+5 %", "distance", lambda values: values * 1.05),
        ("+15 minutes", "scheduled_minutes", lambda values: values + 15),
        ("frozen", "sched_hour", lambda values: np.full(len(values), 12.0)),
        ("1 % sentinels of -1", "wind_speed", lambda values: np.where(rng.random(len(values)) < 0.01, -1.0, values)),
        ("+0.1 sd", "temp", lambda values: values + 0.1 * values.std()),
    ]
    print("| planted in whole days | in | alarms | other features that alarm in that time |\n| --- | --- | --- | --- |")
    for name, feature, plant in planted:
        states = dict.fromkeys(reference.features, Evidence())
        first = "not in 30 days"
        for number, window in enumerate(winter[60:], start=1):
            faulty = window | {feature: column_of(pa.array(plant(window[feature].numbers), from_pandas=True))}
            for stream, one in judge_window(reference, faulty).items():
                states[stream] = accumulate(states[stream], e_value(one.loudest.p_value))
            if states[feature].value >= level:
                first = f"after {number} day(s)"
                break
        others = [stream for stream, state in states.items() if state.value >= level and stream != feature]
        print(f"| {name} | {feature} | {first} | {', '.join(others) or 'none'} |")


if __name__ == "__main__":
    main()
