"""How late the flights of a month were: two steps over a dataset's version.

everline data add flights june.csv --version 2013-06
everline run delays:delays --param month=2013-06 --why
"""

import pyarrow.compute as pc

import everline as el

MOST = 180  # minutes; what is later than that is another matter


@el.step
def clean(flights: el.Table) -> el.Table:
    return flights.filter(pc.less(flights["arr_delay"], MOST))


@el.step(retries=2)
def mean(flights: el.Table) -> float:
    return pc.mean(flights["arr_delay"]).as_py()


@el.pipeline
def delays(month: str = "2013-06") -> float:
    return mean(clean(el.dataset("flights", version=month)))
