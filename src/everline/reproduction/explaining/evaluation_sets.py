"""Two evaluation sets side by side: other rows, other columns, or the same rows with another label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from everline.errors import EverlineError
from everline.loader import late
from everline.pipelines import serialisers
from everline.pipelines.stores import VerifiedStore
from everline.pipelines.types import ValueRef
from everline.storage.blobs import BlobStore

if TYPE_CHECKING:
    import pyarrow as pa

    from everline.datasets import arrow
    from everline.pipelines import columnar
else:  # they stand on Arrow, which most requests never need
    pa, arrow = late("pyarrow"), late("everline.datasets.arrow")
    columnar = late("everline.pipelines.columnar")

BYTES_MAX = 1 << 30


class Compared(NamedTuple):
    """What differs, one sentence each, and whether it is the label alone."""

    changes: tuple[str, ...]
    label_only: bool = False


def compare(blobs: BlobStore, before: ValueRef, after: ValueRef, *, target: str | None) -> Compared:
    """Compare two kept tables.

    Args:
        target: the column with the outcome, or None if that is not known.
    """
    if sum(file.bytes for ref in (before, after) for file in ref.files) > BYTES_MAX:
        return Compared(("too large to be compared column by column",))
    try:
        old, new = (_columns(blobs, ref) for ref in (before, after))
    except EverlineError as error:
        return Compared((error.message,))
    changes = [] if old.rows == new.rows else [f"rows {old.rows} → {new.rows}"]
    changes += [f"column {name} added" for name in new.digests if name not in old.digests]
    changes += [f"column {name} removed" for name in old.digests if name not in new.digests]
    other = [name for name, digest in new.digests.items() if old.digests.get(name, digest) != digest]
    if not changes and other == [target]:
        return Compared((f"the same {new.rows} rows with another outcome: {target}",), label_only=True)
    if not changes:
        changes = [f"column {name}: other values" for name in other]
    return Compared(tuple(changes))


def target_of(taken: dict[str, ValueRef]) -> str | None:
    """The column that a model predicts, if a step takes one model."""
    found = {ref.meta.get("target") for ref in taken.values() if ref.kind == "model"}
    only: Any = found.pop() if len(found) == 1 else None
    return only if isinstance(only, str) else None


class _Table(NamedTuple):
    rows: int
    digests: dict[str, str]


def _columns(blobs: BlobStore, ref: ValueRef) -> _Table:
    store = VerifiedStore(blobs)
    serialisers.verify(ref, store)
    table: pa.Table = columnar.read_table(serialisers.content(ref.files[0], store))
    names = table.column_names
    return _Table(
        table.num_rows,
        {name: f"{table.schema.field(i).type} {arrow.column_digest(table.column(i))}" for i, name in enumerate(names)},
    )
