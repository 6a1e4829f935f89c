"""What a package says about its runtimes: which there are, how they compare, and why one is missing.

It stands in the manifest under `metadata.runtimes`. No time that was measured is in it, for a package's digest must be
the same each time that it is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from everline.errors import IntegrityError

COMPILED_FILE = "model.onnx"
TOLERANCE = 1e-6
ROWS_MAX = 10_000
"""Most real rows that two runtimes are compared on."""


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Real rows to compare on, and what they are called in the finding."""

    columns: Mapping[str, Any]
    name: str


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """How two runtimes of a model compare.

    Attributes:
        rows: how many were asked.
        sample: which rows: `evaluation rows and made-up rows`, or what else was there.
        difference_max: of two answered numbers, rounded up to a power of ten so that it is the same wherever the
            package is built; 0 if all have the same bits.
        flips: labels that differ.
        same_bits: whether every number has the same bits.
        batches: whether the compiled model gives a row the same bits in a batch of any size.
        refusals: groups of rows that one of both refuses and the other answers.
    """

    rows: int
    sample: str
    difference_max: float
    flips: int
    same_bits: bool
    batches: bool
    refusals: list[str] = []


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What came of compiling a model.

    Attributes:
        compiled: whether the package holds a compiled model, `model.onnx`.
        reason: in a sentence, why it is kept or why it is not.
        tolerance: how far two answered numbers may be apart.
        flips_max: how many labels may differ.
        native_from_rows: requests of so many rows and more are answered by the framework itself; None means none.
        parity: how the answers compare; None if nothing was compiled.
    """

    compiled: bool
    reason: str
    tolerance: float
    flips_max: int = 0
    native_from_rows: int | None = None
    parity: Parity | None = None


def finding_of(metadata: Mapping[str, Any]) -> Finding | None:
    """The finding in a manifest's metadata; None in packages that were built without one.

    Raises:
        IntegrityError: it cannot be read.
    """
    said = metadata.get("runtimes")
    try:
        return None if said is None else msgspec.convert(said, Finding)
    except msgspec.ValidationError as error:
        raise IntegrityError(f"What the package manifest says about its runtimes cannot be read: {error}.") from error


def judged(parity: Parity, *, tolerance: float, flips_max: int, native_from_rows: int | None) -> Finding:
    """Decide whether a compiled model is kept."""
    against = []
    if parity.difference_max > tolerance:
        against.append(f"numbers differ by up to {parity.difference_max:g}, more than {tolerance:g}")
    if parity.flips > flips_max:
        against.append(f"{parity.flips} of {parity.rows} labels differ")
    if not parity.batches:
        against.append("its answers depend on the size of the batch")
    if parity.refusals:
        against.append(f"only one of both answers {', '.join(parity.refusals[:3])}")
    how = "with the same bits" if parity.same_bits else f"within {parity.difference_max:g} of the model's own"
    return Finding(
        compiled=not against,
        reason="; ".join(against) if against else f"it answers {parity.rows} rows {how}",
        tolerance=tolerance,
        flips_max=flips_max,
        native_from_rows=None if against else native_from_rows,
        parity=parity,
    )


def runtimes_told(metadata: Mapping[str, Any]) -> str | None:
    """The finding in a line for people: which runtimes there are, and why; None where nothing was found out."""
    finding = finding_of(metadata)
    if finding is None:
        return None
    large = "" if finding.native_from_rows is None else f", from {finding.native_from_rows} rows on native"
    return f"onnx{large}: {finding.reason}" if finding.compiled else f"native: {finding.reason}"
