"""What a monitor compares with, prepared once per process: reference tables, packages, baselines."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from everline.access.unit_of_work import UnitOfWork
from everline.datasets import service as datasets
from everline.datasets.formats import table_format
from everline.datasets.inspection import local_files
from everline.datasets.reading import read_table
from everline.errors import IntegrityError, InvalidInputError, MissingExtraError, NotFoundError
from everline.models.package import Predictor, fetch_package
from everline.models.signature import SignatureError
from everline.monitoring.drift.columns import blocks_of
from everline.monitoring.profiles import FloatArray
from everline.monitoring.types import Monitor, Reference
from everline.monitoring.windows.blocks import BlockReference, prepare_blocks
from everline.monitoring.windows.quality import QualityBaseline, prepare_quality

KEPT_MAX = 16


class _Kept:
    """A few prepared things by key, the least recently used dropped first; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._things: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def get(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        with self._lock:
            if key in self._things:
                self._things.move_to_end(key)
                return self._things[key]
        made = make()
        with self._lock:
            self._things[key] = made
            while len(self._things) > KEPT_MAX:
                self._things.popitem(last=False)
        return made


_kept = _Kept()


def reference_table(uow: UnitOfWork, reference: Reference, *, project: str) -> pa.Table:
    """The rows of a reference.

    Raises:
        NotFoundError: no such dataset version, or it was deleted.
        InvalidInputError: the version is no table, or lacks the block column.
    """
    detail = datasets.get_version(uow, project, reference.dataset, reference.version)
    kind = table_format([file.path for file in detail.files])
    if kind is None:
        raise InvalidInputError(
            f"The dataset {reference.dataset!r} is no table, so it cannot be a reference.",
            hint="Give a dataset of Parquet, Arrow or CSV files.",
            field="reference.dataset",
        )

    def read() -> pa.Table:
        with local_files(uow.blobs, detail.files) as paths:
            return read_table(paths, kind)

    table: pa.Table = _kept.get(("table", detail.version.files_digest), read)
    if reference.block not in table.column_names:
        raise InvalidInputError(
            f"The dataset {reference.dataset!r} has no column {reference.block!r} to cut it into blocks.",
            hint=f"It has: {', '.join(table.column_names[:40])}.",
            field="reference.block",
        )
    return table


def feature_reference(uow: UnitOfWork, monitor: Monitor, names: Sequence[str]) -> BlockReference:
    """The inputs of the reference, prepared for those of `names` that it has."""
    block = monitor.reference.block

    def prepare() -> BlockReference:
        table = reference_table(uow, monitor.reference, project=monitor.project)
        chosen = [name for name in names if name in table.column_names and name != block]
        return prepare_blocks(blocks_of(table.select([*chosen, block]), by=block, side="reference"))

    found: BlockReference = _kept.get((*_key("features", monitor), *names), prepare)
    return found


def output_reference(uow: UnitOfWork, monitor: Monitor, package: str) -> BlockReference:
    """The outputs of a package on the reference, prepared.

    Raises:
        InvalidInputError: the package cannot answer the reference's rows.
    """

    def prepare() -> BlockReference:
        table, outputs = _scored(uow, monitor, package)
        columns = {name: pa.array(values) for name, values in outputs.items()}
        columns[monitor.reference.block] = table[monitor.reference.block].combine_chunks()
        return prepare_blocks(blocks_of(pa.table(columns), by=monitor.reference.block, side="reference"))

    found: BlockReference = _kept.get((*_key("outputs", monitor), package), prepare)
    return found


def quality_baseline(uow: UnitOfWork, monitor: Monitor, package: str) -> QualityBaseline:
    """The metrics of a package on the reference, per block.

    Raises:
        InvalidInputError: the reference lacks the target, or the package cannot answer its rows.
    """

    def prepare() -> QualityBaseline:
        table, outputs = _scored(uow, monitor, package)
        if monitor.target not in table.column_names:
            raise InvalidInputError(
                f"The dataset {monitor.reference.dataset!r} has no column {monitor.target!r} with the outcome.",
                hint=f"Name it as `target`; it has: {', '.join(table.column_names[:40])}.",
                field="target",
            )
        outcome = np.asarray(table[monitor.target].cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
        chosen = outputs.get(monitor.output, next(iter(outputs.values())))
        predicted = np.asarray(chosen).astype(np.float64)
        known = ~np.isnan(outcome)
        return prepare_quality(_by_block(table[monitor.reference.block], predicted, outcome, known))

    found: QualityBaseline = _kept.get((*_key("quality", monitor), monitor.target, monitor.output, package), prepare)
    return found


def predictor_of(uow: UnitOfWork, package: str | None) -> Predictor | None:
    """The verified package, loaded; None where it is gone, altered, or its framework is not installed here."""
    if package is None:
        return None
    folder = uow.settings.home / "cache" / "packages" / package.removeprefix("sha256:")
    try:
        found: Predictor = _kept.get(
            ("package", package),
            lambda: fetch_package(package, download=uow.blobs.fetch, out_dir=folder).load(run_code=False),
        )
    except (NotFoundError, IntegrityError, MissingExtraError):
        return None
    return found


def _key(what: str, monitor: Monitor) -> tuple[str, ...]:
    reference = monitor.reference
    return (what, monitor.project, reference.dataset, str(reference.version), reference.block)


def _scored(uow: UnitOfWork, monitor: Monitor, package: str) -> tuple[pa.Table, dict[str, Any]]:
    table = reference_table(uow, monitor.reference, project=monitor.project)
    predictor = predictor_of(uow, package)
    if predictor is None:
        raise InvalidInputError(
            f"The package {package} cannot be loaded here, so its answers on the reference are not known.",
            hint="Install the framework of the model beside the control plane, for example `everline[sklearn]`.",
        )
    names = [field.name for field in predictor.signature.inputs]
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise InvalidInputError(
            f"The reference lacks the model's inputs {', '.join(missing)}.",
            hint="Give a dataset with every input of the model.",
            field="reference",
        )
    try:
        return table, dict(predictor.predict({name: table[name].to_pylist() for name in names}))
    except SignatureError as error:
        raise InvalidInputError(
            f"The model cannot answer the reference's rows: {error.message}", hint=error.hint, field="reference"
        ) from error


def _by_block(
    labels: pa.ChunkedArray, predicted: FloatArray, outcome: FloatArray, known: np.ndarray[Any, np.dtype[np.bool_]]
) -> list[tuple[FloatArray, FloatArray]]:
    codes = labels.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return [
        (predicted[inside], outcome[inside])
        for code in range(int(codes.max(initial=-1)) + 1)
        if (inside := (codes == code) & known).any()
    ]
