"""The Open Inference Protocol v2 over HTTP: JSON, with binary tensors where the caller sends or wants them.

Source: https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md)
"""

from __future__ import annotations

import functools
import math
from typing import Any

import msgspec

from everline.errors import InvalidInputError, TooLargeError
from everline.models.signature import Signature
from everline.serving.dataplane.forms import tensors
from everline.serving.dataplane.forms.ask import (
    DATATYPES,
    Answer,
    Ask,
    Column,
    Form,
    count_rows,
    decode,
    event_times,
    named_by,
    request_id,
    sticky_key,
)
from everline.serving.dataplane.http.messages import Reply, Request, header
from everline.serving.dataplane.plan import Plan

_KNOWN_DATATYPES = frozenset(
    {"BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"}
)
_COLUMNS_MAX = 10_000
_encoder = msgspec.json.Encoder()
_OCTETS = b"application/octet-stream"


class Tensor(msgspec.Struct, frozen=True, gc=False):
    """One input."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class WantedOutput(msgspec.Struct, frozen=True):
    """One output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct, frozen=True):
    """A question, as the protocol has it."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[WantedOutput] = []


_decoder = msgspec.json.Decoder(InferRequest)


def read(request: Request, plan: Plan, rows_max: int) -> Ask:
    """Read a request.

    Each input of the model is a tensor of its own, of shape [rows] or [rows, 1]; a single tensor of shape
    [rows, inputs] is taken as the inputs in the signature's order. JSON null stands for a missing value.

    Raises:
        InvalidInputError: malformed, or with shapes that do not fit the data.
        TooLargeError: more rows than `rows_max`.
    """
    body, raw = tensors.split(request)
    return understand(decode(_decoder, body), raw, request, plan, rows_max)


def understand(asked: InferRequest, raw: tensors.Raw, request: Request, plan: Plan, rows_max: int) -> Ask:
    """What a question of the protocol means; see `read`.

    Args:
        raw: the bytes of those inputs that have a `binary_data_size`.
    """
    if not asked.inputs:
        raise InvalidInputError(
            "The request has no inputs.", hint="Send one tensor per input of the model.", field="inputs"
        )
    if len(asked.inputs) > _COLUMNS_MAX:
        raise TooLargeError(f"The request has more than {_COLUMNS_MAX} inputs.", field="inputs")
    columns = _plain(asked.inputs) or _carefully(asked.inputs, raw, plan.names)
    raw.finished()
    rows = count_rows(columns, rows_max=rows_max)
    return Ask(
        request=request_id(asked.id if asked.id is not None else named_by(request)),
        columns=columns,
        rows=rows,
        event_time_us=event_times(asked.parameters.get("event_time"), request, rows),
        key=sticky_key(asked.parameters.get("key"), request),
        outputs=_wanted(asked.outputs, plan.signature),
        binary=_wanted_binary(asked),
    )


def write(answer: Answer, ask: Ask, signature: Signature) -> Reply:
    """Write an answer; ids and origin stand under `parameters`."""
    said: list[bytes] = []
    binary: list[bytes] = []
    shape = b'"shape":[%d],' % answer.rows
    for output in signature.outputs:
        name = output.name
        if ask.outputs and name not in ask.outputs:
            continue
        if ask.binary is None or name in ask.binary:
            binary.append(tensors.encode(answer.arrays[name][answer.start : answer.stop], output.type))
            values = b'"parameters":{"binary_data_size":%d}}' % len(binary[-1])
        else:
            values = b'"data":' + _encoder.encode(answer.values(name)) + b"}"
        said.append(_named(name, DATATYPES[output.type]) + shape + values)
    head = _encoder.encode(
        {
            "model_name": answer.origin.endpoint,
            "model_version": str(answer.origin.version),
            "id": answer.request,
        }
    )
    body = b"".join((head[:-1], b',"parameters":', answer.parameters(), b',"outputs":[', b",".join(said), b"]}"))
    if not binary:
        return Reply(200, body, answer.header_lines())
    lines = answer.header_lines() + header(tensors.HEADER.decode(), str(len(body)))
    return Reply(200, body + b"".join(binary), lines, _OCTETS)


@functools.lru_cache(1024)
def _named(name: str, datatype: str) -> bytes:
    return _encoder.encode({"name": name, "datatype": datatype})[:-1] + b","


FORM = Form(read, write)


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


def _plain(inputs: list[Tensor]) -> dict[str, Column]:
    """The columns of tensors that are all as most are: a list of values of shape [rows] each; {} if one is not."""
    columns: dict[str, Column] = {}
    for tensor in inputs:
        data = tensor.data
        plain = data and tensor.shape == [len(data)] and type(data[0]) is not list and not tensor.parameters
        if not plain or data is None or tensor.datatype not in _KNOWN_DATATYPES:
            return {}
        columns[tensor.name] = data
    return columns if len(columns) == len(inputs) else {}


def _carefully(inputs: list[Tensor], raw: tensors.Raw, names: list[str]) -> dict[str, Column]:
    """The columns of any tensors that the protocol allows, with what is wrong with them."""
    alone = inputs[0]
    if len(inputs) == 1 and alone.name not in names and len(alone.shape) == 2:
        return _matrix(alone, raw, names)
    columns: dict[str, Column] = {}
    for tensor in inputs:
        if tensor.name in columns:
            raise InvalidInputError(f"The input {tensor.name[:128]!r} is there twice.", field=tensor.name[:128])
        columns[tensor.name] = _column(tensor, raw)
    return columns


def _column(tensor: Tensor, raw: tensors.Raw) -> Column:
    name = tensor.name[:128]
    shape = tensor.shape
    if not shape or len(shape) > 2 or min(shape) < 0 or (len(shape) == 2 and shape[1] != 1):
        raise InvalidInputError(
            f"The input {name!r} has the shape {shape[:8]}, where [rows] was expected.",
            hint="Send one value per row for each input.",
            field=name,
        )
    return _values(tensor, raw, expected=shape[0])


def _matrix(tensor: Tensor, raw: tensors.Raw, names: list[str]) -> dict[str, Column]:
    rows, width = tensor.shape
    if width != len(names) or rows < 0:
        raise InvalidInputError(
            f"The input {tensor.name[:128]!r} has the shape {tensor.shape}, where the model takes {len(names)} inputs.",
            hint=f"Send [rows, {len(names)}] in this order: {', '.join(names)}; or one tensor per input.",
            field=tensor.name[:128],
        )
    data = _values(tensor, raw, expected=math.prod(tensor.shape))
    return {name: data[position::width] for position, name in enumerate(names)}


def _values(tensor: Tensor, raw: tensors.Raw, *, expected: int) -> Column:
    name = tensor.name[:128]
    if tensor.datatype not in _KNOWN_DATATYPES:
        raise InvalidInputError(
            f"The input {name!r} has the unknown datatype {tensor.datatype[:32]!r}.",
            hint=f"Use one of: {', '.join(sorted(_KNOWN_DATATYPES))}.",
            field=name,
        )
    size = tensor.parameters.get("binary_data_size") if tensor.parameters else None
    if size is not None:
        return raw.take(name, tensor.datatype, size, expected=expected)
    data = tensor.data
    if data is None:
        raise InvalidInputError(f"The input {name!r} has no data.", hint="Send its values under data.", field=name)
    if any(type(value) is list for value in data):
        data = [value for part in data for value in (part if isinstance(part, list) else [part])]
    if len(data) != expected:
        raise InvalidInputError(
            f"The input {name!r} has {len(data)} values; its shape {tensor.shape[:8]} says {expected}.",
            hint="The product of the shape is the number of values.",
            field=name,
        )
    return data


def _wanted(outputs: list[WantedOutput], signature: Signature) -> list[str]:
    known = [output.name for output in signature.outputs]
    for output in outputs:
        if output.name not in known:
            raise InvalidInputError(
                f"The model has no output {output.name[:128]!r}.",
                hint=f"The outputs are: {', '.join(known)}.",
                field="outputs",
            )
    return [output.name for output in outputs]


def _wanted_binary(asked: InferRequest) -> frozenset[str] | None:
    every = asked.parameters.get("binary_data_output") is True
    if not asked.outputs:
        return None if every else frozenset()
    return frozenset(one.name for one in asked.outputs if one.parameters.get("binary_data", every) is True)
