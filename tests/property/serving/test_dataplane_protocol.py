"""Whatever arrives, the protocol answers with a call that fits the signature or a sentence; never anything else."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from everline.errors import EverlineError
from everline.models.signature import ColumnType, Field, OutputField, Signature, check_columns
from everline.serving.dataplane.log.parquet_segments import prediction_table
from everline.serving.dataplane.log.raw_segments import PredictionRecord
from everline.serving.dataplane.protocol import decode_infer, decode_invocation
from everline.serving.dataplane.routing import position

SIGNATURE = Signature(
    inputs=[Field(name=str(kind), type=kind, nullable=kind is not ColumnType.LONG) for kind in ColumnType],
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


@settings(max_examples=400, deadline=None)
@given(BODIES.map(encoded) | st.binary(max_size=200))
def test_any_body_is_an_ask_or_a_refusal(body: bytes) -> None:
    for decode in (decode_infer, decode_invocation):
        try:
            ask = decode(body, signature=SIGNATURE, headers={}, rows_max=100)
            check_columns(SIGNATURE, ask.columns)
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


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({name: st.lists(one, min_size=2, max_size=2) for name, one in FITTING.items()}))
def test_whatever_fits_the_signature_is_logged_and_read_back_as_the_model_saw_it(columns: dict[str, list[Any]]) -> None:
    checked = check_columns(SIGNATURE, columns)
    record = PredictionRecord(
        at_us=0, project="p", endpoint="e", revision="r", package="k", release="x", request="q", latency_us=1,
        predictions=["a", "b"], event_time_us=[], inputs=checked.values, outputs={"probability": [0.0, 1.0]},
    )  # fmt: skip
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=PredictionRecord)
    rows = prediction_table([read], SIGNATURE).to_pylist()
    logged = {name: [row["inputs"][name] for row in rows] for name in NAMES}
    again = check_columns(SIGNATURE, logged)
    for name in NAMES:
        same = checked.arrays[name].tolist() == again.arrays[name].tolist()
        assert same or checked.arrays[name].tobytes() == again.arrays[name].tobytes(), name


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40), st.floats(0, 1), st.floats(0, 1))
def test_a_growing_canary_only_gains_requests(request: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert 0 <= position(request) < 1
    assert position(request) >= small or position(request) < large
