"""The same step once for each store, and one that joins the results; it needs no data.

everline run stores:forecast --param stores=12 --why
"""

import numpy as np
import pyarrow as pa

import everline as el

WEEKS = 104


@el.step
def history(store: int) -> el.Table:
    """Weekly sales as they might have been: a level, a season, chance. Chance is the step's own: it is seeded."""
    week = np.arange(WEEKS)
    sales = 1000 + 50 * store + 200 * np.sin(2 * np.pi * week / 52) + np.random.normal(0, 30, WEEKS)
    return pa.table({"week": week, "sales": sales})


@el.step
def next_week(sales: el.Table) -> float:
    """What was sold in the same week of last year, moved by the growth since."""
    sold = sales["sales"].to_numpy()
    return float(sold[-52] * sold[-4:].mean() / sold[-56:-52].mean())


@el.step
def order(forecasts: list[float]) -> dict[str, float]:
    return {"stores": len(forecasts), "total": round(sum(forecasts), 1)}


@el.pipeline
def forecast(stores: int = 4) -> dict[str, float]:
    return order([next_week(history(store)) for store in range(stores)])
