"""What flavors of models that take a table of numbers share: the matrix, the outputs, the files beside the model."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from everline.errors import InvalidInputError
from everline.models.predictor import EXAMPLE_FILE, NATIVE, LoadedModel, Predictor
from everline.models.requirements import REQUIREMENTS_FILE, pinned_requirements
from everline.models.signature import Array, ColumnType, OutputField, Signature, check_columns, example_columns

NUMBERS = frozenset({ColumnType.INTEGER, ColumnType.LONG, ColumnType.FLOAT, ColumnType.DOUBLE, ColumnType.BOOLEAN})
PROBE_ROWS = 257
PROBE_BATCHES = (1, 2, 7, 64)
PROBES_MAX = 7
"""How many batches of a size are asked."""


def check_numbers(signature: Signature, *, framework: str, width: int) -> None:
    """Refuse a signature whose inputs are no numbers, or not as many as the model takes."""
    text = [field.name for field in signature.inputs if field.type not in NUMBERS]
    if text:
        raise InvalidInputError(
            f"The inputs {', '.join(text[:5])} are no numbers, which is all that a package of {framework} takes.",
            hint="Encode them in a scikit-learn pipeline that ends in the model, or before the model is asked.",
            field="signature",
        )
    if width != len(signature.inputs):
        raise InvalidInputError(
            f"The model was fitted on {width} columns, but the signature has {len(signature.inputs)}.",
            hint="Infer the signature from the very table that the model was fitted on.",
            field="signature",
        )


def check_names(signature: Signature, names: Sequence[str]) -> None:
    """Refuse a signature with other columns, or in another order, than the model was fitted on."""
    called = [field.name for field in signature.inputs]
    if names and list(names) != called:
        raise InvalidInputError(
            f"The model was fitted on the columns {', '.join(names)}, but the signature has {', '.join(called)}.",
            hint="Infer the signature from the very table that the model was fitted on.",
            field="signature",
        )


def matrix(arrays: Mapping[str, Array], names: Sequence[str], *, rows: int, dtype: Any) -> Array:
    """The columns side by side, shape (rows, columns); null is NaN."""
    made: Array = np.empty((rows, len(names)), dtype)
    for position, name in enumerate(names):
        made[:, position] = arrays[name]
    return made


def outputs_of(classes: Sequence[Any] | None) -> list[OutputField]:
    """The outputs of a classifier with these labels, or of a regressor."""
    if classes is None:
        return [OutputField(name="prediction", type=ColumnType.DOUBLE)]
    kinds = {bool: ColumnType.BOOLEAN, int: ColumnType.LONG, float: ColumnType.DOUBLE}
    label = kinds.get(type(classes[0]), ColumnType.STRING)
    return [OutputField(name="probability", type=ColumnType.DOUBLE), OutputField(name="label", type=label)]


def with_outputs(signature: Signature, outputs: list[OutputField]) -> Signature:
    """The signature with the outputs that the model has.

    Raises:
        InvalidInputError: the signature says otherwise.
    """
    if signature.outputs and signature.outputs != outputs:
        listed = ", ".join(f"{output.name} ({output.type})" for output in outputs)
        raise InvalidInputError(
            f"The model answers with {listed}, but the signature says otherwise.",
            hint="Leave the outputs of the signature empty; they are filled in from the model.",
            field="signature",
        )
    return Signature(inputs=signature.inputs, outputs=outputs)


def row_independent(model: LoadedModel, signature: Signature, probe: Signature) -> bool:
    """Whether a row gets the same bits in a batch of any size, as far as probing tells.

    Args:
        probe: what rows are made up from.

    Raises:
        InvalidInputError: the model does not answer rows that fit the signature.
    """
    columns = example_columns(probe, rows=PROBE_ROWS)
    try:
        arrays = check_columns(signature, columns).arrays
        whole = model.predict(arrays, rows=PROBE_ROWS)
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInputError(
            f"The model does not answer rows that fit the signature: {error}",
            hint="Infer the signature from the very table that the model was fitted on; "
            "name only columns as nullable that the model can take NaN in.",
            field="signature",
        ) from error
    if any(array.shape != (PROBE_ROWS,) for array in whole.values()):
        raise InvalidInputError(
            "The model gives more than one answer for a row, which no package can carry.",
            hint="Package one model for each target.",
            field="model",
        )
    for batch in PROBE_BATCHES:
        for start in range(0, PROBE_ROWS, batch):
            part = slice(start, min(start + batch, PROBE_ROWS))
            answer = model.predict({name: array[part] for name, array in arrays.items()}, rows=part.stop - start)
            if not same_answers(answer, {name: array[part] for name, array in whole.items()}):
                return False
            if start >= PROBES_MAX * batch:
                break
    return True


def same_answers(left: Mapping[str, Array], right: Mapping[str, Array]) -> bool:
    """Whether two answers have the same bits."""
    return all(
        left[name].tolist() == right[name].tolist()
        if left[name].dtype.kind in "OU"
        else left[name].tobytes() == right[name].tobytes()
        for name in left
    )


def check_same(given: LoadedModel, predictor: Predictor, probe: Signature) -> None:
    """Ask the written model and the given one the same made-up rows; they must answer with the same bits."""
    call = check_columns(predictor.signature, example_columns(probe, rows=64))
    if not same_answers(given.predict(call.arrays, rows=call.rows), predictor.predict_checked(call, NATIVE)):
        raise InvalidInputError("The model answers differently after it was written and read back, so it was refused.")


def write_around(
    directory: Path, signature: Signature, *, probe: Signature, needs: Sequence[str], flavor: Mapping[str, Any]
) -> None:
    """Write what lies beside a model: its requirements, made-up rows, and the description for MLflow's clients.

    Args:
        needs: distributions whose installed versions the model needs.
        flavor: MLflow's flavors by name, `python_function` among them.
    """
    (directory / REQUIREMENTS_FILE).write_text(pinned_requirements(*needs))
    example = json.dumps({"inputs": example_columns(probe, rows=3)}, indent=1)
    (directory / EXAMPLE_FILE).write_text(example + "\n")
    inputs = [{"name": f.name, "type": str(f.type), "required": not f.nullable} for f in signature.inputs]
    outputs = [{"name": f.name, "type": str(f.type), "required": True} for f in signature.outputs]
    described = {
        "flavors": {
            name: {**said, "python_version": platform.python_version()} if name == "python_function" else dict(said)
            for name, said in flavor.items()
        },
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None},
    }
    (directory / "MLmodel").write_text(yaml.safe_dump(described, sort_keys=True))
