"""How results become files and values again: one form per kind, canonical, and never pickle.

    table   Arrow IPC file (Arrow, pandas and polars alike), uncompressed so that it can be memory-mapped
    array   NumPy's npy format
    json    numbers, text, lists, dicts, dataclasses and msgspec structs, as canonical JSON
    model   what the model's flavor writes, such as skops for scikit-learn
    files   a path or a folder, file by file

Equal values give equal bytes, so a digest compares results, not the way they came about. Files go to a store as they
are written and are mapped into memory when they are read; short JSON values are kept in the record itself.

Light: NumPy and Arrow are loaded by the first value that needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import msgspec

from everline.canonical import canonical_digest, canonical_json
from everline.errors import IntegrityError, InvalidInputError
from everline.ids import digest_bytes
from everline.loader import late, load
from everline.pipelines.annotations import is_table, show
from everline.pipelines.types import FileRef, ValueRef
from everline.pipelines.values import Model

if TYPE_CHECKING:
    from everline.pipelines import columnar
else:
    columnar = late("everline.pipelines.columnar")

FILES_MAX = 10_000
INLINE_BYTES_MAX = 4_096
_FILE_BYTES_MAX = 1 << 40


class Body(Protocol):
    """A file of a result on its way."""

    def __enter__(self) -> Body:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """Forget what was not kept."""

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes."""

    def take(self, file: BinaryIO, *, bytes_max: int) -> None:
        """Add all of an open file."""

    @property
    def bytes(self) -> int:
        """How much was written."""


class ReadStore(Protocol):
    """Where files of results are found."""

    def read(self, digest: str) -> memoryview:
        """The bytes as they lie there, mapped into memory if they can be; whoever needs to know verifies them.

        Raises:
            NotFoundError: there is no such file.
        """


class ResultStore(ReadStore, Protocol):
    """Where files of results go, and are found."""

    def incoming(self) -> Body:
        """A new file to be written and then kept."""

    def keep(self, body: Body) -> str:
        """Keep a file that is whole, in place of what lies under its digest; return that."""


def encode(value: Any, annotation: Any, store: ResultStore) -> ValueRef:
    """Write one result to the store; return its record.

    Args:
        annotation: the type that the step announced; the value is checked against it.

    Raises:
        InvalidInputError: the value is not what was announced, or has no safe form.
    """
    kind = _kind(value, annotation)
    encoded, meta = _ENCODERS[kind](value, annotation, store)
    files = tuple(sorted(encoded, key=lambda file: file.path))
    return ValueRef(kind=kind, digest=value_digest(kind, files, meta), files=files, meta=meta)


def value_digest(kind: str, files: tuple[FileRef, ...], meta: dict[str, Any]) -> str:
    """The digest of a result: of its kind, its files and its meta, wherever they lie."""
    rows = [{"path": f.path, "digest": f.digest, "bytes": f.bytes} for f in files]
    return canonical_digest({"kind": kind, "files": rows, "meta": meta})


def verify(ref: ValueRef, store: ReadStore) -> None:
    """Read every byte of a result and compare its digests.

    Raises:
        IntegrityError: a file or the record of the result was altered.
        NotFoundError: a file is gone.
    """
    if value_digest(ref.kind, ref.files, ref.meta) != ref.digest:
        raise IntegrityError(f"The record of the result {ref.digest} was altered.")
    for file in ref.files:
        if digest_bytes(content(file, store)) != file.digest:
            raise IntegrityError(f"The blob {file.digest} of a result was altered.")


def content(file: FileRef, store: ReadStore) -> memoryview:
    """The bytes of one file of a result."""
    return memoryview(file.text.encode()) if file.text is not None else store.read(file.digest)


def bytes_of(file: FileRef, read: Callable[[str], bytes]) -> bytes:
    """The bytes of one file of a result.

    Args:
        read: gives the bytes of a blob by its digest.
    """
    return read(file.digest) if file.text is None else file.text.encode()


def json_of(ref: ValueRef, read: Callable[[str], bytes]) -> Any:
    """The value of a result of the kind `json`; `read` as in `bytes_of`."""
    return msgspec.json.decode(bytes_of(ref.files[0], read))


def decode(ref: ValueRef, store: ReadStore, announced: Any, wanted: Any, *, folder: Path) -> Any:
    """Make the value again from its files, in the form that the taking step asks for.

    Args:
        announced: the annotation of the step that made it; None if nobody knows.
        wanted: the annotation of the parameter that takes it.
        folder: where the files of a `files` result go.
    """
    parts = {file.path: content(file, store) for file in ref.files}
    if ref.kind == "table":
        return columnar.as_frame(columnar.read_table(parts["table.arrow"]), wanted)
    if ref.kind == "array":
        return columnar.read_array(parts["array.npy"])
    if ref.kind == "json":
        kind = announced if announced not in (None, Any) else wanted
        return msgspec.json.decode(parts["value.json"], type=kind)
    if ref.kind == "model":
        return _read_model(ref, {path: bytes(data) for path, data in parts.items()})
    return _read_files(ref, parts, folder)


