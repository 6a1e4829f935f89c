"""Results come back as they were, equal values have equal digests, and nothing is ever pickled."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

import everline as el
from everline.errors import IntegrityError, InvalidInputError
from everline.pipelines.serialisers import decode, encode, verify
from everline.pipelines.types import FileRef, ValueRef
from tests_support.results import Results


def there_and_back(value: Any, annotation: Any, folder: Path, wanted: Any = Any) -> tuple[Any, str]:
    results = Results()
    ref = encode(value, annotation, results)
    verify(ref, results)
    return decode(ref, results, annotation, wanted, folder=folder / "out"), ref.digest


TABLE = pa.table({"x": [1, None, 3], "s": ["a", None, "c"], "f": [0.5, float("nan"), None], "b": [True, None, False]})


@pytest.mark.parametrize("wanted", [el.Table, pd.DataFrame, pl.DataFrame])
def test_a_table_comes_back_in_the_library_that_is_asked_for(tmp_path: Path, wanted: Any) -> None:
    value, _ = there_and_back(TABLE, el.Table, tmp_path, wanted)
    assert isinstance(value, pa.Table if wanted is el.Table else wanted)
    assert len(value) == 3


def test_frames_of_all_libraries_with_equal_rows_have_equal_digests(tmp_path: Path) -> None:
    plain = pa.table({"x": [1, 2, 3], "f": [0.5, 1.5, 2.5]})
    digests = {
        there_and_back(value, Any, tmp_path)[1] for value in (plain, plain.to_pandas(), pl.from_arrow(plain))
    }  # fmt: skip
    assert len(digests) == 1


def test_chunks_slices_and_residue_under_nulls_do_not_count(tmp_path: Path) -> None:
    chunked = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])
    sliced = pa.concat_tables([TABLE, TABLE]).slice(2, 4).slice(1, 3)
    residue = pa.Array.from_buffers(
        pa.int64(), 3, [TABLE["x"].chunk(0).buffers()[0], pa.py_buffer(np.array([1, 777, 3]).tobytes())]
    )
    dirty = TABLE.set_column(0, "x", residue)
    digests = {there_and_back(table, el.Table, tmp_path)[1] for table in (TABLE, chunked, sliced, dirty)}
    assert len(digests) == 1


def test_a_changed_value_a_new_order_or_another_type_counts(tmp_path: Path) -> None:
    table = pa.table({"x": [1, 2]})
    others = [pa.table({"x": [2, 1]}), pa.table({"y": [1, 2]}), pa.table({"x": pa.array([1, 2], pa.int32())})]
    digests = {there_and_back(other, el.Table, tmp_path)[1] for other in (table, *others)}
    assert len(digests) == 4


def test_an_array_comes_back_and_one_of_objects_is_refused(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3)
    value, digest = there_and_back(array, np.ndarray, tmp_path)
    assert (value == array).all()
    assert there_and_back(np.asfortranarray(array), np.ndarray, tmp_path)[1] == digest
    with pytest.raises(InvalidInputError, match="could only be stored as a pickle"):
        there_and_back(np.array([object()]), np.ndarray, tmp_path)


@dataclasses.dataclass
class Point:
    x: int
    y: float


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (3, int),
        (0.25, float),
        ("é", str),
        (None, None),
        ([1, 2], list[int]),
        ({"a": {"b": True}}, dict),
        (Point(1, 2.5), Point),
    ],
)
def test_plain_values_come_back_as_they_were(tmp_path: Path, value: Any, annotation: Any) -> None:
    assert there_and_back(value, annotation, tmp_path)[0] == value


@pytest.mark.parametrize(
    ("value", "annotation", "sentence"),
    [
        (3, el.Table, "announced el.Table and returned a int"),
        ("x", int, "announced int and returned a str"),
        ("x", float, "announced float and returned something else: Expected `float`, got `str`"),
        ([1, "x"], list[int], "returned something else"),
        (object(), Any, "no safe form"),
        (float("nan"), float, "no canonical JSON form"),
        (LogisticRegression(), el.Model, "announced el.Model"),
    ],
)
def test_what_was_not_announced_or_has_no_safe_form_is_refused(
    tmp_path: Path, value: Any, annotation: Any, sentence: str
) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        there_and_back(value, annotation, tmp_path)


def test_a_model_comes_back_and_answers_the_same(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(200, 2))
    fitted = LogisticRegression().fit(x, x[:, 0] > 0)
    model = el.Model(estimator=fitted, features=("a", "b"), target="y")
    back, digest = there_and_back(model, el.Model, tmp_path)
    assert (back.estimator.predict_proba(x) == fitted.predict_proba(x)).all()
    assert (back.features, back.target) == (("a", "b"), "y")
    assert there_and_back(model, el.Model, tmp_path)[1] == digest


def test_files_and_folders_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text("hello")
    back, _ = there_and_back(folder, Path, tmp_path)
    assert (back / "deep" / "a.txt").read_text() == "hello"
    back, _ = there_and_back(folder / "deep" / "a.txt", Path, tmp_path)
    assert back.read_text() == "hello"


def test_a_result_that_names_a_file_outside_its_folder_is_refused(tmp_path: Path) -> None:
    files = (FileRef(path="../evil", digest="", bytes=1, text="x"),)
    ref = ValueRef(kind="files", digest="", files=files, meta={"single": False})
    with pytest.raises(IntegrityError, match="outside its folder"):
        decode(ref, Results(), Path, Path, folder=tmp_path)


def test_an_altered_blob_or_record_is_found(tmp_path: Path) -> None:
    results = Results()
    ref = encode(list(range(2_000)), list[int], results)
    forged = ValueRef(kind=ref.kind, digest=ref.digest, files=ref.files, meta={"other": 1})
    with pytest.raises(IntegrityError, match="record of the result"):
        verify(forged, results)
    results[ref.files[0].digest] = b"[1,3]"
    with pytest.raises(IntegrityError, match="was altered"):
        verify(ref, results)


def test_a_short_value_lies_in_the_record_and_its_text_is_held_against_its_digest() -> None:
    results = Results()
    ref = encode([1, 2], list[int], results)
    assert ref.files[0].text == "[1,2]" and not results
    forged = msgspec.structs.replace(ref, files=(msgspec.structs.replace(ref.files[0], text="[1,3]"),))
    with pytest.raises(IntegrityError, match="was altered"):
        verify(forged, results)


def test_a_large_table_is_written_in_batches_whatever_its_chunks(tmp_path: Path) -> None:
    rows = 150_000
    table = pa.table({"n": pa.array(range(rows)), "s": pa.array([str(i % 97) for i in range(rows)]),
                      "b": pa.array([i % 3 == 0 for i in range(rows)])})  # fmt: skip
    pieces = pa.concat_tables([table.slice(0, 70_001), table.slice(70_001, 3), table.slice(70_004)])
    (one, first), (two, second) = (there_and_back(t, el.Table, tmp_path) for t in (table, pieces))
    assert first == second
    assert one.equals(table) and two.equals(table)
    assert one["n"].num_chunks == 3
