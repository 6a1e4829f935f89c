"""From a call's columns to the matrix that a compiled model takes, and from its scores to the outputs of a signature.

What is done to a column before the arithmetic starts is one look-up or none: encoders of text, of one number for
another and chains of both are composed when the model is compiled. Light on purpose: the data plane imports this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from everline.loader import late

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from scipy import special

    from everline.models.signature import Array

    Floats = npt.NDArray[np.float64]
else:
    np = late("numpy")
    special = late("scipy.special")
    Array = Floats = Any


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column of the matrix.

    Attributes:
        input: the input of the signature that it is made of.
        table: the number that stands for each value; None takes the value as it is.
        unknown: for values that the table lacks; None refuses them.
        null: for a missing value, where there is a table; None refuses it. NaN is written as the text "nan".
    """

    input: str
    table: dict[str, float | None] | None = None
    numeric: bool = False
    unknown: float | str | None = None
    null: float | str | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What surrounds the arithmetic of a compiled model.

    Attributes:
        task: `classifier` or `regressor`.
        link: from scores to what is answered: `identity`, `exp`, `logit`, `half_logit`, `softmax`, `ovr`, `mean`
            (the scores are probabilities), `logit32`.
        classes: labels in the model's order; None for regressors.
        threshold: the label of a binary classifier is its second class from this probability on.
        missing: whether the model takes NaN.
        filled: columns in which NaN is replaced before the model sees it.
        single: whether the matrix is of 32 bits.
    """

    columns: list[Column]
    task: str
    link: str
    classes: list[Any] | None = None
    threshold: float = 0.5
    missing: bool = False
    filled: list[int] = []
    single: bool = False


class Encoder:
    """Makes the matrix of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._steps = [(column.input, None if column.table is None else _Table(column)) for column in plan.columns]
        self._width = len(plan.columns)
        self.dtype: Any = np.float32 if plan.single else np.float64
        kept = [place for place in range(self._width) if not plan.missing and place not in plan.filled]
        self._refusing = slice(None) if len(kept) == self._width else kept

    def matrix(self, arrays: Mapping[str, Array], *, rows: int) -> Floats:
        """The matrix, of shape (rows, columns).

        Raises:
            ValueError: a value that the model cannot take.
        """
        matrix: Any = np.empty((rows, self._width), self.dtype)
        for position, (name, table) in enumerate(self._steps):
            values = arrays[name]
            matrix[:, position] = values if table is None else table.numbers(values)
        if self._refusing and np.isnan(matrix[:, self._refusing]).any():
            raise ValueError("the input contains NaN, which the model does not take")
        made: Floats = matrix
        return made


class _Table:
    def __init__(self, column: Column) -> None:
        keys = (column.table or {}).items()
        self._input = column.input
        self._codes: dict[Any, float] = {float(key) if column.numeric else key: _number(value) for key, value in keys}
        self._unknown = None if column.unknown is None else _number(column.unknown)
        self._null = None if column.null is None else _number(column.null)

    def numbers(self, values: Array) -> list[float]:
        codes = self._codes
        try:
            return [codes[value] for value in values.tolist()]
        except KeyError:
            return [self._one(value) for value in values.tolist()]

    def _one(self, value: Any) -> float:
        found = self._codes.get(value)
        if found is None:
            found = self._null if value is None or value != value else self._unknown
        if found is None:
            raise ValueError(f"the input {self._input!r} holds {value!r}, which the model was not fitted on")
        return found


def _number(value: float | str | None) -> float:
    return float("nan") if value is None or value == "nan" else float(value)


class Link:
    """Makes the outputs of a signature from scores, as the framework itself does it."""

    def __init__(self, plan: Plan) -> None:
        self._name = plan.link
        self._threshold = plan.threshold
        self._classes = None if plan.classes is None else np.asarray(plan.classes)
        if self._classes is not None and self._classes.dtype.kind == "U":
            self._classes = self._classes.astype(object)

    def outputs(self, scores: Floats) -> dict[str, Array]:
        """The outputs for scores of shape (rows, outputs)."""
        return answer_of(_LINKS[self._name](scores), self._classes, threshold=self._threshold)


def answer_of(numbers: Array, classes: Array | None, *, threshold: float) -> dict[str, Array]:
    """The outputs of a signature.

    Args:
        numbers: predictions, or probabilities of each class (of two perhaps only the second), shape (rows, n).
        classes: labels in that order; None for regressors.
        threshold: the label of two is the second from this probability on.
    """
    if classes is None:
        return {"prediction": numbers[:, 0].astype(np.float64)}
    if len(classes) == 2:
        probability = numbers[:, -1].astype(np.float64)
        chosen = (probability >= threshold).astype(np.intp)
    else:
        chosen = numbers.argmax(axis=1)
        probability = numbers[np.arange(len(chosen)), chosen].astype(np.float64)
    return {"probability": np.ascontiguousarray(probability), "label": classes[chosen]}


def _softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=1).reshape(-1, 1))
    normal: Floats = powers / powers.sum(axis=1).reshape(-1, 1)
    return normal


def _one_against_rest(scores: Floats) -> Floats:
    each = special.expit(scores)
    total = each.sum(axis=1)
    each[total == 0] = 1.0
    total[total == 0] = each.shape[1]
    normal: Floats = each / total.reshape(-1, 1)
    return normal


_LINKS: dict[str, Any] = {
    "identity": lambda scores: scores,
    "mean": lambda scores: scores,
    "exp": lambda scores: np.exp(scores),
    "logit": lambda scores: special.expit(scores),
    "half_logit": lambda scores: special.expit(2 * scores),
    "logit32": lambda scores: np.float32(1) / (np.float32(1) + np.exp(-scores)),
    "softmax": _softmax,
    "ovr": _one_against_rest,
}
