"""A model package: a directory named by the digest of its manifest, and checked before anything in it is loaded.

    MLmodel              what MLflow clients read
    everline.json        the manifest: canonical JSON; its SHA-256 is the package digest
    model.skops          the model, without pickle (see docs/adr/0006-skops-not-pickle.md)
    model.onnx           the model compiled, if that gives the same answers (docs/adr/0036-compiled-models.md)
    explanation.npz      the trees or weights of a compiled model, for exact explanations
    requirements.txt     the versions of everything the model needs, as installed where it was built
    input_example.json   made-up rows that fit the signature

Rules that every door keeps (`open_package`, `fetch_package`):
1. The manifest is read once, from bytes whose digest is the package digest.
2. The directory holds the files that the manifest lists and no others; no links, no paths that leave it.
3. Every file has the size and digest that the manifest gives.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from everline.canonical import canonical_json
from everline.errors import EverlineError, IntegrityError, InvalidInputError, MissingExtraError
from everline.ids import digest_bytes, digest_file, new_uid
from everline.loader import load
from everline.models.compiling.findings import COMPILED_FILE, TOLERANCE, Finding, Rows, finding_of
from everline.models.predictor import NATIVE, LoadedModel
from everline.models.predictor import Predictor as Predictor  # whoever opens a package asks it
from everline.models.signature import Signature

MANIFEST_FILE = "everline.json"
MANIFEST_BYTES_MAX = 4 << 20
PACKAGE_FILES_MAX = 256
PACKAGE_BYTES_MAX = 8 << 30
_FLAVORS = {
    "sklearn": "everline.models.flavors.sklearn",
    "xgboost": "everline.models.flavors.xgboost",
    "lightgbm": "everline.models.flavors.lightgbm",
    "onnx": "everline.models.flavors.onnx",
    "function": "everline.models.flavors.function",
    "pyfunc": "everline.models.flavors.pyfunc",
}
_MAY_HOLD_PICKLES = frozenset({"pyfunc"})
_RUNS_CODE = frozenset({"function", "pyfunc"})


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a package: its path with forward slashes, its digest, its size."""

    path: str
    digest: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a package is, in its own words.

    Attributes:
        schema: version of this layout.
        created_from: `run`, `code`, `environment`, `data`: what the model was made of, by digest or uid.
        metadata: the builder's own facts, and under `flavor` what the flavor needs to load and ask the model.
    """

    schema: int = 1
    flavor: str
    signature: Signature
    files: list[FileEntry]
    created_from: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """A package on disk whose every byte matched its manifest when it was opened."""

    digest: str
    manifest: Manifest
    manifest_bytes: bytes
    directory: Path

    def load(self, *, allow_pickle: bool = False, run_code: bool = True) -> Predictor:
        """Load the model into this process; a function or an MLflow model is started in one of its own.

        Args:
            allow_pickle: whether an MLflow model may hold pickles; they are loaded in its own process only.
            run_code: whether a model that is code may run at all: never in the control plane.

        Raises:
            MissingExtraError: the framework is not installed.
            IntegrityError: the model file holds types outside of the flavor's allow list, or pickles.
            ModelFailedError: the model's own process cannot load it.
        """
        if self.manifest.flavor in _RUNS_CODE and not run_code:
            raise IntegrityError(
                f"The package {self.digest} is code of its own ({self.manifest.flavor}), which is not run here.",
                hint="Ask it where it is served, or from your own machine with the Python client.",
            )
        if self.manifest.flavor in _MAY_HOLD_PICKLES:
            _flavor(self.manifest.flavor).check_pickles(self, allowed=allow_pickle)
        finding = finding_of(self.manifest.metadata)
        if finding is None or not finding.compiled or find_spec("onnxruntime") is None:
            return Predictor(self, {NATIVE: self._load_native})
        runtimes = {"onnx": self._load_compiled, NATIVE: self._load_native}
        return Predictor(self, runtimes, native_from_rows=finding.native_from_rows)

    def _load_native(self) -> LoadedModel:
        for entry in self.manifest.files:
            if entry.path != COMPILED_FILE:
                _check_file(self.directory / entry.path, entry)  # it may be loaded long after the package was opened
        loaded: LoadedModel = _flavor(self.manifest.flavor).load_model(self)
        return loaded

    def _load_compiled(self) -> LoadedModel:
        loaded: LoadedModel = load("everline.models.compiling.onnx_runtime").OnnxModel(self.directory / COMPILED_FILE)
        return loaded


def build_package(
    model: Any,
    *,
    signature: Signature,
    out_dir: Path,
    flavor: str = "sklearn",
    metadata: Mapping[str, Any] | None = None,
    created_from: Mapping[str, Any] | None = None,
    probe: Signature | None = None,
    rows: Rows | None = None,
    tolerance: float = TOLERANCE,
) -> Package:
    """Write a model as a package and read it back once, to be sure that it answers as the model does.

    Args:
        model: a fitted estimator of the flavor's framework.
        signature: inputs in the model's order; outputs may be empty, the flavor knows them.
        out_dir: a directory that does not exist yet, or is empty.
        metadata: JSON facts to carry along; `threshold` (default 0.5) decides the label of a binary classifier.
        created_from: `{"run": uid, "code": digest, "environment": digest, "data": [digests]}`.
        probe: the inputs with ranges and categories that rows are made up from, to ask the model while it is
            written; None takes those of `signature`, which come from the training table.
        rows: real rows on which the compiled model is compared with the model; None makes rows up.
        tolerance: how far their answers may be apart; labels may never differ.

    Raises:
        InvalidInputError: the model cannot be written without pickle, or does not fit the signature.
        MissingExtraError: the framework is not installed.
    """
    if out_dir.exists() and any(out_dir.iterdir()):
        raise InvalidInputError(
            f"The directory {out_dir} is not empty, so no package was written.",
            hint="Give a directory that does not exist yet.",
            field="out_dir",
        )
    out_dir.mkdir(parents=True, exist_ok=True)
    facts = {**(metadata or {})}
    written = _flavor(flavor).write_model(model, signature, directory=out_dir, metadata=facts, probe=probe or signature)
    signature, facts["flavor"] = written
    finding = _compiled(
        flavor, model, signature, facts=facts, directory=out_dir, probe=probe or signature, rows=rows,
        tolerance=tolerance,
    )  # fmt: skip
    facts["runtimes"] = msgspec.to_builtins(finding)
    paths = sorted(path.relative_to(out_dir).as_posix() for path in out_dir.rglob("*") if path.is_file())
    manifest = Manifest(
        flavor=flavor,
        signature=signature,
        files=[_entry(out_dir, path) for path in paths],
        created_from=dict(created_from or {}),
        metadata=facts,
    )
    manifest_bytes = canonical_json(msgspec.to_builtins(manifest))
    (out_dir / MANIFEST_FILE).write_bytes(manifest_bytes)
    package = open_package(out_dir, digest=digest_bytes(manifest_bytes))
    _flavor(flavor).check_written(model, package, probe=probe or package.manifest.signature)
    return package


def open_package(directory: Path, *, digest: str | None = None) -> Package:
    """Verify a package directory and return it.

    Args:
        digest: the package digest that is expected; None accepts whichever package this is.

    Raises:
        IntegrityError: anything in the directory is not what the manifest says; the message names the file.
    """
    try:
        with (directory / MANIFEST_FILE).open("rb") as file:
            manifest_bytes = file.read(MANIFEST_BYTES_MAX + 1)
    except OSError as error:
        raise IntegrityError(f"There is no readable {MANIFEST_FILE} in {directory}, so it is no package.") from error
    _check_digest(manifest_bytes, digest)
    manifest = parse_manifest(manifest_bytes)
    listed = {entry.path for entry in manifest.files} | {MANIFEST_FILE}
    for path in directory.rglob("*"):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink():
            raise IntegrityError(f"The package file {name!r} is a link; packages hold plain files only.")
        if not path.is_dir() and name not in listed:
            raise IntegrityError(f"The package holds a file that its manifest does not list: {name!r}.")
    for entry in manifest.files:
        _check_file(directory / entry.path, entry)
    return Package(
        digest=digest_bytes(manifest_bytes), manifest=manifest, manifest_bytes=manifest_bytes, directory=directory
    )


def parse_manifest(manifest_bytes: bytes) -> Manifest:
    """Read a manifest from bytes that were already checked against a digest or signature.

    Raises:
        IntegrityError: too large, malformed, not canonical, or with a path that leaves the package.
    """
    if len(manifest_bytes) > MANIFEST_BYTES_MAX:
        raise IntegrityError(f"The package manifest is larger than {MANIFEST_BYTES_MAX} bytes.")
    try:
        manifest = msgspec.json.decode(manifest_bytes, type=Manifest)
        canonical = canonical_json(msgspec.json.decode(manifest_bytes))
    except (msgspec.DecodeError, InvalidInputError) as error:
        raise IntegrityError(f"The package manifest cannot be read: {error}.") from error
    if canonical != manifest_bytes:
        raise IntegrityError("The package manifest is not canonical JSON, so its digest would not be its name.")
    if manifest.schema != 1:
        raise IntegrityError(
            f"The package manifest has layout {manifest.schema}; this version reads layout 1.",
            hint="Update everline to the version that built the package.",
        )
    if len(manifest.files) > PACKAGE_FILES_MAX or sum(entry.bytes for entry in manifest.files) > PACKAGE_BYTES_MAX:
        raise IntegrityError(f"The package lists more than {PACKAGE_FILES_MAX} files or {PACKAGE_BYTES_MAX} bytes.")
    for entry in manifest.files:
        _check_path(entry.path)
    if len({entry.path for entry in manifest.files}) != len(manifest.files):
        raise IntegrityError("The package manifest lists a file twice.")
    return manifest


def store_package(package: Package, *, put_bytes: Callable[[bytes], object], put_file: Callable[[Path], object]) -> str:
    """Put every file of a package, then its manifest, into a blob store; return the package digest.

    Args:
        put_bytes, put_file: store one blob under its digest, such as the methods of `BlobStore`.
    """
    for entry in package.manifest.files:
        put_file(package.directory / entry.path)
    put_bytes(package.manifest_bytes)
    return package.digest


def fetch_package(digest: str, *, download: Callable[[str, Path], object], out_dir: Path) -> Package:
    """Build a package directory from blobs, verify it, and only then give it its name.

    Args:
        download: writes the blob of a digest to a path.
        out_dir: where the package shall be; one that is already there and intact is kept, a damaged one replaced.

    Raises:
        IntegrityError: a blob is not what its digest says; `out_dir` does not appear.
    """
    damage: IntegrityError | None = None
    if out_dir.is_dir():
        try:
            return open_package(out_dir, digest=digest)
        except IntegrityError as error:
            damage = error
    building = out_dir.with_name(f".{out_dir.name}.{new_uid()}")
    building.mkdir(parents=True)
    try:
        _download_files(digest, download=download, directory=building)
        if damage is not None:
            shutil.rmtree(out_dir)
        building.rename(out_dir)
    except EverlineError as error:
        if damage is not None:
            raise IntegrityError(f"{damage.message} It could not be fetched again: {error.message}") from error
        raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return open_package(out_dir, digest=digest)


def _download_files(digest: str, *, download: Callable[[str, Path], object], directory: Path) -> None:
    download(digest, directory / MANIFEST_FILE)
    manifest_bytes = (directory / MANIFEST_FILE).read_bytes()
    _check_digest(manifest_bytes, digest)
    for entry in parse_manifest(manifest_bytes).files:
        target = directory / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        download(entry.digest, target)
        _check_file(target, entry)


def _flavor(name: str) -> Any:
    if name not in _FLAVORS:
        raise InvalidInputError(
            f"There is no model flavor {name!r}.", hint=f"Use one of: {', '.join(_FLAVORS)}.", field="flavor"
        )
    return load(_FLAVORS[name])


def _compiled(
    flavor: str,
    model: Any,
    signature: Signature,
    *,
    facts: Mapping[str, Any],
    directory: Path,
    probe: Signature,
    rows: Rows | None,
    tolerance: float,
) -> Finding:
    try:
        writing = load("everline.models.compiling.writing")
        native, compiling = _flavor(flavor).compilable(model, signature, facts["flavor"])
        finding: Finding = writing.write_compiled(
            compiling, native, signature, directory=directory, probe=probe, rows=rows, tolerance=tolerance
        )
    except MissingExtraError as error:
        return Finding(compiled=False, reason=error.message, tolerance=tolerance)
    return finding


def _entry(directory: Path, path: str) -> FileEntry:
    file = directory / path
    return FileEntry(path=path, digest=digest_file(file), bytes=file.stat().st_size)


def _check_digest(manifest_bytes: bytes, digest: str | None) -> None:
    found = digest_bytes(manifest_bytes)
    if digest is not None and found != digest:
        raise IntegrityError(f"The package manifest has the digest {found}, where {digest} was expected.")


def _check_path(path: str) -> None:
    parts = PurePosixPath(path).parts
    plain = path == "/".join(parts) and not path.startswith("/") and "\\" not in path and "\0" not in path
    if not path or not plain or ".." in parts or "." in parts or path == MANIFEST_FILE or len(path) > 512:
        raise IntegrityError(f"The package manifest lists the path {path[:80]!r}, which is not allowed.")


def _check_file(file: Path, entry: FileEntry) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise IntegrityError(f"The package file {entry.path!r} is missing.") from error
    if size != entry.bytes:
        raise IntegrityError(f"The package file {entry.path!r} has {size} bytes, where {entry.bytes} were expected.")
    found = digest_file(file)
    if found != entry.digest:
        raise IntegrityError(
            f"The package file {entry.path!r} has the digest {found}, where {entry.digest} was expected."
        )
