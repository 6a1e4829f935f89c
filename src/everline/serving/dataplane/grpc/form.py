"""A question and an answer as protobuf messages: the protocol's meaning is the same as over HTTP."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from everline.errors import InvalidInputError
from everline.models.signature import Signature
from everline.serving.dataplane.forms import tensors
from everline.serving.dataplane.forms.ask import DATATYPES, Answer, Ask, Form
from everline.serving.dataplane.forms.open_inference import InferRequest, Tensor, WantedOutput, understand
from everline.serving.dataplane.grpc.messages import CLASSES
from everline.serving.dataplane.http.messages import Reply, Request
from everline.serving.dataplane.plan import Plan

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_PROTOBUF = b"application/grpc+proto"


def read(request: Request, plan: Plan, rows_max: int) -> Ask:
    """Read a ModelInferRequest; NaN stands for a missing number.

    Raises:
        InvalidInputError: malformed, or with shapes that do not fit the data.
        TooLargeError: more rows than `rows_max`.
    """
    try:
        message = CLASSES["ModelInferRequest"].FromString(request.body)
    except DecodeError as error:
        raise InvalidInputError(f"This is not a ModelInferRequest: {error}.") from None
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise InvalidInputError(
            f"There are {len(raw)} raw_input_contents for {len(message.inputs)} inputs.",
            hint="Send all inputs raw, or none.",
            field="raw_input_contents",
        )
    asked = InferRequest(
        inputs=[_tensor(tensor, len(raw[position]) if raw else None) for position, tensor in enumerate(message.inputs)],
        id=message.id or None,
        parameters=_parameters(message.parameters),
        outputs=[WantedOutput(output.name, _parameters(output.parameters)) for output in message.outputs],
    )
    ask = understand(asked, tensors.Raw(memoryview(b"".join(raw))), request, plan, rows_max)
    ask.binary = None if raw else frozenset()
    return ask


def write(answer: Answer, ask: Ask, signature: Signature) -> Reply:
    """Write a ModelInferResponse: raw where the question was, else typed."""
    origin = answer.origin
    message = CLASSES["ModelInferResponse"](
        model_name=origin.endpoint, model_version=str(origin.version), id=answer.request
    )
    said = {
        "predictions": ",".join(answer.predictions),
        "model": origin.model,
        "revision": origin.revision,
        "release": origin.release,
        "package": origin.package,
        "flags": "\n".join(answer.flags),
    }
    for name, value in said.items():
        if value:
            message.parameters[name].string_param = value
    for output in signature.outputs:
        if ask.outputs and output.name not in ask.outputs:
            continue
        datatype = DATATYPES[output.type]
        tensor = message.outputs.add(name=output.name, datatype=datatype, shape=[answer.rows])
        if ask.binary is None:
            array = answer.arrays[output.name][answer.start : answer.stop]
            message.raw_output_contents.append(tensors.encode(array, output.type))
        else:
            values = answer.values(output.name)
            values = [str(value).encode() for value in values] if datatype == "BYTES" else values
            getattr(tensor.contents, _CONTENTS[datatype]).extend(values)
    return Reply(200, message.SerializeToString(), answer.header_lines(), _PROTOBUF)


FORM = Form(read, write)


def _tensor(tensor: Any, raw_bytes: int | None) -> Tensor:
    name, shape, datatype = tensor.name, list(tensor.shape), tensor.datatype
    if raw_bytes is not None:
        return Tensor(name, shape, datatype, None, {"binary_data_size": raw_bytes})
    values = list(getattr(tensor.contents, _CONTENTS.get(datatype, "bytes_contents")))
    if datatype == "BYTES":
        try:
            values = [value.decode() for value in values]
        except UnicodeDecodeError:
            message = f"The input {name[:128]!r} holds a text that is not UTF-8."
            raise InvalidInputError(message, field=name[:128]) from None
    elif datatype.startswith("FP"):
        values = [None if value != value else value for value in values]
    return Tensor(name, shape, datatype, values)


def _parameters(given: Any) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for name, parameter in given.items():
        which = parameter.WhichOneof("choice")
        if which is not None:
            read[name] = getattr(parameter, which)
    return read
