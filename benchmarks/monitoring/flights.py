"""False alarms, power and delay of the drift tests on the real flights; prints the tables of docs/monitoring.md.

    python benchmarks/monitoring/flights.py

Faults are planted by construction, in one feature each; the seeds are fixed and nothing is tuned on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from everline.demo import flight_delay, flights
from everline.monitoring.drift.columns import Column, blocks_of, column_of
from everline.monitoring.drift.combination import benjamini_hochberg
from everline.monitoring.report import drift_report
from everline.monitoring.windows.blocks import judge_window, prepare_blocks
from everline.monitoring.windows.sequence import Evidence, accumulate, e_value, threshold

SEED = 20_130_101
REFERENCE_ROWS, ROWS = 20_000, 2_000
FALSE_ALARM_REPORTS, REPORTS_PER_FAULT, SPLITS = 200, 40, 20
WINDOWS_BETWEEN = 91
KILOMETRES = 1.609344

Fault = Callable[[dict[str, Any], np.random.Generator], None]


def main() -> None:
    """Print all tables."""
    year = flight_delay.joined(flights.all_flights(), flights.weather())
    winter = year.filter(pc.less(year["day"], date(2013, 4, 1)))
    independent(winter.select(flight_delay.FEATURES))
    by_day = year.select([*flight_delay.FEATURES, "day"])
    days = blocks_of(by_day, by="day", side="year")
    ordinary_days(days[:90])
    faults_by_day(days[:90])
    whole_year(days)


def independent(winter: pa.Table) -> None:
    """Random rows of January to March against other random rows of them."""
    rng = np.random.default_rng(SEED)
    began, alarms = time.perf_counter(), 0
    for _ in range(FALSE_ALARM_REPORTS):
        old, new = sampled(winter, rng)
        alarms += drift_report(old, new).drifted
    cost = (time.perf_counter() - began) / FALSE_ALARM_REPORTS
    print(
        f"independent rows, nothing planted: {alarms} of {FALSE_ALARM_REPORTS} reports alarm; {cost * 1000:.0f} ms each"
    )
    for name, feature, plant in faults():
        found = named = 0
        for _ in range(REPORTS_PER_FAULT):
            old, new = sampled(winter, rng)
            values = {column: new[column].to_numpy(zero_copy_only=False) for column in new.column_names}
            plant(values, rng)
            report = drift_report(old, pa.table({key: pa.array(one, from_pandas=True) for key, one in values.items()}))
            found += report.drifted
            named += report.drifted and report.features[0].name in feature.split()
        print(f"  {name:32s} found {found / REPORTS_PER_FAULT:6.1%}   named first {named / REPORTS_PER_FAULT:6.1%}")


def sampled(table: pa.Table, rng: np.random.Generator) -> tuple[pa.Table, pa.Table]:
    """A reference and a current sample without a row in common."""
    rows = rng.permutation(table.num_rows)[: REFERENCE_ROWS + ROWS]
    return table.take(pa.array(rows[:REFERENCE_ROWS])), table.take(pa.array(rows[REFERENCE_ROWS:]))


def faults() -> Iterator[tuple[str, str, Fault]]:
    """What is planted, where, and how."""

    def shifted(values: dict[str, Any], _rng: np.random.Generator) -> None:
        values["dewp"] = values["dewp"] + 0.1 * np.nanstd(values["dewp"])

    def scaled(values: dict[str, Any], _rng: np.random.Generator) -> None:
        values["humid"] = np.nanmean(values["humid"]) + 1.5 * (values["humid"] - np.nanmean(values["humid"]))

    def kilometres(values: dict[str, Any], _rng: np.random.Generator) -> None:
        values["distance"] = values["distance"] * KILOMETRES

    def nulls(values: dict[str, Any], rng: np.random.Generator) -> None:
        values["temp"] = np.where(rng.random(ROWS) < 0.05, np.nan, values["temp"])

    def category(values: dict[str, Any], rng: np.random.Generator) -> None:
        values["carrier"] = np.where(rng.random(ROWS) < 0.02, "ZZ", values["carrier"])

    def frozen(values: dict[str, Any], _rng: np.random.Generator) -> None:
        values["visib"] = np.full(ROWS, 10.0)

    def swapped(values: dict[str, Any], _rng: np.random.Generator) -> None:
        values["temp"], values["dewp"] = values["dewp"], values["temp"]

    def sentinels(values: dict[str, Any], rng: np.random.Generator) -> None:
        values["wind_speed"] = np.where(rng.random(ROWS) < 0.01, -1.0, values["wind_speed"])

    def text(values: dict[str, Any], _rng: np.random.Generator) -> None:
        values["sched_hour"] = np.array([str(value) for value in values["sched_hour"]])

    yield "shift of 0.1 sd (dewp)", "dewp", shifted
    yield "scale x1.5 (humid)", "humid", scaled
    yield "kilometres (distance)", "distance", kilometres
    yield "5 % nulls (temp)", "temp", nulls
    yield "2 % new category (carrier)", "carrier", category
    yield "frozen at its usual value (visib)", "visib", frozen
    yield "swapped (temp, dewp)", "temp dewp", swapped
    yield "1 % sentinels of -1 (wind_speed)", "wind_speed", sentinels
    yield "number to text (sched_hour)", "sched_hour", text


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
    print(f"whole days held out: {alarms} of {reports} reports alarm ({alarms / reports:.1%})")


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
    ]
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
        print(f"  {name:12s} in {feature:18s} alarms {first}; others: {', '.join(others) or 'none'}")


def whole_year(days: list[dict[str, Column]]) -> None:
    """April to December against January to March, distance in kilometres from 2013-09-10 on (day 253)."""
    reference = prepare_blocks(days[:90])
    level = threshold(WINDOWS_BETWEEN, streams=len(reference.features))
    states = dict.fromkeys(reference.features, Evidence())
    first: dict[str, str] = {}
    began = time.perf_counter()
    for number, window in enumerate(days[90:], start=90):
        label = date.fromordinal(date(2013, 1, 1).toordinal() + number)
        if label >= date(2013, 9, 10):
            distance = column_of(pa.array(window["distance"].numbers * KILOMETRES))
            window = window | {"distance": distance}
        judged = judge_window(reference, window)
        order = sorted(judged, key=lambda name: judged[name].loudest.p_value)
        if label == date(2013, 9, 10):
            print(f"2013-09-10, most drifted first: {', '.join(order[:3])}; p = {judged[order[0]].loudest.p_value:.0e}")
        for stream in order:
            states[stream] = accumulate(states[stream], e_value(judged[stream].loudest.p_value))
            if states[stream].value >= level and stream not in first:
                one = judged[stream].loudest
                first[stream] = f"{label} ({one.test}, evidence over {states[stream].windows} days)"
    cost = (time.perf_counter() - began) / (len(days) - 90)
    print(f"the year, {cost * 1000:.1f} ms per day and {len(states)} features; first alarm of each feature:")
    for stream, when in sorted(first.items(), key=lambda pair: pair[1]):
        print(f"  {stream:20s} {when}")
    print(f"  never: {', '.join(sorted(set(states) - set(first))) or 'none'}")


if __name__ == "__main__":
    main()
