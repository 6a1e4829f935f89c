"""ONNX models as they are given: one file, its inputs a matrix or one column each, asked on one thread.

What `torch.onnx.export`, skl2onnx or any other exporter wrote. Weights in files of their own are not carried: a
package holds each byte that it answers with under its own digest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnx

from everline.errors import IntegrityError, InvalidInputError
from everline.models.compiling.features import NotCompiledError
from everline.models.compiling.onnx_door import VERSION, session_of
from everline.models.flavors.tables import (
    check_numbers,
    check_same,
    matrix,
    row_independent,
    with_outputs,
    write_around,
)
from everline.models.signature import Array, ColumnType, OutputField, Signature

if TYPE_CHECKING:
    from everline.models.compiling.writing import Compiled
    from everline.models.package import Package

MODEL_FILE = "graph.onnx"
_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64, "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_, "tensor(string)": object,
}  # fmt: skip
_TYPES = {
    "tensor(float)": ColumnType.DOUBLE, "tensor(double)": ColumnType.DOUBLE, "tensor(int64)": ColumnType.LONG,
    "tensor(int32)": ColumnType.LONG, "tensor(bool)": ColumnType.BOOLEAN, "tensor(string)": ColumnType.STRING,
}  # fmt: skip


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What `metadata.flavor` of a manifest says about an ONNX model.

    Attributes:
        whole: name of the one input that takes all columns as a matrix; None where each column has its own.
        outputs: of each output of the signature: which output of the model, and which of its columns.
    """

    whole: str | None
    outputs: list[tuple[int, int]]
    row_independent: bool = True
    onnxruntime_version: str


class GivenModel:
    """An ONNX model that answers with the outputs of its signature."""

    def __init__(self, session: Any, signature: Signature, facts: Facts) -> None:
        self._session = session
        self._names = [field.name for field in signature.inputs]
        self._types = {one.name: (_DTYPES[one.type], len(one.shape)) for one in session.get_inputs()}
        self._outputs = [
            (field.name, _numpy_type(field.type), *place)
            for field, place in zip(signature.outputs, facts.outputs, strict=True)
        ]
        self._whole = facts.whole
        self.rows_alone = not facts.row_independent

    def predict(self, arrays: Mapping[str, Array], *, rows: int) -> dict[str, Array]:
        """Answer all rows, or one by one where the model's arithmetic depends on the rows beside them.

        Raises:
            ValueError: the model refuses the values.
        """
        if not self.rows_alone or rows <= 1:
            return self._answer(arrays, rows)
        single = [
            self._answer({name: array[row : row + 1] for name, array in arrays.items()}, 1) for row in range(rows)
        ]
        return {name: np.concatenate([one[name] for one in single]) for name in single[0]}

    def _answer(self, arrays: Mapping[str, Array], rows: int) -> dict[str, Array]:
        try:
            said = self._session.run(None, self._given(arrays, rows))
        except Exception as error:  # ONNX Runtime has errors of its own
            raise ValueError(str(error)[:300]) from error
        answer = {}
        for name, kind, output, column in self._outputs:
            values = np.asarray(said[output])
            answer[name] = np.ascontiguousarray((values[:, column] if values.ndim == 2 else values).astype(kind))
        return answer

    def _given(self, arrays: Mapping[str, Array], rows: int) -> dict[str, Any]:
        if self._whole is not None:
            dtype, _ = self._types[self._whole]
            return {self._whole: matrix(arrays, self._names, rows=rows, dtype=dtype)}
        given = {}
        for name in self._names:
            dtype, rank = self._types[name]
            given[name] = np.asarray(arrays[name]).astype(dtype).reshape((rows, 1) if rank == 2 else (rows,))
        return given


def write_model(
    model: Any, signature: Signature, *, directory: Path, metadata: Mapping[str, Any], probe: Signature
) -> tuple[Signature, dict[str, Any]]:
    """Write an ONNX model and what goes with it; return the whole signature and the flavor's facts.

    Args:
        model: a path, bytes or an `onnx.ModelProto`.

    Raises:
        InvalidInputError: it is no ONNX model, keeps weights in other files, or does not fit the signature.
    """
    content = _content(model)
    session = _session(content)
    whole = _whole(session, signature)
    outputs, places = _outputs(session)
    signature = with_outputs(signature, outputs)
    facts = Facts(whole=whole, outputs=places, onnxruntime_version=VERSION)
    independent = row_independent(GivenModel(session, signature, facts), signature, probe)
    facts = msgspec.structs.replace(facts, row_independent=independent)
    (directory / MODEL_FILE).write_bytes(content)
    flavors = {
        "python_function": {"loader_module": "mlflow.onnx", "data": MODEL_FILE},
        "onnx": {"data": MODEL_FILE, "onnx_version": onnx.__version__, "providers": ["CPUExecutionProvider"]},
    }
    write_around(directory, signature, probe=probe, needs=("onnxruntime",), flavor=flavors)
    return signature, msgspec.to_builtins(facts)


