"""Compile a model into its package, compare both, and keep the compiled one or say why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from everline.errors import InvalidInputError
from everline.models.compiling.features import NotCompiledError
from everline.models.compiling.findings import COMPILED_FILE, Finding, Rows, judged
from everline.models.compiling.onnx_runtime import OnnxModel
from everline.models.compiling.parity import MADE_UP_ROWS, compare
from everline.models.explaining.parts import EXPLANATION_FILE, Parts, feature_rows, write_parts
from everline.models.predictor import LoadedModel
from everline.models.requirements import REQUIREMENTS_FILE, installed_closure, parse_requirements
from everline.models.signature import Signature, SignatureError, check_columns, example_columns


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled model before it is compared.

    Attributes:
        content: the ONNX file.
        thresholds: by input, the numbers at which an answer may jump.
        parts: what an exact explanation needs.
        native_from_rows: from how many rows on the framework itself is faster; None where it never is.
    """

    content: bytes
    thresholds: Mapping[str, list[float]]
    parts: Parts
    native_from_rows: int | None = None


def write_compiled(
    compiling: Callable[[], Compiled],
    native: LoadedModel | None,
    signature: Signature,
    *,
    directory: Path,
    probe: Signature,
    rows: Rows | None,
    tolerance: float,
) -> Finding:
    """Put the compiled model beside the model, if it gives the same answers.

    Args:
        compiling: makes it.
        native: the model as it answers by itself; None where it is never compiled.
        probe: what rows are made up from.
        tolerance: how far two answered numbers may be apart, 0 or more.

    Raises:
        InvalidInputError: the tolerance is negative.
    """
    if not tolerance >= 0:
        raise InvalidInputError(
            f"The tolerance of a compiled model cannot be {tolerance}.", hint="Give 0 or more.", field="tolerance"
        )
    path = directory / COMPILED_FILE
    try:
        compiled = compiling()
        path.write_bytes(compiled.content)
        model = OnnxModel(path)
    except NotCompiledError as error:
        return Finding(compiled=False, reason=str(error), tolerance=tolerance)
    if native is None:
        raise AssertionError("a model that is compiled answers by itself as well")
    parity = compare(
        native,
        model,
        signature,
        probe=probe,
        sample=None if rows is None else rows.columns,
        sample_name="" if rows is None else rows.name,
        thresholds=compiled.thresholds,
    )
    finding = judged(parity, tolerance=tolerance, flips_max=0, native_from_rows=compiled.native_from_rows)
    if not finding.compiled:
        path.unlink()
        return finding
    parts = _with_means(compiled.parts, model, signature, probe=probe, rows=rows)
    if parts is not None:
        write_parts(parts, directory / EXPLANATION_FILE)
    listed = directory / REQUIREMENTS_FILE
    pins = parse_requirements(listed.read_text()) | installed_closure("onnxruntime")
    listed.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))
    return finding


def _with_means(
    parts: Parts, model: OnnxModel, signature: Signature, *, probe: Signature, rows: Rows | None
) -> Parts | None:
    """A linear model's parts with the mean of each column, with which an explanation compares; None without rows."""
    if parts.trees is not None:
        return parts
    name, columns = (
        ("made-up rows", example_columns(probe, rows=MADE_UP_ROWS)) if rows is None else (rows.name, rows.columns)
    )
    try:
        call = check_columns(signature, columns)
        means = feature_rows(parts, model.matrix(call.arrays, rows=call.rows)).mean(axis=0)
    except (SignatureError, ValueError):  # rows that the model does not answer: explanations are sampled then
        return None
    about = msgspec.structs.replace(parts.about, background=name)
    return msgspec.structs.replace(parts, means=means, about=about)


def thresholds_of(features: list[Any], trees: Any) -> dict[str, list[float]]:
    """The thresholds of trees by the input that is compared as it comes.

    Args:
        features: what each column of the trees is made of.
    """
    found: dict[str, set[float]] = {}
    if trees is None:
        return {}
    inner = trees.left >= 0
    for place, threshold in zip(trees.feature[inner].tolist(), trees.threshold[inner].tolist(), strict=True):
        feature = features[place]
        if feature.table is None and not feature.ops:
            found.setdefault(feature.input, set()).add(threshold)
    return {name: sorted(values) for name, values in found.items()}
