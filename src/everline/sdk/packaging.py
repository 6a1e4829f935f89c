"""`client.models.package`: a model that MLflow's client logged becomes a package, which can be released.

The caller's process fetches the files and loads the model; the server only stores what comes of it, and verifies that
as it verifies every package. What is not shown to answer as before is not registered.
"""

from __future__ import annotations

import pickle  # only for `--trust-pickle`: see `_estimator`
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from everline.errors import ConflictError, IntegrityError, InvalidInputError, NotFoundError
from everline.ids import check_name, digest_bytes
from everline.loader import load
from everline.models.compiling.findings import Rows
from everline.models.flavors import sklearn
from everline.models.mlmodel import MLMODEL_FILE, MlModel, matrix_columns, read_example, read_mlmodel
from everline.models.package import Package, build_package, store_package
from everline.models.signature import ColumnType, Field, Signature, SignatureError, check_columns
from everline.models.signature_inference import infer_signature
from everline.models.types import ModelVersion
from everline.sdk.client import Client

ORIGIN_TAG = "everline.packaged_from"
EXAMPLE_ROWS_MAX = 256
_ABOVE_HALF = 0.5000000000000001
_REALS = frozenset({ColumnType.FLOAT, ColumnType.DOUBLE})

Columns = dict[str, list[Any]]


def package_version(client: Client, model: str, version: int | str, *, into: str, trust_pickle: bool) -> ModelVersion:
    """Make and register the package; see `ModelsApi.package`."""
    check_name(into, field="model")
    found: ModelVersion = client.models.get(model, version)
    origin = _origin(found)
    _check_new(client, found, origin=origin, into=into)
    said = read_mlmodel(_download(client, found, MLMODEL_FILE), name=origin)
    if said.format not in ("skops", "pickle", "cloudpickle", "own"):
        raise InvalidInputError(f"{origin} is kept in the format {said.format[:80]!r}, which is not known here.")
    if said.format not in ("skops", "own") and not trust_pickle:
        raise InvalidInputError(
            f"{origin} is kept as a {said.format}, and loading one runs whatever its author put in there.",
            hint='Log it with `mlflow.sklearn.log_model(…, serialization_format="skops")`; or, if you trust who logged '
            "it, add --trust-pickle: it is then loaded on this machine and written anew without pickle.",
            field="version",
        )
    with tempfile.TemporaryDirectory(prefix="everline-") as folder:
        logged = _fetch(client, found, said, folder=Path(folder))
        built = _build(logged, out_dir=Path(folder) / "package")
        store_package(built, put_bytes=client.blobs.put_bytes, put_file=client.blobs.put_file)
    registered: ModelVersion = client.models.register(
        into,
        built.digest,
        run=found.run,
        description=found.description or f"Packaged from {origin}.",
        tags={ORIGIN_TAG: origin},
    )
    return registered


def _origin(version: ModelVersion) -> str:
    """How MLflow's clients name a version."""
    return f"models:/{version.model}/{version.version}"


class _Logged(msgspec.Struct, frozen=True, kw_only=True):
    """A version's model in memory, and what is known of it.

    Attributes:
        origin: the version, as MLflow names it.
        digest: of the model's file.
        example: rows that fit the signature; None if it was logged without.
    """

    origin: str
    run: str | None
    said: MlModel
    digest: str
    estimator: Any
    signature: Signature
    example: Columns | None


def _fetch(client: Client, found: ModelVersion, said: MlModel, *, folder: Path) -> _Logged:
    origin = _origin(found)
    data = _download(client, found, said.file)
    estimator = _estimator(data, said, folder=folder, origin=origin)
    signature = None if said.inputs is None else _named(said.inputs, estimator)
    names = None if signature is None else [field.name for field in signature.inputs]
    example = _example(client, found, said, names=names)
    if signature is None:
        signature = _inferred(example, origin=origin)
    if example is not None:
        _check_example(signature, example, origin=origin)
    return _Logged(
        origin=origin,
        run=found.run,
        said=said,
        digest=digest_bytes(data),
        estimator=estimator,
        signature=signature,
        example=example,
    )


def _check_new(client: Client, found: ModelVersion, *, origin: str, into: str) -> None:
    if found.package is not None:
        raise ConflictError(
            f"{origin} has a package already: {found.package}.",
            hint=f"Release it as it is: `everline release create ENDPOINT {found.model} {found.version}`.",
        )
    try:
        versions = client.models.versions(into)
    except NotFoundError:
        return
    for other in versions:
        if other.tags.get(ORIGIN_TAG) == origin:
            raise ConflictError(
                f"{origin} was packaged before: it is {into} {other.version}.",
                hint=f"Release that one: `everline release create ENDPOINT {into} {other.version}`.",
            )