def _kind(value: Any, annotation: Any) -> str:
    if _is_frame(value) or is_table(annotation):
        if not _is_frame(value):
            raise _unlike(value, annotation)
        return "table"
    if _names(value) == ("numpy", "ndarray"):
        return "array"
    if isinstance(value, Model):
        return "model"
    if annotation is Model or _is_another(value, annotation):
        raise _unlike(value, annotation)
    return "files" if isinstance(value, Path) else "json"


def _is_another(value: Any, annotation: Any) -> bool:
    if annotation in (Any, float) or not isinstance(annotation, type):
        return False  # what a checker of static types must find
    return not isinstance(value, annotation)


def _unlike(value: Any, annotation: Any) -> InvalidInputError:
    hint = "Return what the annotation says, or change the annotation."
    if annotation is Model:
        hint = "Return `el.Model(estimator=…, features=(…), target=…)`."
    if value is None:
        hint = "A path through the function ends without `return`; return a value there, or annotate `-> None`."
    return InvalidInputError(f"It announced {show(annotation)} and returned a {type(value).__name__}.", hint=hint)


def _names(value: Any) -> tuple[str, str]:
    return type(value).__module__.partition(".")[0], type(value).__name__


def _is_frame(value: Any) -> bool:
    return _names(value) in {("pyarrow", "Table"), ("pandas", "DataFrame"), ("polars", "DataFrame")}


_Encoded = tuple[list[FileRef], dict[str, Any]]


def _kept(path: str, store: ResultStore, write: Callable[[Body], None]) -> FileRef:
    with store.incoming() as body:
        write(body)
        size = body.bytes
        return FileRef(path=path, digest=store.keep(body), bytes=size)


def _encode_table(value: Any, annotation: Any, store: ResultStore) -> _Encoded:
    table = columnar.as_arrow(value)
    file = _kept("table.arrow", store, lambda body: columnar.write_table(table, body))
    return [file], {"rows": table.num_rows, "columns": table.num_columns}


def _encode_array(value: Any, annotation: Any, store: ResultStore) -> _Encoded:
    file = _kept("array.npy", store, lambda body: columnar.write_array(value, body))
    return [file], {"shape": list(value.shape), "dtype": value.dtype.str}


def _encode_json(value: Any, annotation: Any, store: ResultStore) -> _Encoded:
    try:
        data = canonical_json(msgspec.to_builtins(value, str_keys=True))
    except TypeError as error:
        raise InvalidInputError(
            f"It returned a {type(value).__name__}, which has no safe form to be stored in ({error}).",
            hint="Return a table, an array, an `el.Model`, a path, or plain values; nothing is ever pickled.",
        ) from None
    if annotation is not Any:
        try:
            msgspec.json.decode(data, type=annotation)
        except msgspec.ValidationError as error:
            raise InvalidInputError(
                f"It announced {show(annotation)} and returned something else: {error}.",
                hint="Return what the annotation says, or change the annotation.",
            ) from None
    if len(data) <= INLINE_BYTES_MAX:
        file = FileRef(path="value.json", digest=digest_bytes(data), bytes=len(data), text=data.decode())
    else:
        file = _kept("value.json", store, lambda body: body.write(data))
    return [file], {}


def _encode_model(value: Model, annotation: Any, store: ResultStore) -> _Encoded:
    parts = load(f"everline.models.flavors.{value.flavor}").to_files(value.estimator)
    meta = {
        "flavor": value.flavor, "features": list(value.features), "target": value.target, "metadata": value.metadata,
    }  # fmt: skip
    files = []
    for path, data in parts.items():
        files.append(_kept(path, store, lambda body, data=data: body.write(data)))  # type: ignore[misc]
    return files, meta


def _read_model(ref: ValueRef, parts: dict[str, bytes]) -> Model:
    meta = ref.meta
    estimator = load(f"everline.models.flavors.{meta['flavor']}").from_files(parts)
    return Model(
        estimator=estimator, features=tuple(meta["features"]), target=meta["target"], flavor=meta["flavor"],
        metadata=meta["metadata"],
    )  # fmt: skip


def _encode_files(value: Path, annotation: Any, store: ResultStore) -> _Encoded:
    if value.is_file():
        return [_copied(value.name, value, store)], {"single": True}
    if not value.is_dir():
        raise InvalidInputError(
            f"It returned the path {value}, where there is nothing.", hint="Return a path that exists."
        )
    found = [path for path in sorted(value.rglob("*")) if path.is_file() and not path.is_symlink()]
    if len(found) > FILES_MAX:
        raise InvalidInputError(f"It returned a folder of {len(found)} files, more than {FILES_MAX}.")
    return [_copied(path.relative_to(value).as_posix(), path, store) for path in found], {"single": False}


def _copied(name: str, path: Path, store: ResultStore) -> FileRef:
    with path.open("rb") as file:
        return _kept(name, store, lambda body: body.take(file, bytes_max=_FILE_BYTES_MAX))


def _read_files(ref: ValueRef, parts: dict[str, memoryview], folder: Path) -> Path:
    for name, data in parts.items():
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise IntegrityError(f"A result names the file {name!r}, which lies outside its folder.")
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder / next(iter(parts)) if ref.meta.get("single") else folder


_ENCODERS: dict[str, Callable[[Any, Any, ResultStore], _Encoded]] = {
    "table": _encode_table,
    "array": _encode_array,
    "json": _encode_json,
    "model": _encode_model,
    "files": _encode_files,
}
