"""How results become blobs and values again: one form per kind, canonical, and never pickle.

    table   Arrow IPC file (Arrow, pandas and polars alike), uncompressed so that it can be memory-mapped
    array   NumPy's npy format
    json    numbers, text, lists, dicts, dataclasses and msgspec structs, as canonical JSON
    model   what the model's flavor writes, such as skops for scikit-learn
    files   a path or a folder, file by file

Equal values give equal bytes: chunks are joined, what lies under a null is zeroed, and frame metadata that
only one library reads is left out. So a digest compares results, not the way they came about.
"""

from __future__ import annotations

import io
import typing
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from everline.canonical import canonical_digest, canonical_json
from everline.errors import IntegrityError, InvalidInputError
from everline.ids import digest_bytes
from everline.loader import load
from everline.pipelines.graph import is_table, show
from everline.pipelines.types import FileRef, ValueRef
from everline.pipelines.values import Model

FILES_MAX = 10_000


class BlobAccess(Protocol):
    """Where results go: the client's blob calls, or a store itself."""

    def put_bytes(self, data: bytes) -> str:
        """Keep bytes; return their digest."""

    def get_bytes(self, digest: str) -> bytes:
        """The bytes, verified against their digest."""


def encode(value: Any, annotation: Any, blobs: BlobAccess, folder: Path) -> tuple[ValueRef, dict[str, bytes]]:
    """Write one result to the blob store; return its record and the bytes that were written.

    Args:
        annotation: the type that the step announced; the value is checked against it.
        folder: an empty directory for files on the way.

    Raises:
        InvalidInputError: the value is not what was announced, or has no safe form.
    """
    kind = _kind(value, annotation)
    parts, meta = _ENCODERS[kind](value, folder)
    if kind == "json" and annotation is not Any:
        _check_json(parts["value.json"], annotation)
    files = tuple(
        FileRef(path=path, digest=blobs.put_bytes(data), bytes=len(data)) for path, data in sorted(parts.items())
    )
    return ValueRef(kind=kind, digest=value_digest(kind, files, meta), files=files, meta=meta), parts


def value_digest(kind: str, files: tuple[FileRef, ...], meta: dict[str, Any]) -> str:
    """The digest of a result: of its kind, its blobs and its meta, wherever they lie."""
    rows = [{"path": f.path, "digest": f.digest, "bytes": f.bytes} for f in files]
    return canonical_digest({"kind": kind, "files": rows, "meta": meta})


def verify(ref: ValueRef, blobs: BlobAccess) -> dict[str, bytes]:
    """Read a result's blobs; every digest is checked.

    Raises:
        IntegrityError: a blob or the record of the result was altered.
        NotFoundError: a blob is gone.
    """
    if value_digest(ref.kind, ref.files, ref.meta) != ref.digest:
        raise IntegrityError(f"The record of the result {ref.digest} was altered.")
    parts = {file.path: blobs.get_bytes(file.digest) for file in ref.files}
    for file in ref.files:
        if digest_bytes(parts[file.path]) != file.digest:
            raise IntegrityError(f"The blob {file.digest} of a result was altered.")
    return parts


def decode(ref: ValueRef, parts: dict[str, bytes], announced: Any, wanted: Any, *, folder: Path) -> Any:
    """Make the value again from its blobs, in the form that the taking step asks for.

    Args:
        announced: the annotation of the step that made it.
        wanted: the annotation of the parameter that takes it.
        folder: where the files of a `files` result go.
    """
    if ref.kind == "table":
        return as_frame(_read_table(parts["table.arrow"]), wanted)
    if ref.kind == "array":
        return np.load(io.BytesIO(parts["array.npy"]), allow_pickle=False)
    if ref.kind == "json":
        return msgspec.json.decode(parts["value.json"], type=announced if announced is not Any else wanted)
    if ref.kind == "model":
        return _read_model(ref, parts, folder)
    return _read_files(ref, parts, folder)


def _kind(value: Any, annotation: Any) -> str:
    if _is_frame(value) or is_table(annotation):
        if not _is_frame(value):
            raise _unlike(value, annotation)
        return "table"
    if isinstance(value, np.ndarray):
        return "array"
    if isinstance(value, Model):
        return "model"
    if annotation is Model or _is_another(value, annotation):
        raise _unlike(value, annotation)
    return "files" if isinstance(value, Path) else "json"


def _check_json(data: bytes, annotation: Any) -> None:
    try:
        msgspec.json.decode(data, type=annotation)
    except msgspec.ValidationError as error:
        raise InvalidInputError(
            f"It announced {show(annotation)} and returned something else: {error}.",
            hint="Return what the annotation says, or change the annotation.",
        ) from None


def _is_another(value: Any, annotation: Any) -> bool:
    if annotation in (Any, float) or not isinstance(annotation, type):
        return False  # what a checker of static types must find
    return not isinstance(value, annotation)


def _unlike(value: Any, annotation: Any) -> InvalidInputError:
    hint = "Return what the annotation says, or change the annotation."
    if annotation is Model:
        hint = "Return `el.Model(estimator=…, features=(…), target=…)`."
    return InvalidInputError(f"It announced {show(annotation)} and returned a {type(value).__name__}.", hint=hint)


