"""scikit-learn models: written by skops, read back against an explicit list of types, asked bit for bit the same.

Never pickle: loading a pickle runs whatever its author wrote. skops rebuilds objects from named types,
and refuses every type that is neither its own default nor in `TRUSTED_TYPES`.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import sklearn
import skops
import skops.io
import threadpoolctl
from skops.io.exceptions import UntrustedTypesFoundException

from everline.errors import IntegrityError, InvalidInputError
from everline.ids import digest_bytes
from everline.loader import load
from everline.models.flavors.sklearn_indices import check_indices
from everline.models.flavors.tables import (
    NUMBERS,
    check_names,
    check_same,
    row_independent,
    same_answers,
    with_outputs,
    write_around,
)
from everline.models.predictor import NATIVE
from everline.models.signature import (
    Array,
    ColumnType,
    OutputField,
    Signature,
    check_columns,
)

if TYPE_CHECKING:
    from everline.models.compiling.writing import Compiled
    from everline.models.package import Package

MODEL_FILE = "model.skops"
TRUSTED_TYPES = (
    "functools.partial",
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils.validation.check_array",
)
"""Types beyond the defaults of skops that a package may hold: data containers and pure functions only."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What `metadata.flavor` of a manifest says about a scikit-learn model.

    Attributes:
        task: `classifier` or `regressor`.
        threshold: the label of a binary classifier is its second class from this probability on.
        named: whether the model takes a table with column names, or a matrix of float64.
        row_independent: whether an answer is the same in a batch of any size. If not (BLAS sums in another
            order for other shapes), rows are asked one by one, so that a replay is equal bit for bit.
    """

    task: str
    threshold: float = 0.5
    named: bool = True
    row_independent: bool = True
    sklearn_version: str
    skops_version: str


class SklearnModel:
    """A fitted estimator that answers with the outputs of its signature, on one thread."""

    def __init__(self, estimator: Any, signature: Signature, facts: Facts) -> None:
        self._estimator = estimator
        self._names = [field.name for field in signature.inputs]
        self._facts = facts
        self.rows_alone = not facts.row_independent
        self._threads = threadpoolctl.ThreadpoolController()
        pandas = load("pandas") if facts.named else None
        self._frame = None if pandas is None else pandas.DataFrame
        infers = pandas is not None and int(pandas.__version__.partition(".")[0]) >= 3
        self._texts = [field.name for field in signature.inputs if infers and field.type is ColumnType.STRING]

    def predict(self, arrays: Mapping[str, Array], *, rows: int) -> dict[str, Array]:
        """Answer all rows at once, or one by one where the model's arithmetic depends on the batch."""
        with self._threads.limit(limits=1):
            if self._facts.row_independent or rows <= 1:
                return self._answer(arrays)
            single = [
                self._answer({name: array[row : row + 1] for name, array in arrays.items()}) for row in range(rows)
            ]
        return {name: np.concatenate([answer[name] for answer in single]) for name in single[0]}

    def predict_plainly(self, arrays: Mapping[str, Array], *, rows: int) -> Array:
        """What the estimator's own `predict` says, row by row."""
        with self._threads.limit(limits=1):
            said = [
                np.asarray(self._estimator.predict(self._table({n: a[row : row + 1] for n, a in arrays.items()})))
                for row in range(rows)
            ]
        answers = np.concatenate(said).reshape(-1)
        return answers.astype(np.float64) if self._facts.task == "regressor" else answers

    def _answer(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        given = self._table(arrays)
        if self._facts.task == "regressor":
            return {"prediction": np.asarray(self._estimator.predict(given), dtype=np.float64).reshape(-1)}
        probabilities = np.asarray(self._estimator.predict_proba(given), dtype=np.float64)
        classes = self._estimator.classes_
        if len(classes) == 2:
            probability = probabilities[:, 1]
            chosen = (probability >= self._facts.threshold).astype(np.intp)
        else:
            chosen = probabilities.argmax(axis=1)
            probability = probabilities[np.arange(len(chosen)), chosen]
        return {"probability": np.ascontiguousarray(probability), "label": np.asarray(classes)[chosen]}

    def _table(self, arrays: Mapping[str, Array]) -> Any:
        if self._frame is not None:
            frame = self._frame({name: arrays[name] for name in self._names})
            # pandas 3 takes a column for text where it sees some; nulls alone would be another null than beside text.
            alone = [name for name in self._texts if frame[name].dtype == object and frame[name].isna().all()]
            return frame.astype(dict.fromkeys(alone, "str")) if alone else frame
        return np.column_stack([np.asarray(arrays[name], dtype=np.float64) for name in self._names])


def write_model(
    model: Any, signature: Signature, *, directory: Path, metadata: Mapping[str, Any], probe: Signature
) -> tuple[Signature, dict[str, Any]]:
    """Write a fitted estimator and what goes with it; return the whole signature and the flavor's facts.

    Args:
        probe: what rows are made up from to ask the model while it is written.

    Raises:
        InvalidInputError: the estimator is not fitted, holds something that skops cannot write or this
            list does not trust, or does not answer calls that fit the signature.
    """
    outputs, task = _outputs(model)
    written = _dump(model)
    signature = with_outputs(signature, outputs)
    named = getattr(model, "feature_names_in_", None)
    check_names(signature, [] if named is None else [str(name) for name in named])
    facts = Facts(
        task=task,
        threshold=float(metadata.get("threshold", 0.5)),
        named=named is not None or any(field.type not in NUMBERS for field in signature.inputs),
        sklearn_version=sklearn.__version__,
        skops_version=skops.__version__,
    )
    independent = row_independent(SklearnModel(model, signature, facts), signature, probe)
    facts = msgspec.structs.replace(facts, row_independent=independent)
    (directory / MODEL_FILE).write_bytes(written)
    needs = ("scikit-learn", "skops", "pandas", "threadpoolctl")
    write_around(directory, signature, probe=probe, needs=needs, flavor=_flavors(facts))
    return signature, msgspec.to_builtins(facts)


def compilable(
    model: Any, signature: Signature, facts: Mapping[str, Any]
) -> tuple[SklearnModel, Callable[[], Compiled]]:
    """The model as it answers by itself, and how it is compiled."""
    said = msgspec.convert(facts, Facts)
    compiling = load("everline.models.compiling.sklearn")
    return SklearnModel(model, signature, said), partial(
        compiling.compile_model, model, signature, threshold=said.threshold
    )


def to_files(model: Any) -> dict[str, bytes]:
    """A fitted estimator as named bytes, equal for equal models: how a pipeline keeps the result of a step."""
    return {MODEL_FILE: _dump(model)}


def from_files(files: Mapping[str, bytes]) -> Any:
    """The estimator that `to_files` wrote.

    Raises:
        IntegrityError: the bytes hold a type that is not trusted, or an index that leads out of its tree.
    """
    try:
        model = skops.io.loads(files[MODEL_FILE], trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException as error:
        raise IntegrityError(f"The model file {MODEL_FILE} was not loaded: {error}.") from error
    check_indices(model)
    return model


def read_model(path: Path, *, written_by: str) -> Any:
    """The estimator in a skops file.

    Args:
        written_by: which version of scikit-learn wrote it, for errors.

    Raises:
        IntegrityError: the file holds a type that is not trusted or an index that leads out of its tree, or is not
            a skops file.
    """
    try:
        model = skops.io.load(path, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException as error:
        raise IntegrityError(
            f"The model file {path.name} was not loaded: {error}.",
            hint="Build the model from scikit-learn's own estimators; custom classes are not loaded.",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, zipfile.BadZipFile) as error:
        raise IntegrityError(
            f"The model file {path.name} cannot be read by scikit-learn {sklearn.__version__} "
            f"(written by {written_by}): {error}."
        ) from error
    check_indices(model)
    return model


def load_model(package: Package) -> SklearnModel:
    """Load the estimator of a verified package.

    Raises:
        IntegrityError: the file holds a type that is not trusted, or is not a skops file.
    """
    facts = msgspec.convert(package.manifest.metadata.get("flavor"), Facts)
    estimator = read_model(package.directory / MODEL_FILE, written_by=facts.sklearn_version)
    return SklearnModel(estimator, package.manifest.signature, facts)


def check_written(model: Any, package: Package, *, probe: Signature) -> None:
    """Ask the written model and the given one the same made-up rows; they must answer with the same bits."""
    facts = msgspec.convert(package.manifest.metadata["flavor"], Facts)
    check_same(SklearnModel(model, package.manifest.signature, facts), package.load(), probe)


def check_answers(model: Any, package: Package, columns: Mapping[str, Any]) -> None:
    """Ask the given model some rows as whoever fitted it would; the package must answer with the same bits.

    `check_written` compares how both are asked here; this compares with plain `predict`, one row at a time and on
    one thread, for the sums of BLAS depend on the number of rows.

    Raises:
        SignatureError: the rows do not fit the signature.
        InvalidInputError: an answer differs.
    """
    facts = msgspec.convert(package.manifest.metadata["flavor"], Facts)
    call = check_columns(package.manifest.signature, columns)
    given = SklearnModel(model, package.manifest.signature, facts)
    answered = package.load().predict_checked(call, NATIVE)
    expected = given.predict(call.arrays, rows=call.rows) | {
        "prediction" if facts.task == "regressor" else "label": given.predict_plainly(call.arrays, rows=call.rows)
    }
    if not same_answers(expected, answered):
        raise InvalidInputError(
            "The package answers its input example differently than the model's own `predict`, so it was refused.",
            hint="Where `predict` and `predict_proba` disagree (as in SVC), wrap the model in CalibratedClassifierCV.",
            field="model",
        )


def _outputs(model: Any) -> tuple[list[OutputField], str]:
    if hasattr(model, "classes_") and hasattr(model, "predict_proba"):
        kinds = {"b": ColumnType.BOOLEAN, "i": ColumnType.LONG, "u": ColumnType.LONG, "f": ColumnType.DOUBLE}
        label = kinds.get(np.asarray(model.classes_).dtype.kind, ColumnType.STRING)
        return [
            OutputField(name="probability", type=ColumnType.DOUBLE),
            OutputField(name="label", type=label),
        ], "classifier"
    if hasattr(model, "predict") and hasattr(model, "n_features_in_") and not hasattr(model, "classes_"):
        return [OutputField(name="prediction", type=ColumnType.DOUBLE)], "regressor"
    raise InvalidInputError(
        f"A {type(model).__name__} cannot be packaged: it is neither a fitted classifier with probabilities "
        "nor a fitted regressor.",
        hint="Call fit first; wrap a classifier without predict_proba in CalibratedClassifierCV.",
        field="model",
    )


def _dump(model: Any) -> bytes:
    """Write a model so that equal models have equal bytes.

    skops names things by their address in memory and stamps the time; here every array is named by its
    content, addresses are dropped and the clock is the zip epoch.
    """
    try:
        source = zipfile.ZipFile(io.BytesIO(skops.io.dumps(model)))
        schema = json.loads(source.read("schema.json"))
        untrusted = set(skops.io.get_untrusted_types(data=skops.io.dumps(model))) - set(TRUSTED_TYPES)
    except Exception as error:  # skops raises whatever the object's own reduction raises
        raise InvalidInputError(
            f"The model cannot be written without pickle: {error}",
            hint="Build it from scikit-learn's own estimators and transformers.",
            field="model",
        ) from error
    if untrusted:
        raise InvalidInputError(
            f"The model holds types that are not trusted: {', '.join(sorted(untrusted))}.",
            hint="Build it from scikit-learn's own estimators; move custom code into a pipeline step before the model.",
            field="model",
        )
    contents: dict[str, bytes] = {}
    _canonical_names(schema, source, contents)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=zipfile.ZIP_DEFLATED, compresslevel=6) as target:
        for name in sorted(contents):
            target.writestr(_zip_info(name), contents[name])
        target.writestr(_zip_info("schema.json"), json.dumps(schema, separators=(",", ":")))
    return buffer.getvalue()


def _canonical_names(node: Any, source: zipfile.ZipFile, contents: dict[str, bytes]) -> None:
    if isinstance(node, dict):
        node.pop("__id__", None)
        if isinstance(node.get("file"), str) and "__loader__" in node:
            data = source.read(node["file"])
            node["file"] = digest_bytes(data).removeprefix("sha256:")[:32] + Path(node["file"]).suffix
            contents[node["file"]] = data
        children: Any = node.values()
    else:
        children = node if isinstance(node, list) else ()
    for child in children:
        _canonical_names(child, source, contents)


def _zip_info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    return info


def _flavors(facts: Facts) -> dict[str, dict[str, Any]]:
    """How MLflow's clients load it."""
    return {
        "python_function": {"loader_module": "mlflow.sklearn", "model_path": MODEL_FILE, "predict_fn": "predict"},
        "sklearn": {
            "pickled_model": MODEL_FILE,
            "serialization_format": "skops",
            "skops_trusted_types": list(TRUSTED_TYPES),
            "sklearn_version": facts.sklearn_version,
            "code": None,
        },
    }