def load_model(package: Package) -> GivenModel:
    """Load the model of a verified package.

    Raises:
        IntegrityError: the file is no ONNX model.
    """
    facts = msgspec.convert(package.manifest.metadata.get("flavor"), Facts)
    try:
        session = _session((package.directory / MODEL_FILE).read_bytes())
    except InvalidInputError as error:
        raise IntegrityError(f"The model file {MODEL_FILE} cannot be read: {error.message}") from error
    return GivenModel(session, package.manifest.signature, facts)


def check_written(model: Any, package: Package, *, probe: Signature) -> None:
    """Ask the written model and the given one the same made-up rows; they must answer with the same bits."""
    facts = msgspec.convert(package.manifest.metadata["flavor"], Facts)
    given = GivenModel(_session(_content(model)), package.manifest.signature, facts)
    check_same(given, package.load(), probe)


def compilable(model: Any, signature: Signature, facts: Mapping[str, Any]) -> tuple[None, Callable[[], Compiled]]:
    """It is one already."""

    def refuse() -> Compiled:
        raise NotCompiledError("it is an ONNX model already")

    return None, refuse


def to_files(model: Any) -> dict[str, bytes]:
    """A model as named bytes: how a pipeline keeps the result of a step."""
    return {MODEL_FILE: _content(model)}


def from_files(files: Mapping[str, bytes]) -> bytes:
    """The model that `to_files` wrote."""
    return files[MODEL_FILE]


def _content(model: Any) -> bytes:
    try:
        content = bytes(model) if isinstance(model, (bytes, bytearray)) else None
        if content is None:
            content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else Path(model).read_bytes()
        read = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own, an unreadable file, another kind of object
        raise InvalidInputError(
            f"This is no ONNX model: {str(error)[:200]}", hint="Give a path, its bytes or a ModelProto.", field="model"
        ) from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in read.graph.initializer):
        raise InvalidInputError(
            "The ONNX model keeps its weights in other files, which are not carried.",
            hint="Save it as one file: onnx.save(onnx.load(path), path), or external_data=False in torch.onnx.export.",
            field="model",
        )
    return content


def _session(content: bytes) -> Any:
    try:
        return session_of(content)
    except Exception as error:  # ONNX Runtime has errors of its own for each kind of damage
        raise InvalidInputError(f"ONNX Runtime cannot load the model: {str(error)[:300]}", field="model") from error


def _whole(session: Any, signature: Signature) -> str | None:
    given = session.get_inputs()
    unknown = [one for one in given if one.type not in _DTYPES or len(one.shape) not in (1, 2)]
    if unknown:
        raise InvalidInputError(
            f"The input {unknown[0].name!r} of type {unknown[0].type} and shape {unknown[0].shape} is no table's.",
            hint="A package takes tables: one matrix [rows, columns], or one input per column.",
            field="model",
        )
    names = [field.name for field in signature.inputs]
    if len(given) == 1 and given[0].name not in names:
        width = given[0].shape[-1] if len(given[0].shape) == 2 else 1
        check_numbers(signature, framework="ONNX", width=width if isinstance(width, int) else len(names))
        return str(given[0].name)
    if sorted(one.name for one in given) != sorted(names):
        raise InvalidInputError(
            f"The model takes {', '.join(one.name for one in given)}, but the signature has {', '.join(names)}.",
            hint="Name the signature's inputs as the model does.",
            field="signature",
        )
    return None


def _outputs(session: Any) -> tuple[list[OutputField], list[tuple[int, int]]]:
    fields: list[OutputField] = []
    places: list[tuple[int, int]] = []
    for number, one in enumerate(session.get_outputs()):
        width = 1 if one.shape is None or len(one.shape) == 1 else one.shape[1]
        if one.type not in _TYPES or not isinstance(width, int) or len(one.shape or [0]) > 2:
            raise InvalidInputError(
                f"The output {one.name!r} of type {one.type} and shape {one.shape} is no column of a table.",
                hint="Export it with outputs of shape [rows] or [rows, n]; in skl2onnx with zipmap=False.",
                field="model",
            )
        for column in range(width):
            name = one.name if width == 1 else f"{one.name}_{column}"
            fields.append(OutputField(name=name, type=_TYPES[one.type]))
            places.append((number, column))
    return fields, places


def _numpy_type(kind: ColumnType) -> Any:
    return {ColumnType.DOUBLE: np.float64, ColumnType.LONG: np.int64, ColumnType.BOOLEAN: np.bool_}.get(kind, object)
