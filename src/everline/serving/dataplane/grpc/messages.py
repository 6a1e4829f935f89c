"""The messages of the Open Inference Protocol over gRPC, by name, number and type.

Written down as a table and made by protobuf at import, in a pool of their own: a process may hold other definitions of
the same protocol. `tests/integration/serving` holds the table against the official client's.
Source: https://github.com/kserve/open-inference-protocol (specification/protocol/open_inference_grpc.proto)
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_Fields = dict[str, tuple[int, str]]
_PARAMETERS = "{InferParameter}"
_TENSOR: _Fields = {
    "name": (1, "string"),
    "datatype": (2, "string"),
    "shape": (3, "*int64"),
    "parameters": (4, _PARAMETERS),
    "contents": (5, "InferTensorContents"),
}
_NAMED: _Fields = {"name": (1, "string"), "version": (2, "string")}
MESSAGES: dict[str, _Fields] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": (1, "bool")},
    "ModelReadyRequest": _NAMED,
    "ModelReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {"name": (1, "string"), "version": (2, "string"), "extensions": (3, "*string")},
    "ModelMetadataRequest": _NAMED,
    "ModelMetadataResponse.TensorMetadata": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, "*int64"),
    },
    "ModelMetadataResponse": {
        "name": (1, "string"),
        "versions": (2, "*string"),
        "platform": (3, "string"),
        "inputs": (4, "*ModelMetadataResponse.TensorMetadata"),
        "outputs": (5, "*ModelMetadataResponse.TensorMetadata"),
    },
    "InferParameter": {
        "bool_param": (1, "?bool"),
        "int64_param": (2, "?int64"),
        "string_param": (3, "?string"),
        "double_param": (4, "?double"),
        "uint64_param": (5, "?uint64"),
    },
    "InferTensorContents": {
        "bool_contents": (1, "*bool"),
        "int_contents": (2, "*int32"),
        "int64_contents": (3, "*int64"),
        "uint_contents": (4, "*uint32"),
        "uint64_contents": (5, "*uint64"),
        "fp32_contents": (6, "*float"),
        "fp64_contents": (7, "*double"),
        "bytes_contents": (8, "*bytes"),
    },
    "ModelInferRequest.InferInputTensor": _TENSOR,
    "ModelInferRequest.InferRequestedOutputTensor": {"name": (1, "string"), "parameters": (2, _PARAMETERS)},
    "ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, _PARAMETERS),
        "inputs": (5, "*ModelInferRequest.InferInputTensor"),
        "outputs": (6, "*ModelInferRequest.InferRequestedOutputTensor"),
        "raw_input_contents": (7, "*bytes"),
    },
    "ModelInferResponse.InferOutputTensor": _TENSOR,
    "ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, _PARAMETERS),
        "outputs": (5, "*ModelInferResponse.InferOutputTensor"),
        "raw_output_contents": (6, "*bytes"),
    },
}
"""Per message its fields: number and type; `*` is repeated, `?` one of a choice, `{T}` a map from string to T."""

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
    "float": _Field.TYPE_FLOAT,
    "double": _Field.TYPE_DOUBLE,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}


def _add_field(message: Any, owner: str, name: str, number: int, kind: str) -> None:
    repeated = kind.startswith(("*", "{"))
    field = message.field.add(
        name=name, number=number, label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    )
    plain = kind.strip("*?{}")
    if kind.startswith("{"):
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _add_field(entry, owner, "key", 1, "string")
        _add_field(entry, owner, "value", 2, plain)
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{owner}.{entry.name}"
    elif plain in _SCALARS:
        field.type = _SCALARS[plain]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{plain}"
    if kind.startswith("?"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="choice")
        field.oneof_index = 0


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="everline/open_inference.proto", package=PACKAGE, syntax="proto3")
    made: dict[str, Any] = {}
    for full_name in sorted(MESSAGES, key=lambda name: name.count(".")):
        outer, _, inner = full_name.partition(".")
        holder = made[outer].nested_type if inner else file.message_type
        made[full_name] = holder.add(name=inner or outer)
        for name, (number, kind) in MESSAGES[full_name].items():
            _add_field(made[full_name], full_name, name, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


CLASSES: dict[str, Any] = _build()
"""The message classes by name."""
