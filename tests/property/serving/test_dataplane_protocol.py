"""Whatever arrives, the protocol answers with a call that fits the signature or a sentence; never anything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from everline.errors import EverlineError
from everline.models.signature import ColumnType, Field, OutputField, Signature, check_columns
from everline.serving.dataplane.forms import invocations, open_inference, records
from everline.serving.dataplane.forms.ask import Ask
from everline.serving.dataplane.http.messages import Request
from everline.serving.dataplane.log.packing import Packer
from everline.serving.dataplane.log.parquet_segments import prediction_table
from everline.serving.dataplane.log.raw_segments import PredictionRecord
from everline.serving.dataplane.plan import Plan, UnfitError, gather
from everline.serving.dataplane.routing import position

SIGNATURE = Signature(
    inputs=[
        Field(
            name=str(kind),
            type=kind,
            nullable=kind is not ColumnType.LONG,
            min=-1000.1 if kind in ("integer", "long", "float", "double") else None,
            max=1000.1 if kind in ("integer", "long", "float", "double") else None,
            categories=["", "a"] if kind is ColumnType.STRING else None,
        )
        for kind in ColumnType
    ],
    outputs=[OutputField(name="probability", type=ColumnType.DOUBLE)],
)
NAMES = [field.name for field in SIGNATURE.inputs]
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("2013-06-01T05:00:00Z")
JSON = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner))
TENSORS = st.builds(
    lambda name, shape, datatype, data: {"name": name, "shape": shape, "datatype": datatype, "data": data},
    st.sampled_from([*NAMES, "other"]),
    st.lists(st.integers(-1, 4), max_size=3) | JSON,
    st.sampled_from(["FP64", "INT64", "BYTES", "BOOL", "XX"]),
    st.lists(VALUES, max_size=4) | JSON,
)
BODIES = (
    JSON
    | st.fixed_dictionaries({"inputs": st.lists(TENSORS, max_size=4)}, optional={"id": JSON, "parameters": JSON})
    | st.fixed_dictionaries({}, optional=dict.fromkeys(("instances", "inputs", "dataframe_records", "params"), JSON))
)


def encoded(body: Any) -> bytes:
    try:
        return msgspec.json.encode(body)
    except (UnicodeEncodeError, OverflowError):
        return repr(body).encode(errors="replace")


FORMS = (open_inference.FORM, invocations.FORM, records.FORM)
PLAN = Plan(SIGNATURE)


@settings(max_examples=400, deadline=None)
@given(BODIES.map(encoded) | st.binary(max_size=200), st.sampled_from(["", "text/csv", "application/json"]), st.text())
def test_any_body_is_an_ask_or_a_refusal(body: bytes, kind: str, length: str) -> None:
    headers = {b"content-type": kind.encode(), b"inference-header-content-length": length.encode()}
    for form in FORMS:
        for sent in (headers, {}):
            try:
                ask = form.read(Request(b"POST", b"/", sent, body), PLAN, 100)
                check_columns(SIGNATURE, ask.by_column(NAMES))
            except EverlineError as error:
                assert 400 <= error.status < 500
                assert error.message


FITTING = {
    "boolean": st.none() | st.booleans(),
    "integer": st.none() | st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.none() | st.floats(width=32, allow_infinity=False) | st.integers(-1000, 1000),
    "double": st.none() | st.floats(allow_infinity=False) | st.integers(-(10**30), 10**30),
    "string": st.none() | st.text(max_size=8),
    "datetime": st.none() | st.datetimes().map(lambda moment: moment.isoformat()),
}


COLUMNS = st.fixed_dictionaries({name: st.lists(one, min_size=2, max_size=2) for name, one in FITTING.items()})
ANY_COLUMNS = st.fixed_dictionaries({name: st.lists(VALUES, min_size=2, max_size=2) for name in NAMES})


@settings(max_examples=300, deadline=None)
@given(COLUMNS)
def test_whatever_fits_the_signature_is_logged_and_read_back_as_the_model_saw_it(columns: dict[str, list[Any]]) -> None:
    checked = check_columns(SIGNATURE, columns)
    record = PredictionRecord(
        at_us=0, project="p", endpoint="e", revision="r", package="k", release="x", requests=["q"], rows=[2],
        latency_us=[1], predictions=["a", "b"], event_time_us=[],
        inputs=Packer(SIGNATURE.inputs).pack(checked.arrays),
        outputs=Packer(SIGNATURE.outputs).pack({"probability": np.array([0.0, 1.0])}),
    )  # fmt: skip
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=PredictionRecord)
    rows = prediction_table([read], SIGNATURE).to_pylist()
    assert [row["outputs"]["probability"] for row in rows] == [0.0, 1.0]
    logged = {name: [row["inputs"][name] for row in rows] for name in NAMES}
    assert same(checked.arrays, check_columns(SIGNATURE, logged).arrays)


@settings(max_examples=300, deadline=None)
@given(COLUMNS | ANY_COLUMNS)
def test_the_fast_check_gives_what_the_careful_one_gives_or_leaves_it_to_it(columns: dict[str, list[Any]]) -> None:
    try:
        fast = PLAN.check(columns, rows=2, typed=False)
    except UnfitError:
        return
    careful = check_columns(SIGNATURE, columns)
    assert same(fast.arrays, careful.arrays)
    assert [flag.message for flag in fast.flags(0, 2)] == [flag.message for flag in careful.flags]


@settings(max_examples=300, deadline=None)
@given(COLUMNS)
def test_columns_that_fit_and_were_typed_by_the_decoder_need_no_careful_look(columns: dict[str, list[Any]]) -> None:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if any(isinstance(value, float) and value != value for row in rows for value in row.values()):
        return  # JSON cannot say NaN
    table, single = PLAN.read_rows(msgspec.json.encode(rows))
    read = gather([Ask(request="", table=table, rows=2, event_time_us=[])], NAMES)
    assert not single
    assert same(PLAN.check(read, rows=2, typed=True).arrays, check_columns(SIGNATURE, columns).arrays)


COMMON = Signature(inputs=[field for field in SIGNATURE.inputs if field.type in ("double", "long", "string")])


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({field.name: FITTING[field.name] for field in COMMON.inputs}))
def test_one_row_of_typed_values_takes_a_way_of_its_own_to_the_same_arrays(row: dict[str, Any]) -> None:
    if row["double"] != row["double"]:
        return  # JSON cannot say NaN
    plan = Plan(COMMON)
    table, single = plan.read_rows(msgspec.json.encode(row))
    read = gather([Ask(request="", table=table, rows=1, event_time_us=[])], plan.names)
    careful = check_columns(COMMON, {name: [value] for name, value in row.items()})
    fast = plan.check(read, rows=1, typed=True)
    assert single
    for name in plan.names:
        assert fast.arrays[name].dtype == careful.arrays[name].dtype
        assert fast.arrays[name].tolist() == careful.arrays[name].tolist() or row[name] is None
    assert [flag.message for flag in fast.flags(0, 1)] == [flag.message for flag in careful.flags]


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(
        one[name].dtype == other[name].dtype
        and (one[name].tolist() == other[name].tolist() or one[name].tobytes() == other[name].tobytes())
        for name in NAMES
    )


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40), st.floats(0, 1), st.floats(0, 1))
def test_a_growing_canary_only_gains_requests(request: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert 0 <= position(request) < 1
    assert position(request) >= small or position(request) < large
