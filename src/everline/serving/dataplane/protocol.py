"""The words of an endpoint: JSON of the Open Inference Protocol v2 and of MLflow's `/invocations`.

Requests become an `Ask`, whichever form they came in; answers become bytes. Nothing here knows of models
or HTTP.

Sources: https://github.com/kserve/open-inference-protocol (REST, v2);
https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally (accepted input formats).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from everline.clock import parse_rfc3339
from everline.errors import InvalidInputError, TooLargeError
from everline.ids import new_uid
from everline.models.signature import ColumnType, Signature

DATATYPES = {
    ColumnType.BOOLEAN: "BOOL",
    ColumnType.INTEGER: "INT32",
    ColumnType.LONG: "INT64",
    ColumnType.FLOAT: "FP32",
    ColumnType.DOUBLE: "FP64",
    ColumnType.STRING: "BYTES",
    ColumnType.DATETIME: "BYTES",
}
_KNOWN_DATATYPES = frozenset(
    {"BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"}
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REQUEST_CHARACTERS_MAX = 128
_COLUMNS_MAX = 10_000


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller wants to know.

    Attributes:
        request: the caller's name for the request, or a new one.
        columns: one value per row under each input's name.
        event_time_us: empty, or one time per row in microseconds since 1970 UTC.
        outputs: the outputs that are wanted; empty means all.
    """

    request: str
    columns: dict[str, list[Any]]
    rows: int
    event_time_us: list[int | None]
    outputs: list[str] = []


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint replies, before it is written in one of the two protocols."""

    request: str
    endpoint: str
    model: str
    version: int
    revision: str
    release: str
    package: str
    predictions: list[str]
    outputs: dict[str, list[Any]]
    flags: list[str]


class _Tensor(msgspec.Struct, frozen=True):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class _WantedOutput(msgspec.Struct, frozen=True):
    name: str


class _InferRequest(msgspec.Struct, frozen=True):
    inputs: list[_Tensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[_WantedOutput] = []


class _Split(msgspec.Struct, frozen=True):
    columns: list[str]
    data: list[list[Any]]


class _Invocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dataframe_split: _Split | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    instances: list[Any] | None = None
    inputs: Any = None
    params: dict[str, Any] = {}


_infer_decoder = msgspec.json.Decoder(_InferRequest)
_invocation_decoder = msgspec.json.Decoder(_Invocation)
_encoder = msgspec.json.Encoder()


def decode_infer(body: bytes, *, signature: Signature, headers: Mapping[str, str], rows_max: int) -> Ask:
    """Read an Open Inference Protocol request.

    Each input of the model is a tensor of its own, of shape [rows] or [rows, 1]; a single tensor of shape
    [rows, inputs] is taken as the inputs in the signature's order. JSON null stands for a missing value.

    Raises:
        InvalidInputError: malformed, or with shapes that do not fit the data.
        TooLargeError: more rows than `rows_max`.
    """
    asked = _decode(_infer_decoder, body)
    if not asked.inputs:
        raise InvalidInputError(
            "The request has no inputs.", hint="Send one tensor per input of the model.", field="inputs"
        )
    if len(asked.inputs) > _COLUMNS_MAX:
        raise TooLargeError(f"The request has more than {_COLUMNS_MAX} inputs.", field="inputs")
    names = [field.name for field in signature.inputs]
    columns: dict[str, list[Any]] = {}
    if len(asked.inputs) == 1 and asked.inputs[0].name not in names and len(asked.inputs[0].shape) == 2:
        columns = _matrix(asked.inputs[0], names)
    else:
        for tensor in asked.inputs:
            if tensor.name in columns:
                raise InvalidInputError(f"The input {tensor.name[:128]!r} is there twice.", field=tensor.name[:128])
            columns[tensor.name] = _column(tensor)
    rows = _rows(columns, rows_max=rows_max)
    return Ask(
        request=_request_id(asked.id if asked.id is not None else headers.get("x-request-id")),
        columns=columns,
        rows=rows,
        event_time_us=_event_times(asked.parameters.get("event_time", headers.get("everline-event-time")), rows),
        outputs=_wanted(asked.outputs, signature),
    )


def decode_invocation(body: bytes, *, signature: Signature, headers: Mapping[str, str], rows_max: int) -> Ask:
    """Read an MLflow `/invocations` request: dataframe_split, dataframe_records, instances or inputs.

    Raises:
        InvalidInputError: malformed, none or several of the forms, or rows of unequal length.
        TooLargeError: more rows than `rows_max`.
    """
    asked = _decode(_invocation_decoder, body)
    forms = [
        name
        for name in ("dataframe_split", "dataframe_records", "instances", "inputs")
        if getattr(asked, name) is not None
    ]
    if len(forms) != 1:
        raise InvalidInputError(
            f"The request has {' and '.join(forms) if forms else 'none of the forms'} where one was expected.",
            hint="Send one of: dataframe_split, dataframe_records, instances, inputs.",
            field=forms[0] if forms else "dataframe_split",
        )
    if asked.params.keys() - {"event_time"}:
        raise InvalidInputError(
            f"The model takes no parameter {min(asked.params.keys() - {'event_time'})[:128]!r}.",
            hint="The only one is event_time.",
            field="params",
        )
    names = [field.name for field in signature.inputs]
    if asked.dataframe_split is not None:
        columns = _split(asked.dataframe_split)
    elif asked.dataframe_records is not None:
        columns = _records(asked.dataframe_records, names, form="dataframe_records")
    elif asked.instances is not None:
        columns = _instances(asked.instances, names, form="instances")
    elif isinstance(asked.inputs, dict):
        columns = {str(name): values if isinstance(values, list) else [values] for name, values in asked.inputs.items()}
    elif isinstance(asked.inputs, list):
        columns = _instances(asked.inputs, names, form="inputs")
    else:
        raise InvalidInputError(
            "The field inputs must be an object of columns or a list of rows.",
            hint='Send {"inputs": {"column": [value, …], …}}.',
            field="inputs",
        )
    rows = _rows(columns, rows_max=rows_max)
    return Ask(
        request=_request_id(headers.get("x-request-id")),
        columns=columns,
        rows=rows,
        event_time_us=_event_times(asked.params.get("event_time", headers.get("everline-event-time")), rows),
    )


def encode_infer(answer: Answer, *, signature: Signature, wanted: Sequence[str]) -> bytes:
    """Write an answer as the Open Inference Protocol has it; ids and origin stand under `parameters`."""
    return _encoder.encode(
        {
            "model_name": answer.endpoint,
            "model_version": str(answer.version),
            "id": answer.request,
            "parameters": _origin(answer),
            "outputs": [
                {
                    "name": output.name,
                    "datatype": DATATYPES[output.type],
                    "shape": [len(answer.predictions)],
                    "data": answer.outputs[output.name],
                }
                for output in signature.outputs
                if not wanted or output.name in wanted
            ],
        }
    )


def encode_invocation(answer: Answer) -> bytes:
    """Write an answer as MLflow clients expect it: `predictions`, one value or object per row."""
    columns = answer.outputs
    if len(columns) == 1:
        rows: list[Any] = next(iter(columns.values()))
    else:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return _encoder.encode({"predictions": rows, "id": answer.request, "parameters": _origin(answer)})


def describe(endpoint: str, *, versions: list[str], signature: Signature) -> dict[str, Any]:
    """Metadata of a model in the Open Inference Protocol."""
    return {
        "name": endpoint,
        "versions": versions,
        "platform": "everline",
        "inputs": [
            {
                "name": field.name,
                "datatype": DATATYPES[field.type],
                "shape": [-1],
                "parameters": {"type": field.type, "nullable": field.nullable},
            }
            for field in signature.inputs
        ],
        "outputs": [
            {"name": output.name, "datatype": DATATYPES[output.type], "shape": [-1]} for output in signature.outputs
        ],
    }


def _origin(answer: Answer) -> dict[str, Any]:
    origin: dict[str, Any] = {
        "predictions": answer.predictions,
        "model": answer.model,
        "revision": answer.revision,
        "release": answer.release,
        "package": answer.package,
    }
    if answer.flags:
        origin["flags"] = answer.flags
    return origin


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        place = where.strip("`").removeprefix("$").removeprefix(".") or "the top"
        raise InvalidInputError(
            f"The request body does not fit the protocol at {place[:128]}: {what[:300]}.",
            hint="GET /v2/models/ENDPOINT names the inputs; docs/serving.md shows a request.",
            field=place[:128],
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:300]
        nan = b"NaN" in body or b"Infinity" in body
        raise InvalidInputError(
            f"The request body is not JSON: {what}.",
            hint="JSON has no NaN and no Infinity: send null for a missing value." if nan else "Send a JSON object.",
        ) from None


def _column(tensor: _Tensor) -> list[Any]:
    name = tensor.name[:128]
    if tensor.datatype not in _KNOWN_DATATYPES:
        raise InvalidInputError(
            f"The input {name!r} has the unknown datatype {tensor.datatype[:32]!r}.",
            hint=f"Use one of: {', '.join(sorted(_KNOWN_DATATYPES))}.",
            field=name,
        )
    shape = tensor.shape
    if not shape or len(shape) > 2 or min(shape) < 0 or (len(shape) == 2 and shape[1] != 1):
        raise InvalidInputError(
            f"The input {name!r} has the shape {shape[:8]}, where [rows] was expected.",
            hint="Send one value per row for each input.",
            field=name,
        )
    return _flat(tensor, expected=shape[0])


def _flat(tensor: _Tensor, *, expected: int) -> list[Any]:
    data = tensor.data
    if any(type(value) is list for value in data):
        data = [value for part in data for value in (part if isinstance(part, list) else [part])]
    if len(data) != expected:
        raise InvalidInputError(
            f"The input {tensor.name[:128]!r} has {len(data)} values; its shape {tensor.shape[:8]} says {expected}.",
            hint="The product of the shape is the number of values.",
            field=tensor.name[:128],
        )
    return data


def _matrix(tensor: _Tensor, names: list[str]) -> dict[str, list[Any]]:
    rows, width = tensor.shape
    if width != len(names) or rows < 0:
        raise InvalidInputError(
            f"The input {tensor.name[:128]!r} has the shape {tensor.shape}, where the model takes {len(names)} inputs.",
            hint=f"Send [rows, {len(names)}] in this order: {', '.join(names)}; or one tensor per input.",
            field=tensor.name[:128],
        )
    data = _flat(tensor, expected=math.prod(tensor.shape))
    return {name: data[position::width] for position, name in enumerate(names)}


def _split(split: _Split) -> dict[str, list[Any]]:
    if len(set(split.columns)) != len(split.columns):
        raise InvalidInputError("dataframe_split names a column twice.", field="dataframe_split")
    return _transposed(split.data, split.columns, form="dataframe_split")


def _transposed(rows: list[list[Any]], names: list[str], *, form: str) -> dict[str, list[Any]]:
    for number, row in enumerate(rows):
        if len(row) != len(names):
            raise InvalidInputError(
                f"Row {number} of {form} has {len(row)} values for {len(names)} columns.",
                hint=f"The columns are: {', '.join(names)[:1000]}.",
                field=form,
            )
    return {name: [row[position] for row in rows] for position, name in enumerate(names)}


def _records(rows: list[dict[str, Any]], names: list[str], *, form: str) -> dict[str, list[Any]]:
    if not rows:
        return {}
    found = rows[0].keys()
    for number, row in enumerate(rows):
        if row.keys() != found:
            name = min(row.keys() ^ found)
            raise InvalidInputError(
                f"Row {number} of {form} {'lacks' if name in found else 'alone has'} the column {name[:128]!r}.",
                hint="Send the same columns in every row; null stands for a missing value.",
                field=name[:128],
            )
    order = [name for name in names if name in found] + sorted(found - set(names))
    return {name: [row[name] for row in rows] for name in order}


def _instances(rows: list[Any], names: list[str], *, form: str) -> dict[str, list[Any]]:
    kinds = set(map(type, rows))
    if kinds == {dict}:
        return _records(rows, names, form=form)
    if kinds == {list}:
        return _transposed(rows, names, form=form)
    if len(names) == 1 and not kinds & {dict, list}:
        return {names[0]: rows}
    raise InvalidInputError(
        f"{form} must be a list of objects, or a list of rows.",
        hint=f"Send objects with the columns: {', '.join(names)[:1000]}.",
        field=form,
    )


def _rows(columns: Mapping[str, list[Any]], *, rows_max: int) -> int:
    rows = len(next(iter(columns.values()))) if columns else 0
    if rows == 0:
        raise InvalidInputError("The request has no rows.", hint="Send at least one row.", field="inputs")
    if rows > rows_max:
        raise TooLargeError(
            f"The request has {rows} rows; {rows_max} are allowed.", hint="Send several requests.", field="inputs"
        )
    return rows


def _request_id(given: str | None) -> str:
    if given is None or given == "":
        return new_uid()
    if len(given) > _REQUEST_CHARACTERS_MAX or not given.isascii() or not given.isprintable():
        raise InvalidInputError(
            f"The request's id is longer than {_REQUEST_CHARACTERS_MAX} characters or not printable ASCII.",
            hint="Leave it out to get one.",
            field="id",
        )
    return given


def _wanted(outputs: list[_WantedOutput], signature: Signature) -> list[str]:
    known = [output.name for output in signature.outputs]
    for output in outputs:
        if output.name not in known:
            raise InvalidInputError(
                f"The model has no output {output.name[:128]!r}.",
                hint=f"The outputs are: {', '.join(known)}.",
                field="outputs",
            )
    return [output.name for output in outputs]


def _event_times(given: Any, rows: int) -> list[int | None]:
    if given is None:
        return []
    if isinstance(given, str):
        return [_micros(given)] * rows
    if isinstance(given, list) and len(given) == rows:
        return [None if value is None else _micros(value) for value in given]
    raise InvalidInputError(
        f"event_time must be one time, or a list with one time for each of the {rows} rows.",
        hint="Write times like 2013-06-01T05:00:00Z.",
        field="event_time",
    )


def _micros(given: Any) -> int:
    try:
        return (parse_rfc3339(given, field="event_time") - _EPOCH) // timedelta(microseconds=1)
    except (TypeError, OverflowError):
        raise InvalidInputError(
            f"event_time {str(given)[:80]!r} is not a time.",
            hint="Write times like 2013-06-01T05:00:00Z.",
            field="event_time",
        ) from None
