"""Whether a compiled model gives the answers of the model that it was made of: on real rows, and on the awkward ones.

Awkward are nulls, categories that nobody was fitted on, and numbers on and right beside the thresholds of trees,
where a conversion that rounds goes the other way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from everline.models.compiling.findings import ROWS_MAX, Parity
from everline.models.predictor import LoadedModel
from everline.models.signature import (
    Array,
    Checked,
    ColumnType,
    Signature,
    SignatureError,
    check_columns,
    example_columns,
)

ALONE_ROWS_MAX = 300
MADE_UP_ROWS = 257
THRESHOLDS_MAX = 48
BATCHES = (1, 7, 128)
_UNSEEN = "everline: a value that nobody has seen"
_NUMBERS = frozenset({ColumnType.INTEGER, ColumnType.LONG, ColumnType.FLOAT, ColumnType.DOUBLE})

Columns = Mapping[str, Sequence[Any] | Array]


def compare(
    native: LoadedModel,
    compiled: LoadedModel,
    signature: Signature,
    *,
    probe: Signature,
    sample: Columns | None,
    sample_name: str,
    thresholds: Mapping[str, Sequence[float]],
) -> Parity:
    """Ask both models the same rows.

    Args:
        probe: what rows are made up from.
        sample: real rows; None asks made-up rows only.
        thresholds: by input, numbers at which an answer may jump.
    """
    rows_max = ALONE_ROWS_MAX if native.rows_alone else ROWS_MAX
    groups = {"made-up rows": example_columns(probe, rows=MADE_UP_ROWS)}
    if sample is not None:
        groups = {sample_name: _spread(sample, rows_max)} | groups
    groups |= _awkward(signature, probe, thresholds)
    rows, flips, asked = 0, 0, []
    difference, refusals, same_bits = 0.0, [], True
    for name, columns in groups.items():
        try:
            call = check_columns(signature, columns)
        except SignatureError:
            continue  # rows that no endpoint would let through
        rows += call.rows
        asked.append(name)
        answers = [_answer(model, call) for model in (native, compiled)]
        if answers[0] is None or answers[1] is None:
            if answers[0] is not answers[1]:
                refusals.append(name)
            continue
        worst, flipped = _difference(answers[0], answers[1])
        difference, flips = max(difference, worst), flips + flipped
        same_bits = same_bits and worst == 0.0
    return Parity(
        rows=rows,
        sample=" and ".join(name for name in asked if name in (sample_name, "made-up rows")),
        difference_max=_rounded_up(difference),
        flips=flips,
        same_bits=same_bits,
        batches=_same_in_any_batch(compiled, check_columns(signature, groups["made-up rows"])),
        refusals=refusals,
    )


def _spread(sample: Columns, rows_max: int) -> dict[str, Any]:
    """Rows from the whole of a sample, evenly."""
    rows = len(next(iter(sample.values()), ()))
    chosen = np.unique(np.linspace(0, rows - 1, min(rows, rows_max)).astype(int)).tolist()
    return {name: [values[row] for row in chosen] for name, values in sample.items()}


def _awkward(
    signature: Signature, probe: Signature, thresholds: Mapping[str, Sequence[float]]
) -> dict[str, dict[str, list[Any]]]:
    base = {name: values[0] for name, values in example_columns(probe, rows=1).items()}
    groups: dict[str, dict[str, list[Any]]] = {}

    def with_values(name: str, values: list[Any]) -> dict[str, list[Any]]:
        return {other: values if other == name else [value] * len(values) for other, value in base.items()}

    for field in signature.inputs:
        if field.nullable:
            groups[f"null in {field.name}"] = with_values(field.name, [None])
        if field.type is ColumnType.STRING:
            groups[f"an unseen category in {field.name}"] = with_values(field.name, [_UNSEEN])
        if field.type in _NUMBERS and thresholds.get(field.name):
            whole = field.type in (ColumnType.INTEGER, ColumnType.LONG)
            near = _near(thresholds[field.name], whole=whole)
            groups[f"thresholds of {field.name}"] = with_values(field.name, near)
    return groups


def _near(thresholds: Sequence[float], *, whole: bool) -> list[Any]:
    finite = sorted({value for value in thresholds if math.isfinite(value) and abs(value) < 1e30})
    step = max(1, len(finite) // THRESHOLDS_MAX)
    if whole:
        return sorted({math.floor(value) + more for value in finite[::step] for more in (0, 1)})
    return [
        near
        for value in finite[::step]
        for near in (math.nextafter(value, -math.inf), value, math.nextafter(value, math.inf))
    ]


def _answer(model: LoadedModel, call: Checked) -> dict[str, Array] | None:
    try:
        return model.predict(call.arrays, rows=call.rows)
    except (ValueError, TypeError, KeyError):
        return None


def _difference(native: Mapping[str, Array], compiled: Mapping[str, Array]) -> tuple[float, int]:
    worst, flips = 0.0, 0
    for name, before in native.items():
        after = compiled[name]
        if name == "label":
            flips += sum(one != other for one, other in zip(before.tolist(), after.tolist(), strict=True))
        elif before.tobytes() != after.tobytes():
            apart = np.abs(np.asarray(before, np.float64) - np.asarray(after, np.float64))
            worst = max(worst, float(np.where(np.isnan(before) & np.isnan(after), 0.0, apart).max()))
            worst = math.inf if math.isnan(worst) else worst
    return worst, flips


def _rounded_up(difference: float) -> float:
    if difference == 0.0 or not math.isfinite(difference):
        return difference
    return float(f"1e{math.ceil(math.log10(difference))}")


def _same_in_any_batch(model: LoadedModel, call: Checked) -> bool:
    whole = _answer(model, call)
    if whole is None:
        return True
    for batch in BATCHES:
        for start in range(0, call.rows, batch):
            part = slice(start, min(start + batch, call.rows))
            answer = model.predict({name: array[part] for name, array in call.arrays.items()}, rows=part.stop - start)
            if any(answer[name].tolist() != array[part].tolist() for name, array in whole.items()):
                return False
    return True