def _download(client: Client, found: ModelVersion, path: str) -> bytes:
    query = {"name": found.model, "version": found.version, "path": path}
    try:
        answer = client.send("GET", "/api/2.0/mlflow/model-versions/get-artifact", query=query)
    except NotFoundError as error:
        raise NotFoundError(
            f"{found.model} {found.version} has no file {path[:200]} at {found.source}.",
            hint="Only a folder that MLflow's `log_model` wrote can be packaged.",
        ) from error
    if answer.headers.get("etag", "").strip('"') != digest_bytes(answer.content):
        raise IntegrityError(f"The file {path[:200]} of {found.model} {found.version} was altered on its way.")
    return answer.content


def _estimator(data: bytes, said: MlModel, *, folder: Path, origin: str) -> Any:
    if said.flavor != "sklearn" and said.format in ("skops", "own"):
        flavor = load(f"everline.models.flavors.{said.flavor}")
        return flavor.read_logged(data, kind=said.kind, kept=said.format)
    if said.format == "skops":
        file = folder / sklearn.MODEL_FILE
        file.write_bytes(data)
        return sklearn.read_model(file, written_by=said.versions["scikit-learn"])
    try:
        return pickle.loads(data)  # noqa: S301 - the caller said in so many words that they trust it
    except Exception as error:  # a pickle raises whatever it likes
        raise InvalidInputError(
            f"The pickle of {origin} cannot be loaded here: {type(error).__name__}: {error}.",
            hint="Install what it was logged with; its requirements.txt lists that.",
            field="version",
        ) from error


def _example(client: Client, found: ModelVersion, said: MlModel, *, names: list[str] | None) -> Columns | None:
    if said.example is None:
        return None
    columns = read_example(_download(client, found, said.example), names=names)
    return None if columns is None else {name: values[:EXAMPLE_ROWS_MAX] for name, values in columns.items()}


def _check_example(signature: Signature, example: Columns, *, origin: str) -> None:
    try:
        check_columns(signature, example)
    except SignatureError as error:
        raise InvalidInputError(
            f"The input example of {origin} does not fit its signature: {error.message}",
            hint="Log the model with an example that it was meant for, or with none.",
            field="version",
        ) from error


def _inferred(example: Columns | None, *, origin: str) -> Signature:
    """Names and types of an example's columns, without its ranges: a few rows are not the training."""
    if example is None:
        raise InvalidInputError(
            f"The inputs of {origin} are not known: it was logged without a signature and without an input example.",
            hint="Log it with `input_example=` (a few rows) or `signature=mlflow.models.infer_signature(…)`.",
            field="version",
        )
    fields = infer_signature(example).inputs
    return Signature(inputs=[Field(name=field.name, type=field.type, nullable=field.nullable) for field in fields])


def _named(signature: Signature, estimator: Any) -> Signature:
    """A matrix has no names; an estimator that was fitted on a table has."""
    known = getattr(estimator, "feature_names_in_", None)
    called = [field.name for field in signature.inputs]
    if known is None or len(known) != len(called) or called != matrix_columns(len(called)):
        return signature
    pairs = zip(signature.inputs, known, strict=True)
    return Signature(inputs=[msgspec.structs.replace(field, name=str(name)) for field, name in pairs])


def _build(logged: _Logged, *, out_dir: Path) -> Package:
    facts = {"version": logged.origin, "format": logged.said.format, "file": logged.digest, **logged.said.versions}
    built = build_package(
        logged.estimator,
        flavor=logged.said.flavor,
        signature=logged.signature,
        out_dir=out_dir,
        created_from={} if logged.run is None else {"run": logged.run},
        # Where both classes are equally probable, scikit-learn's `predict` answers with the first.
        metadata={"packaged_from": facts, "threshold": _ABOVE_HALF},
        probe=_probe(logged.signature, logged.example),
        rows=None if logged.example is None else Rows(columns=logged.example, name="input example"),
    )
    if logged.example is not None and logged.said.flavor == "sklearn":
        sklearn.check_answers(logged.estimator, built, logged.example)
    return built


def _probe(signature: Signature, example: Columns | None) -> Signature:
    """The inputs with the example's ranges and categories: rows that are made up within them can be answered."""
    if example is None:
        return signature
    seen = {field.name: field for field in infer_signature(example).inputs}
    return Signature(inputs=[_ranged(field, seen[field.name]) for field in signature.inputs])


def _ranged(field: Field, seen: Field) -> Field:
    high = seen.max
    if field.type in _REALS and seen.min is not None and high is not None:
        high = max(high, seen.min + 1.0)  # an example of one row has no range
    return msgspec.structs.replace(field, min=seen.min, max=high, categories=seen.categories)
