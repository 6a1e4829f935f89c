"""`el.profile`: a table as counts; odd columns have defined answers; profiles merge and compare without rows."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import everline as el
from everline.errors import InvalidInputError
from everline.monitoring import table_profiles
from everline.monitoring.profiles import CategoryProfile, NumberProfile
from everline.monitoring.report import NOT_ENOUGH


def table(rows: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "number": pa.array(rng.normal(5, 2, rows), mask=rng.random(rows) < 0.1),
            "count": rng.integers(0, 50, rows),
            "text": rng.choice(["a", "b", "c"], rows),
            "flag": rng.random(rows) < 0.3,
            "when": pa.array(rng.integers(0, 10**9, rows), pa.timestamp("s")),
        }
    )


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_profiles, "_PIECE_ROWS", 77)


@pytest.mark.usefixtures("small_pieces")
def test_pieces_replicas_and_frames_give_the_profile_of_the_whole() -> None:
    whole = table(1_000, 1)
    reference = el.profile(whole)
    first, second = (el.profile(part, reference=reference) for part in (whole.slice(0, 300), whole.slice(300)))
    assert str(first.merge(second)) == str(second.merge(first)) == str(reference)
    assert first.merge(second).to_dict() == reference.to_dict()
    chunked = pa.concat_tables([whole.slice(0, 10), whole.slice(10, 0), whole.slice(10)])
    assert el.profile(chunked, reference=reference).to_dict() == reference.to_dict()
    assert el.profile(whole.to_pandas(), reference=reference).to_dict() == reference.to_dict()
    assert el.profile(pl.from_arrow(whole), reference=reference).to_dict() == reference.to_dict()
    assert reference.columns["number"].missing == whole["number"].null_count


def test_a_kept_profile_gives_the_report_of_the_tables() -> None:
    old, new = table(3_000, 1), table(900, 2)
    new = new.set_column(0, "number", pa.array(new["number"].to_pandas() + 3))
    kept = el.profile(old)
    expected = el.drift_report(old, new)
    assert expected.features[0].name == "number"
    assert el.drift_report(kept, new) == expected
    assert el.drift_report(kept, el.profile(new, reference=kept)) == expected
    with pytest.raises(InvalidInputError, match="'number' was not profiled against this reference"):
        el.drift_report(kept, el.profile(new))
    with pytest.raises(InvalidInputError, match="two references"):
        kept.merge(el.profile(new))
    with pytest.raises(InvalidInputError, match="no rows to cut"):
        el.drift_report(kept, new, blocks="text")


ODD: dict[str, tuple[Any, str]] = {
    "null": (pa.nulls(60), "none"),
    "nan": ([float("nan")] * 60, "none"),
    "constant": ([7.0] * 60, "number"),
    "infinite": ([float("inf"), -float("inf")] * 30, "number"),
    "beyond float32": ([1e308, -1e308, 1.0] * 20, "number"),
    "decimal": ([Decimal("1.5"), None] * 30, "number"),
    "half": (np.arange(60, dtype=np.float16), "number"),
    "big": (np.arange(60, dtype=np.uint64) + np.uint64(2**63), "number"),
    "huge": ([10**400] * 60, "other"),
    "mixed": (pd.Series([1, 2, "x"] * 20, dtype=object), "number"),
    "lists": ([[1], [2]] * 30, "other"),
    "bytes": ([b"a"] * 60, "other"),
    "dictionary": (pa.array(["a", "b", None] * 20).dictionary_encode(), "category"),
    "numbers by code": (pa.array([1.5, 2.5, None] * 20).dictionary_encode(), "number"),
    "large": (pa.array(["a"] * 60, pa.large_string()), "category"),
    "view": (pa.array(["a", None] * 30, pa.string_view()), "category"),
    "seldom": (pa.array([None] * 59 + [True]), "boolean"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_columns_have_a_kind_and_every_row_is_counted(name: str) -> None:
    values, kind = ODD[name]
    profile = el.profile({"x": values})
    column = profile.columns["x"]
    assert (column.kind, column.rows) == (kind, 60)
    if isinstance(column.counts, NumberProfile | CategoryProfile):
        assert column.counts.rows == 60
        assert (column.counts.missing, column.counts.strays) == (column.missing, column.strays)
    json.dumps(profile.to_dict(), allow_nan=False)
    assert str(profile)
    assert el.profile({"x": values}, reference=profile).columns["x"].kind == kind
    assert not el.drift_report(profile, {"x": values}).drifted
    assert el.drift_report(profile, {"x": pa.array(["z"] * 60)}).features[0].name == "x"
    assert profile.merge(el.profile({"x": values}, reference=profile)).rows == 120


def test_a_hundred_thousand_categories_stay_bounded_and_alarm_only_when_they_are_new() -> None:
    def identifiers(start: int, rows: int) -> pa.Table:
        return pa.table({"id": pa.array(np.arange(start, start + rows)).cast(pa.string())})

    profile = el.profile(identifiers(0, 100_000))
    counts = profile.columns["id"].counts
    assert isinstance(counts, CategoryProfile)
    assert (counts.present, len(counts.axis.known), len(counts.unseen)) == (100_000, 4_096, 4_096)
    assert not el.drift_report(profile, identifiers(2_000_000, 20_000)).drifted  # always new: nothing has changed


def test_merging_kinds_lets_most_rows_decide_and_loses_none() -> None:
    reference = el.profile({"x": [1.0, 2.0, 3.0]})
    texts = el.profile({"x": ["a", None]}, reference=reference)
    nothing = el.profile({"x": pa.nulls(4)}, reference=reference)
    gone = el.profile({"y": [1.0]}, reference=reference)
    merged = reference.merge(texts).merge(nothing).merge(gone).columns["x"]
    assert (merged.kind, merged.rows, merged.missing, merged.strays, merged.present) == ("number", 10, 6, 1, 3)
    other = gone.merge(nothing).merge(texts).merge(reference).columns["x"]
    assert (other.kind, other.rows, other.missing, other.strays) == (merged.kind, 10, 6, 1)


@pytest.mark.parametrize("rows", [0, 1])
def test_empty_and_one_row_tables_have_a_profile_and_say_too_little(rows: int) -> None:
    reference = el.profile(table(500, 1))
    profile = el.profile(table(rows, 2), reference=reference)
    assert profile.rows == rows
    assert {one.test for one in el.drift_report(reference, profile).features} == {NOT_ENOUGH}
    assert {one.test for one in el.drift_report(profile, reference).features if rows == 0} <= {NOT_ENOUGH}
    assert el.profile(pa.table({})).to_dict() == {"rows": 0, "columns": {}}
    with pytest.raises(InvalidInputError, match="not a table"):
        el.profile([1, 2])
