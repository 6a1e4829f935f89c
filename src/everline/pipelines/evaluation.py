"""A model measured on a table: metrics of all rows with a known outcome, and of slices of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from everline.errors import InvalidInputError
from everline.models.evaluation import BoolArray, FloatArray, metrics
from everline.models.fairness import fairness_gaps
from everline.pipelines.values import Evaluation, Model, Slice

SLICES_MAX = 1_000


def probabilities(model: Model, table: pa.Table) -> FloatArray:
    """Return the model's probability of a positive outcome for each row, shape (n,).

    Raises:
        InvalidInputError: the table lacks an input of the model, or the model gives no probabilities.
    """
    missing = [name for name in model.features if name not in table.column_names]
    if missing:
        raise InvalidInputError(
            f"The table lacks the model's input {missing[0]!r}.",
            hint="Evaluate on a table made like the training one.",
            field=missing[0],
        )
    predict = getattr(model.estimator, "predict_proba", None)
    if predict is None:
        raise InvalidInputError(
            f"A {type(model.estimator).__name__} gives no probabilities.", hint="Use a classifier with `predict_proba`."
        )
    answer = np.asarray(predict(table.select(list(model.features)).to_pandas()), dtype=np.float64)
    if answer.ndim != 2 or answer.shape[1] != 2:
        raise InvalidInputError(
            f"The model answers with shape {answer.shape}; two classes are expected.", hint="Use a two-class model."
        )
    return answer[:, 1]


def evaluate_table(
    model: Model, table: pa.Table, *, slices: Sequence[str] = (), dataset: str = "", digest: str = ""
) -> Evaluation:
    """Measure a model on the rows of a table whose outcome is known, and on slices of them.

    Args:
        table: the model's inputs and its target, which is boolean or 0/1; rows without a target are left out.
        slices: columns; each value of one gives a slice.
        dataset: what the evidence says the rows are.
        digest: content digest of the table.

    Raises:
        InvalidInputError: the target or a slice column is missing, or no row has a known outcome.
    """
    for name in (model.target, *slices):
        if name not in table.column_names:
            raise InvalidInputError(
                f"The table has no column {name!r}.", hint=f"It has {', '.join(table.column_names)}.", field=name
            )
    known = table.filter(pc.is_valid(table[model.target]))
    if known.num_rows == 0:
        raise InvalidInputError(
            "No row has a known outcome.", hint="Evaluate where the truth is known.", field=model.target
        )
    outcome = _outcome(known[model.target])
    probability = probabilities(model, known)
    return Evaluation(
        dataset=dataset, digest=digest, n=outcome.size, metrics=metrics(outcome, probability),
        slices=[found for name in slices for found in _slices(name, known[name], outcome, probability)],
    )  # fmt: skip


def fairness_of_table(
    model: Model,
    table: pa.Table,
    *,
    protected: Sequence[str],
    threshold: float,
    good: str,
    dataset: str = "",
    digest: str = "",
) -> dict[str, Any]:
    """Measure how the groups of protected attributes fare on the rows whose outcome is known, as `fairness` evidence.

    Args:
        protected: columns of the table; they need not be inputs of the model, and should not be.
        threshold: where the decision turns; `good`, `above` or `below`, is the side that a person wants to be on.

    Raises:
        InvalidInputError: a column is missing, has one group or too many, or no row has a known outcome.
    """
    for name in (model.target, *protected):
        if name not in table.column_names:
            raise InvalidInputError(
                f"The table has no column {name!r}.", hint=f"It has {', '.join(table.column_names)}.", field=name
            )
    known = table.filter(pc.is_valid(table[model.target]))
    if known.num_rows == 0 or not protected:
        raise InvalidInputError("There is no row with a known outcome, or no protected attribute.", field="protected")
    gaps = fairness_gaps(
        _outcome(known[model.target]),
        probabilities(model, known),
        {name: known[name].to_pylist() for name in protected},
        threshold=threshold,
        good=good,
    )
    return {
        "gaps": gaps, "threshold": threshold, "good": good, "attributes": list(protected), "n": known.num_rows,
        "dataset": dataset, "digest": digest,
    }  # fmt: skip


def _outcome(column: pa.ChunkedArray) -> BoolArray:
    values = column.to_numpy()
    if values.dtype != np.bool_ and not np.isin(values, (0, 1)).all():
        raise InvalidInputError(
            "The target is neither boolean nor 0 and 1.", hint="Only two-class models are evaluated."
        )
    outcome: BoolArray = values.astype(np.bool_)
    return outcome


def _slices(name: str, column: pa.ChunkedArray, outcome: BoolArray, probability: FloatArray) -> list[Slice]:
    codes = column.combine_chunks().dictionary_encode()
    values: list[Any] = codes.dictionary.to_pylist()
    if len(values) > SLICES_MAX:
        raise InvalidInputError(
            f"Column {name!r} has {len(values)} values, more than {SLICES_MAX} slices.",
            hint="Slice by a coarser column.",
            field=name,
        )
    place = codes.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    found = []
    for index, value in sorted(enumerate(values), key=lambda pair: str(pair[1])):
        rows = place == index
        if value is not None and rows.any():
            found.append(
                Slice(by=name, value=str(value), n=int(rows.sum()), metrics=metrics(outcome[rows], probability[rows]))
            )
    return found
