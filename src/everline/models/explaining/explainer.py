"""Explanations of a package's answers: exact where the package holds its trees or weights, sampled otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from everline.models.compiling.trees import Floats
from everline.models.explaining.parts import EXPLANATION_FILE, Parts, feature_rows, read_parts
from everline.models.explaining.sampled import sampled_contributions
from everline.models.explaining.tree_shap import TreeShap
from everline.models.predictor import LoadedModel
from everline.models.signature import Array, Checked, Signature, check_columns, example_columns

if TYPE_CHECKING:
    from everline.models.compiling.onnx_runtime import OnnxModel

BACKGROUND_ROWS = 16
_SCALES = {
    "logit": "log-odds", "logit32": "log-odds", "softmax": "log-odds", "ovr": "log-odds", "half_logit": "half log-odds",
    "exp": "logarithm", "mean": "output", "identity": "output",
}  # fmt: skip


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What each input contributed to each row's answer; base and contributions sum to `output`.

    Attributes:
        method: `trees, path-dependent`, `linear, interventional` or `permutations, sampled`.
        output: name of what is explained, such as `probability`.
        scale: `output` where contributions are in its own unit, else `log-odds`, `half log-odds` or `logarithm`.
        background: what an input is compared with: `training cover`, `training rows`, `made-up rows`.
        values: by row, the sum: the answer on that scale. Of three and more classes that of the answered label.
        standard_errors: of sampled contributions, by input and row; None where they are exact.
    """

    method: str
    output: str
    scale: str
    background: str
    base: list[float]
    values: list[float]
    contributions: dict[str, list[float]]
    standard_errors: dict[str, list[float]] | None = None


class ExactExplainer:
    """Explains by the trees or weights that a package holds."""

    def __init__(self, path: Path, model: OnnxModel, signature: Signature) -> None:
        """Read the package's `explanation.npz`.

        Raises:
            IntegrityError: it is something else.
        """
        self._parts = read_parts(path)
        self._model = model
        self._inputs = [field.name for field in signature.inputs]
        self._output = signature.outputs[0].name
        self._trees = None if self._parts.trees is None else TreeShap(self._parts.trees)

    def explain(self, call: Checked) -> Explanation:
        """Explain each row of a call."""
        about = self._parts.about
        rows = feature_rows(self._parts, self._model.matrix(call.arrays, rows=call.rows))
        base, each = self._trees_of(rows) if self._trees is not None else _linear(self._parts, rows)
        values = base + each.sum(axis=1)
        chosen = values.argmax(axis=1) if values.shape[1] > 1 else np.zeros(call.rows, int)
        place = np.arange(call.rows)
        picked = each[place, :, chosen]
        contributions = {name: np.zeros(call.rows) for name in self._inputs}
        for position, chain in enumerate(about.chains):
            contributions[chain.input] = contributions[chain.input] + picked[:, position]
        return Explanation(
            method="linear, interventional" if self._trees is None else "trees, path-dependent",
            output=self._output,
            scale=_SCALES[about.link],
            background=about.background or "training cover",
            base=np.broadcast_to(base, values.shape)[place, chosen].tolist(),
            values=values[place, chosen].tolist(),
            contributions={name: found.tolist() for name, found in contributions.items()},
        )

    def _trees_of(self, rows: Floats) -> tuple[Floats, Floats]:
        assert self._trees is not None
        divide = self._parts.about.divide
        each = self._trees.contributions(rows, features=len(self._parts.about.chains))
        return self._trees.base / divide, each / divide


class SampledExplainer:
    """Explains any model by asking it many made-up mixtures of the row and of background rows."""

    def __init__(self, model: LoadedModel, signature: Signature) -> None:
        self._model = model
        self._output = next(out.name for out in signature.outputs if out.name != "label")
        self._background = check_columns(signature, example_columns(signature, rows=BACKGROUND_ROWS)).arrays

    def explain(self, call: Checked) -> Explanation:
        """Explain each row of a call."""
        found = [
            sampled_contributions(
                self._ask, {name: array[row : row + 1] for name, array in call.arrays.items()}, self._background
            )
            for row in range(call.rows)
        ]
        names = list(call.arrays)
        return Explanation(
            method="permutations, sampled",
            output=self._output,
            scale="output",
            background="made-up rows",
            base=[base for base, _, _ in found],
            values=[base + sum(each.values()) for base, each, _ in found],
            contributions={name: [each[name] for _, each, _ in found] for name in names},
            standard_errors={name: [errors[name] for _, _, errors in found] for name in names},
        )

    def _ask(self, arrays: Mapping[str, Array], rows: int) -> Floats:
        answer: Any = self._model.predict(arrays, rows=rows)[self._output]
        return np.asarray(answer, np.float64)


def explainer_of(
    directory: Path, signature: Signature, *, compiled: OnnxModel | None, model: LoadedModel
) -> ExactExplainer | SampledExplainer:
    """The exact explainer where the package holds what it needs, else the sampled one."""
    path = directory / EXPLANATION_FILE
    if compiled is not None and path.exists():
        return ExactExplainer(path, compiled, signature)
    return SampledExplainer(model, signature)


def _linear(parts: Parts, rows: Floats) -> tuple[Floats, Floats]:
    """Weight times distance from the mean, which is SHAP's value of a linear model with independent inputs."""
    base: Floats = parts.intercept + parts.weights @ parts.means
    each: Floats = (rows - parts.means)[:, :, None] * parts.weights.T[None, :, :]
    return base, each
