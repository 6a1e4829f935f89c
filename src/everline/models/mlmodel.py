"""What an `MLmodel` file says about a model that MLflow's own client wrote: flavor, format, columns, example.

The file comes from whoever logged the model, so that nothing in it is believed further than it can be checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import yaml

from everline.errors import InvalidInputError
from everline.models.signature import ColumnType, Field, Signature

MLMODEL_FILE = "MLmodel"
MLMODEL_BYTES_MAX = 4 << 20
COLUMNS_MAX = 100_000
_TENSOR_TYPES = {
    "float64": ColumnType.DOUBLE,
    "float32": ColumnType.FLOAT,
    "int64": ColumnType.LONG,
    "int32": ColumnType.INTEGER,
    "bool": ColumnType.BOOLEAN,
}
_FRAMEWORKS = {
    "sklearn": ("scikit-learn", "sklearn_version"),
    "xgboost": ("xgboost", "xgb_version"),
    "lightgbm": ("lightgbm", "lgb_version"),
}
"""Flavors that are packaged, with the name of the framework and where its version stands."""
_TYPES = frozenset(str(kind) for kind in ColumnType)


class MlModel(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed to load a model and to ask it.

    Attributes:
        flavor: `sklearn`, `xgboost` or `lightgbm`.
        file: path of the model's file beside `MLmodel`.
        format: `skops`, `pickle`, `cloudpickle`, or `own` for the framework's own.
        kind: the class that was logged, such as `xgboost.sklearn.XGBClassifier`; empty where it is not said.
        inputs: columns in the model's order, without the ranges and categories that MLflow does not record;
            None if the model was logged without a signature.
        example: path of its input example, if it has one.
        versions: of MLflow and the framework, where it was logged.
    """

    flavor: str
    file: str
    format: str
    kind: str = ""
    inputs: Signature | None
    example: str | None
    versions: dict[str, str]


def read_mlmodel(data: bytes, *, name: str) -> MlModel:
    """Read an `MLmodel` file.

    Args:
        name: of the model version, for errors.

    Raises:
        InvalidInputError: it is malformed, the model is of a framework that has no flavor here, or its inputs are no
            columns of booleans, numbers, text or times.
    """
    said = _yaml(data, name=name)
    flavors = _mapping(said.get("flavors"))
    known = [flavor for flavor in _FRAMEWORKS if flavor in flavors]
    if not known:
        found = ", ".join(sorted(str(flavor) for flavor in flavors if flavor != "python_function")) or "python_function"
        raise InvalidInputError(
            f"{name} is a model of the flavor {found}, which is not packaged from here.",
            hint="Fetch its folder and package it to run in a process of its own: "
            'build_package(MlflowModel(folder), flavor="pyfunc", …).',
            field="version",
        )
    flavor = _mapping(flavors[known[0]])
    framework, version = _FRAMEWORKS[known[0]]
    file = str(flavor.get("pickled_model") or flavor.get("data") or "model.pkl")
    return MlModel(
        flavor=known[0],
        file=file,
        format=_format(known[0], flavor, file),
        kind=str(flavor.get("model_class") or ""),
        inputs=_inputs(_mapping(said.get("signature")).get("inputs"), name=name),
        example=_example(_mapping(said.get("saved_input_example_info"))),
        versions={"mlflow": str(said.get("mlflow_version")), framework: str(flavor.get(version))},
    )


def _format(flavor: str, said: Mapping[str, Any], file: str) -> str:
    if flavor != "sklearn" and not file.endswith((".pkl", ".skops", ".pickle")):
        return "own"
    # MLflow's default where the file does not say.
    return str(said.get("serialization_format") or "pickle")


def read_example(data: bytes, *, names: Sequence[str] | None) -> dict[str, list[Any]] | None:
    """The columns of an input example; None if it is no table or matrix.

    Args:
        names: what the columns are called, if that is known; a matrix has no names of its own.
    """
    try:
        said: Any = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return None
    if isinstance(said, dict) and set(said) == {"inputs", "params"}:
        said = said["inputs"]
    if isinstance(said, dict) and {"columns", "data"} <= set(said):
        return _table([str(column) for column in said["columns"]], said["data"])
    if isinstance(said, list) and said and all(isinstance(row, list) for row in said):
        return _table(matrix_columns(len(said[0])) if names is None else names, said)
    return None


def matrix_columns(width: int) -> list[str]:
    """Names of the columns of a matrix, as scikit-learn gives them."""
    return [f"x{column}" for column in range(width)]


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]] | None:
    if not rows or any(len(row) != len(columns) for row in rows):
        return None
    return {name: list(values) for name, values in zip(columns, zip(*rows, strict=True), strict=True)}


def _yaml(data: bytes, *, name: str) -> Mapping[str, Any]:
    try:
        if len(data) > MLMODEL_BYTES_MAX:
            raise ValueError(f"it has more than {MLMODEL_BYTES_MAX} bytes")
        said = yaml.safe_load(data)
        if not isinstance(said, dict):
            raise ValueError("it is no mapping")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"The file {MLMODEL_FILE} of {name} cannot be read: {str(error)[:200]}.", field="version"
        ) from error
    return said


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _example(said: Mapping[str, Any]) -> str | None:
    path = said.get("artifact_path")
    return path if isinstance(path, str) else None


def _inputs(said: Any, *, name: str) -> Signature | None:
    if said is None:
        return None
    try:
        specs = msgspec.json.decode(str(said), type=list[dict[str, Any]])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InvalidInputError(f"The signature of {name} cannot be read: {error}.", field="version") from error
    if len(specs) == 1 and specs[0].get("type") == "tensor" and "name" not in specs[0]:
        return Signature(inputs=list(_matrix(_mapping(specs[0].get("tensor-spec")), name=name)))
    return Signature(inputs=[_column(spec, name=name) for spec in specs])


def _column(spec: Mapping[str, Any], *, name: str) -> Field:
    column, kind = spec.get("name"), spec.get("type")
    if column is None or kind not in _TYPES:
        raise InvalidInputError(
            f"The input {str(column)[:80]!r} of {name} has the type {str(kind)[:80]}, which no package can carry."
            if column is not None
            else f"{name} has an input without a name, which no package can carry.",
            hint="Log the model with a table of named columns as its input: booleans, numbers, text or times.",
            field="version",
        )
    return Field(name=str(column), type=ColumnType(kind), nullable=spec.get("required") is False)


def _matrix(spec: Mapping[str, Any], *, name: str) -> Iterable[Field]:
    shape, kind = spec.get("shape"), _TENSOR_TYPES.get(str(spec.get("dtype")))
    if kind is None or not isinstance(shape, list) or len(shape) != 2 or not 0 < int(shape[1]) <= COLUMNS_MAX:
        raise InvalidInputError(
            f"{name} takes a tensor of shape {str(shape)[:80]} and type {str(spec.get('dtype'))[:80]}, which no "
            "package can carry.",
            hint="Log the model with a table of named columns as its input.",
            field="version",
        )
    return (Field(name=column, type=kind) for column in matrix_columns(int(shape[1])))