def _library(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _is_frame(value: Any) -> bool:
    return (_library(value), type(value).__name__) in {
        ("pyarrow", "Table"), ("pandas", "DataFrame"), ("polars", "DataFrame"),
    }  # fmt: skip


def as_arrow(value: Any) -> pa.Table:
    """Any frame as an Arrow table; a pandas index that says something becomes a column."""
    if _library(value) == "pandas":
        named = [name for name in value.index.names if name is not None]
        return pa.Table.from_pandas(value.reset_index() if named else value, preserve_index=False)
    if _library(value) == "polars":
        return value.to_arrow()
    return value


def as_frame(table: pa.Table, wanted: Any) -> Any:
    """An Arrow table as the frame that an annotation asks for; Arrow itself if it asks for none."""
    options = typing.get_args(wanted) or (wanted,)
    libraries = {getattr(option, "__module__", "").partition(".")[0] for option in options if is_table(option)}
    if libraries == {"pandas"}:
        return table.to_pandas()
    if libraries == {"polars"}:
        return load("polars").from_arrow(table)
    return table


def canonical_table(table: pa.Table) -> pa.Table:
    """The same rows in one chunk, with zeros under nulls and without library metadata."""
    columns = []
    for column in table.columns:
        chunk = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        array = chunk if isinstance(chunk, pa.Array) else pa.concat_arrays(chunk.chunks)
        columns.append(_without_residue(array))
    fields = [pa.field(f.name, array.type) for f, array in zip(table.schema, columns, strict=True)]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _without_residue(array: pa.Array) -> pa.Array:
    """A slice keeps its parent's bytes and a null keeps what was there before it; a copy keeps neither."""
    if array.null_count == 0 or pa.types.is_nested(array.type) or pa.types.is_dictionary(array.type):
        return pa.concat_arrays([array])
    if pa.types.is_null(array.type):
        return array
    valid = pc.is_valid(array)
    zero = pa.scalar(None, array.type)
    try:
        zero = pa.scalar("", array.type) if _is_text(array.type) else pa.scalar(0, pa.int64()).cast(array.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):  # Arrow has no zero of this type
        return pa.concat_arrays([array])
    filled = pa.concat_arrays([pc.fill_null(array, zero)])
    buffers = filled.buffers()
    buffers[0] = pa.concat_arrays([valid]).buffers()[1]
    return pa.Array.from_buffers(array.type, len(array), buffers)


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _encode_table(value: Any, folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    table = canonical_table(as_arrow(value))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return {"table.arrow": sink.getvalue().to_pybytes()}, {"rows": table.num_rows, "columns": table.num_columns}


def _read_table(data: bytes) -> pa.Table:
    return pa.ipc.open_file(pa.py_buffer(data)).read_all()


def _encode_array(value: Any, folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    buffer = io.BytesIO()
    try:
        np.save(buffer, np.ascontiguousarray(value), allow_pickle=False)
    except ValueError:
        raise InvalidInputError(
            "It returned an array of Python objects, which could only be stored as a pickle.",
            hint="Return an array of numbers or text, or a table.",
        ) from None
    return {"array.npy": buffer.getvalue()}, {"shape": list(value.shape), "dtype": value.dtype.str}


def _encode_json(value: Any, folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    try:
        return {"value.json": canonical_json(msgspec.to_builtins(value, str_keys=True))}, {}
    except TypeError as error:
        raise InvalidInputError(
            f"It returned a {type(value).__name__}, which has no safe form to be stored in ({error}).",
            hint="Return a table, an array, an `el.Model`, a path, or plain values; nothing is ever pickled.",
        ) from None


def _encode_model(value: Model, folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    flavor = load(f"everline.models.flavors.{value.flavor}")
    parts = flavor.to_files(value.estimator)
    meta = {
        "flavor": value.flavor, "features": list(value.features), "target": value.target, "metadata": value.metadata,
    }  # fmt: skip
    return parts, meta


def _read_model(ref: ValueRef, parts: dict[str, bytes], folder: Path) -> Model:
    meta = ref.meta
    estimator = load(f"everline.models.flavors.{meta['flavor']}").from_files(parts)
    return Model(
        estimator=estimator, features=tuple(meta["features"]), target=meta["target"], flavor=meta["flavor"],
        metadata=meta["metadata"],
    )  # fmt: skip


def _encode_files(value: Path, folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    if value.is_file():
        return {value.name: value.read_bytes()}, {"single": True}
    if not value.is_dir():
        raise InvalidInputError(
            f"It returned the path {value}, where there is nothing.", hint="Return a path that exists."
        )
    found = [path for path in sorted(value.rglob("*")) if path.is_file() and not path.is_symlink()]
    if len(found) > FILES_MAX:
        raise InvalidInputError(f"It returned a folder of {len(found)} files, more than {FILES_MAX}.")
    return {path.relative_to(value).as_posix(): path.read_bytes() for path in found}, {"single": False}


def _read_files(ref: ValueRef, parts: dict[str, bytes], folder: Path) -> Path:
    for name, data in parts.items():
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise IntegrityError(f"A result names the file {name!r}, which lies outside its folder.")
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder / next(iter(parts)) if ref.meta.get("single") else folder


_ENCODERS: dict[str, Callable[[Any, Path], tuple[dict[str, bytes], dict[str, Any]]]] = {
    "table": _encode_table,
    "array": _encode_array,
    "json": _encode_json,
    "model": _encode_model,
    "files": _encode_files,
}
