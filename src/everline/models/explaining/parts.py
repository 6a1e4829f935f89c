"""What an exact explanation needs of a model, `explanation.npz` in a package: its trees or weights, and their columns.

Arrays only, read without pickle; equal models give equal bytes. With it a data plane explains without the framework.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from everline.errors import IntegrityError
from everline.models.compiling.trees import Floats, Trees

if TYPE_CHECKING:
    from everline.models.compiling.features import Feature

EXPLANATION_FILE = "explanation.npz"
NODES_MAX = 60_000
"""Larger forests are explained by sampling: an exact explanation looks at every leaf."""
_ARRAYS = ("roots", "feature", "threshold", "left", "right", "missing_left", "value", "cover", "base")


class Chain(msgspec.Struct, frozen=True):
    """A column that reaches trees or weights: which input it is made of, from which column of the matrix, and how."""

    input: str
    column: int
    ops: list[tuple[str, float | None]] = []


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What stands beside the arrays.

    Attributes:
        divide: the sum of the trees is divided by it.
        rounded: whether numbers are compared as 32 bits hold them.
        background: what the mean values of a linear model are of; empty for trees, which know their cover.
    """

    kind: str
    link: str
    chains: list[Chain]
    divide: float = 1.0
    rounded: bool = False
    strict: bool = False
    single: bool = False
    members: list[tuple[int, list[int]]] = []
    background: str = ""


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """A model's parts in memory: trees, or weights with intercept and means."""

    about: About
    trees: Trees | None = None
    weights: Any = None
    intercept: Any = None
    means: Any = None


def chains_of(features: Sequence[Feature], columns: Sequence[Any]) -> list[Chain]:
    """How features are made of the matrix's columns."""
    found = []
    for feature in features:
        ops = [(op, None if value != value else value) for op, value in feature.ops]
        found.append(Chain(feature.input, list(columns).index(feature.column()), ops))
    return found


def write_parts(parts: Parts, path: Path) -> bool:
    """Write the parts of a model; whether it is small enough to be explained exactly."""
    trees = parts.trees
    if trees is not None and len(trees.left) > NODES_MAX:
        return False
    arrays = {"weights": parts.weights, "intercept": parts.intercept, "means": parts.means}
    if trees is not None:
        arrays = {name: getattr(trees, name) for name in _ARRAYS}
    about = np.frombuffer(msgspec.json.encode(parts.about, order="sorted"), np.uint8)
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for name, array in sorted({**arrays, "about": about}.items()):
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, buffer.getvalue())
    return True


def read_parts(path: Path) -> Parts:
    """The parts that `write_parts` wrote.

    Raises:
        IntegrityError: the file is something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            about = msgspec.json.decode(file["about"].tobytes(), type=About)
            if about.kind == "linear":
                return Parts(about=about, weights=file["weights"], intercept=file["intercept"], means=file["means"])
            arrays = {name: file[name] for name in _ARRAYS}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, msgspec.DecodeError) as error:
        raise IntegrityError(f"The file {path.name} cannot be read: {str(error)[:200]}.") from error
    members = {node: tuple(codes) for node, codes in about.members}
    return Parts(about=about, trees=Trees(**arrays, members=members, strict=about.strict, single=about.single))


def feature_rows(parts: Parts, matrix: Floats) -> Floats:
    """The columns as trees or weights take them, of the matrix that a compiled model takes."""
    made = np.empty((len(matrix), len(parts.about.chains)))
    for position, chain in enumerate(parts.about.chains):
        values = np.asarray(matrix[:, chain.column], np.float64)
        for op, number in chain.ops:
            values = _OPS[op](values, np.nan if number is None else number)
        made[:, position] = values
    return made.astype(np.float32).astype(np.float64) if parts.about.rounded else made


_OPS: dict[str, Any] = {
    "fill": lambda values, number: np.where(np.isnan(values), number, values),
    "sub": lambda values, number: values - number,
    "div": lambda values, number: values / number,
    "mul": lambda values, number: values * number,
    "add": lambda values, number: values + number,
    "equal": lambda values, number: (values == number).astype(np.float64),
}
