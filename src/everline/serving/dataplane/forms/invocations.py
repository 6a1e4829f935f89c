"""MLflow's `/invocations`: dataframe_split, dataframe_records, instances, inputs, and CSV.

Source: https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally (accepted input formats).
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from everline.errors import EverlineError, InvalidInputError
from everline.models.signature import Signature
from everline.serving.dataplane.forms import csv
from everline.serving.dataplane.forms.ask import (
    Answer,
    Ask,
    Column,
    Form,
    count_rows,
    decode,
    event_times,
    named_by,
    request_id,
)
from everline.serving.dataplane.http.messages import Reply, Request
from everline.serving.dataplane.plan import Plan

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_CSV = "text/csv"
_JSON = "application/json"
_encoder = msgspec.json.Encoder()


class _Split(msgspec.Struct, frozen=True):
    columns: list[str]
    data: list[list[Any]]
    index: list[Any] | None = None


class _Invocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dataframe_split: _Split | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    instances: Any = None
    inputs: Any = None
    params: dict[str, Any] = {}
    signature_name: str | None = None


_decoder = msgspec.json.Decoder(_Invocation)


class UnsupportedMediaTypeError(EverlineError):
    """The body is of a type that is not read here."""

    code = "unsupported_media_type"
    status = 415


def read(request: Request, plan: Plan, rows_max: int) -> Ask:
    """Read a request.

    Raises:
        InvalidInputError: malformed, none or several of the forms, or rows of unequal length.
        TooLargeError: more rows than `rows_max`.
        UnsupportedMediaTypeError: neither JSON nor CSV.
    """
    kind, _, parameters = (request.header(b"content-type") or _JSON).partition(";")
    params: dict[str, Any] = {}
    match kind.strip().lower():
        case "text/csv":
            columns = csv.read(request.body, plan.signature, parameters=parameters, rows_max=rows_max)
        case "application/json" | "application/x-www-form-urlencoded" | "":  # the latter is what curl -d sends
            columns, params = _json(request.body, plan.names)
        case other:
            raise UnsupportedMediaTypeError(
                f"A body of the type {other[:80]!r} is not read here.",
                hint=f"Send {_JSON} or {_CSV}.",
                field="content-type",
            )
    rows = count_rows(columns, rows_max=rows_max)
    return Ask(
        request=request_id(named_by(request)),
        columns=columns,
        rows=rows,
        event_time_us=event_times(params.get("event_time"), request, rows),
    )


def write(answer: Answer, ask: Ask, signature: Signature) -> Reply:
    """Write an answer as MLflow clients expect it: `predictions`, one value or object per row."""
    columns = {name: answer.values(name) for name in answer.outputs}
    if len(columns) == 1:
        rows: list[Any] = next(iter(columns.values()))
    else:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    body = _encoder.encode({"predictions": rows, "id": answer.request})
    return Reply(200, body[:-1] + b',"parameters":' + answer.parameters() + b"}", answer.header_lines())


FORM = Form(read, write)


def _json(body: bytes, names: list[str]) -> tuple[dict[str, Column], dict[str, Any]]:
    asked = _decoded(body)
    forms = [name for name in _FORMS if getattr(asked, name) is not None]
    if len(forms) != 1:
        raise InvalidInputError(
            f"The request has {' and '.join(forms) if forms else 'none of the forms'} where one was expected.",
            hint=f"Send one of: {', '.join(_FORMS)}.",
            field=forms[0] if forms else "dataframe_split",
        )
    if asked.params.keys() - {"event_time"}:
        raise InvalidInputError(
            f"The model takes no parameter {min(asked.params.keys() - {'event_time'})[:128]!r}.",
            hint="The only one is event_time.",
            field="params",
        )
    if asked.dataframe_split is not None:
        split = asked.dataframe_split
        if len(set(split.columns)) != len(split.columns):
            raise InvalidInputError("dataframe_split names a column twice.", field="dataframe_split")
        return _transposed(split.data, split.columns, form="dataframe_split"), asked.params
    if asked.dataframe_records is not None:
        return columns_of(asked.dataframe_records, names, form="dataframe_records"), asked.params
    form = "inputs" if asked.instances is None else "instances"
    return _tensors(getattr(asked, form), names, form=form), asked.params


def _decoded(body: bytes) -> Any:
    """The body; with NaN in it, which is no JSON, as MLflow's own client sends it for a missing value."""
    try:
        return decode(_decoder, body)
    except InvalidInputError:
        if b"NaN" not in body and b"Infinity" not in body:
            raise
        try:
            plain = json.loads(body, parse_constant=lambda name: None if name == "NaN" else float(name))
            return msgspec.convert(plain, _Invocation)
        except (ValueError, RecursionError, msgspec.ValidationError):
            pass
        raise


def _tensors(given: Any, names: list[str], *, form: str) -> dict[str, Column]:
    """TensorFlow Serving's forms: columns by name, or rows."""
    if isinstance(given, dict):
        return {str(name): values if isinstance(values, list) else [values] for name, values in given.items()}
    if not isinstance(given, list):
        raise InvalidInputError(
            f"The field {form} must be an object of columns or a list of rows.",
            hint=f'Send {{"{form}": {{"column": [value, …], …}}}}.',
            field=form,
        )
    kinds = set(map(type, given))
    if kinds == {dict}:
        return columns_of(given, names, form=form)
    if kinds == {list}:
        return _transposed(given, names, form=form)
    if len(names) == 1 and not kinds & {dict, list}:
        return {names[0]: given}
    raise InvalidInputError(
        f"{form} must be a list of objects, or a list of rows.",
        hint=f"Send objects with the columns: {', '.join(names)[:1000]}.",
        field=form,
    )


def _transposed(rows: list[list[Any]], names: list[str], *, form: str) -> dict[str, Column]:
    for number, row in enumerate(rows):
        if len(row) != len(names):
            raise InvalidInputError(
                f"Row {number} of {form} has {len(row)} values for {len(names)} columns.",
                hint=f"The columns are: {', '.join(names)[:1000]}.",
                field=form,
            )
    return dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}


def columns_of(rows: list[dict[str, Any]], names: list[str], *, form: str) -> dict[str, Column]:
    """Rows as columns, those of the model first.

    Raises:
        InvalidInputError: a row has other columns than the first.
    """
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
