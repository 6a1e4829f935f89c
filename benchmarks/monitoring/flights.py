"""The year of real flights, day by day, with a planted unit fault: what alarms, and when.

Faults in independent rows and in single days, and false alarms, are in `faults`.
"""

from __future__ import annotations

import time
from datetime import date

import pyarrow as pa

from everline.demo import flight_delay, flights
from everline.monitoring.drift.columns import Column, blocks_of, column_of
from everline.monitoring.windows.blocks import judge_window, prepare_blocks
from everline.monitoring.windows.sequence import Evidence, accumulate, e_value, threshold

WINDOWS_BETWEEN = 91
KILOMETRES = 1.609344


def main() -> None:
    """Print when each feature alarms."""
    year = flight_delay.joined(flights.all_flights(), flights.weather())
    whole_year(blocks_of(year.select([*flight_delay.FEATURES, "day"]), by="day", side="year"))


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
