"""Our digest beside MLflow's own dataset digest, on changes that MLflow's does not see.

MLflow's hashes the first 10,000 rows of columns that are all numbers or all texts. Where a case fails after MLflow was
upgraded because its digest sees the change now, that is good news: strike the case here, and the sentence in the docs.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from mlflow.data import from_pandas

from everline.datasets.digest import digest

ROWS = 15_500


def _flights() -> dict[str, list[object]]:
    return {
        "label": [n % 2 for n in range(ROWS)],
        "late": [n % 3 == 0 for n in range(ROWS)],
        "day": list(pd.date_range("2013-01-01", periods=ROWS, freq="h")),
        "carrier": ["UA" if n % 2 else "AA" for n in range(ROWS)],
        "tail": [None if n == 3 else f"N{n % 97}" for n in range(ROWS)],
        "fare": [Decimal(n % 50) / 4 for n in range(ROWS)],
        "stops": [[n % 3, n % 5] for n in range(ROWS)],
    }


def _frame(column: str, values: list[object]) -> pd.DataFrame:
    return pd.DataFrame({column: pd.Categorical(values) if column == "carrier" else values})


def _flipped_label_in_row_15_000(values: list[int]) -> None:
    values[15_000] = 1 - values[15_000]


def _every_label_after_row_10_000(values: list[int]) -> None:
    values[10_000:] = [1 - value for value in values[10_000:]]


def _two_rows_swapped(values: list[int]) -> None:
    values[11_000:11_002] = values[11_001:10_999:-1]


def _all_booleans(values: list[bool]) -> None:
    values[:] = [not value for value in values]


def _all_dates(values: list[pd.Timestamp]) -> None:
    values[:] = [value + pd.Timedelta(days=400) for value in values]


def _one_category(values: list[str]) -> None:
    values[12_344] = "UA"


def _texts_beside_a_missing_one(values: list[str | None]) -> None:
    values[:3] = ["another"] * 3


def _decimals(values: list[Decimal]) -> None:
    values[:] = [value * 2 for value in values]


def _lists(values: list[list[int]]) -> None:
    values[:] = [value[::-1] for value in values]


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("label", _flipped_label_in_row_15_000),
        ("label", _every_label_after_row_10_000),
        ("label", _two_rows_swapped),
        ("late", _all_booleans),
        ("day", _all_dates),
        ("carrier", _one_category),
        ("tail", _texts_beside_a_missing_one),
        ("fare", _decimals),
        ("stops", _lists),
    ],
)
def test_a_change_that_mlflow_does_not_see_changes_our_digest(column: str, change: Callable[[Any], None]) -> None:
    values = _flights()[column]
    before = _frame(column, values)
    change(values)
    after = _frame(column, values)
    assert from_pandas(before).digest == from_pandas(after).digest
    assert digest(before) != digest(after)
