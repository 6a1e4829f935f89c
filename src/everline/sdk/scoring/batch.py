"""Batch scoring: a pipeline that asks a model every row of a dataset version, and shows that it answers as online.

    client.models.score("flight-delay@champion", "flights", version="2013-06", out="flights-scored")

The package is fetched, verified and loaded by the data plane's own functions. Before anything is published, a sample of
rows is asked once more as the endpoint would be asked, JSON in and JSON out, and each answer must have the same bits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from everline.errors import EverlineError, IntegrityError, InvalidInputError
from everline.governance.signing import VerifyKey
from everline.ids import check_name
from everline.loader import load
from everline.models.package import Predictor, fetch_package
from everline.models.signing import verify_package_signature
from everline.pipelines.step import dataset, pipeline, step
from everline.pipelines.types import PipelineResult
from everline.pipelines.values import RunContext, Table
from everline.sdk.replaying import same_bits

if TYPE_CHECKING:
    from everline.sdk.client import Client

SAMPLE_ROWS = 1_000
SAMPLE_ROWS_MAX = 100_000
_CHUNK_ROWS = 8_192
_ALONE_MAX = 64
"""So many sampled rows are asked in requests of their own; the others together, as clients do both."""
_REQUEST_ROWS = 128


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """What batch scoring left behind.

    Attributes:
        dataset, version, digest: the dataset version that holds the predictions.
        rows: how many there are; `checked` of them were asked online too and had the same bits.
        model, model_version: who answered.
    """

    dataset: str
    version: int
    digest: str
    rows: int
    checked: int
    model: str
    model_version: int


@step
def score(
    rows: Table, package: str, signature: str, keep: list[str] | None, context: RunContext | None = None
) -> Table:
    """Answer every row.

    Args:
        rows: the model's inputs, and whatever else.
        package, signature: digests of the model's package and of its signature, which are verified.
        keep: columns that go along; None means all that are no input of the model.
        context: filled in by the run.

    Raises:
        InvalidInputError: a column is missing, or would be there twice.
        SignatureError: a row does not fit the model's signature; it is named.
        IntegrityError: the package is not what was registered.
    """
    pa = load("pyarrow")
    predictor = _predictor(_client(context), package, signature)
    inputs = [field.name for field in predictor.signature.inputs]
    outputs = [output.name for output in predictor.signature.outputs]
    kept = [name for name in rows.column_names if name not in inputs] if keep is None else keep
    _check_columns(rows.column_names, inputs=inputs, outputs=outputs, kept=kept)
    parts: dict[str, list[Any]] = {name: [] for name in outputs}
    for start in range(0, rows.num_rows, _CHUNK_ROWS):
        answer = _answer(predictor, rows.slice(start, _CHUNK_ROWS), start)
        for name in outputs:
            parts[name].append(pa.array(answer[name]))
    columns = {name: rows[name] for name in kept} | {name: pa.chunked_array(parts[name]) for name in outputs}
    return pa.table(columns)


@step
def check_online(
    rows: Table, scored: Table, package: str, signature: str, sample: int, context: RunContext | None = None
) -> int:
    """Ask a sample of rows as the endpoint would be asked; return how many were, all with the same bits.

    Args:
        sample: how many rows; all of them where there are no more.

    Raises:
        IntegrityError: an answer differs; the message names the row, the output and both values.
    """
    predictor = _predictor(_client(context), package, signature)
    chosen = _chosen(rows.num_rows, sample)
    names = [field.name for field in predictor.signature.inputs]
    with load("everline.serving.dataplane.in_process").OnlinePath(predictor) as online:
        for places in _requests(chosen):
            part = rows.take(places)
            try:
                answer = online.ask({name: values_of(part[name]) for name in names})
            except EverlineError as error:
                raise IntegrityError(
                    f"Row {places[0]} was answered in the batch, and the online path refuses it: {error.message}"
                ) from error
            _same(scored.take(places), answer, places)
    return len(chosen)


@step(effect=True)
def publish(
    out: str, scored: Table, checked: int, model: str, model_version: int, package: str,
    context: RunContext | None = None,
) -> Scored:  # fmt: skip
    """Keep the predictions as a dataset version that names the run which made it, and the model that answered."""
    client = _client(context)
    assert context is not None
    made = client.datasets.add_table(out, scored, run=context.run, step="publish")
    tags = {"everline.model": f"{model}/{model_version}", "everline.package": package}
    client.datasets.tag_version(out, made.version, tags)
    return Scored(
        dataset=out,
        version=made.version,
        digest=made.digest,
        rows=scored.num_rows,
        checked=checked,
        model=model,
        model_version=model_version,
    )


@pipeline
def batch_scoring(
    data: str,
    version: str,
    model: str,
    model_version: int,
    package: str,
    signature: str,
    out: str,
    keep: list[str] | None = None,
    sample: int = SAMPLE_ROWS,
) -> Scored:
    """Score a dataset version with a model version; an empty `version` means the newest when the run starts."""
    rows = dataset(data, version=version or None)
    scored = score(rows, package, signature, keep)
    checked = check_online(rows, scored, package, signature, sample)
    return publish(out, scored, checked, model, model_version, package)


def run(
    client: Client,
    model: str,
    data: str,
    *,
    out: str,
    version: str | int | None = None,
    keep: Sequence[str] | None = None,
    sample: int = SAMPLE_ROWS,
    cache: bool = True,
    reason: str = "",
    **options: Any,
) -> tuple[PipelineResult, Scored]:
    """Run the pipeline; see `ModelsApi.score`."""
    check_name(out, field="out")
    if not 1 <= sample <= SAMPLE_ROWS_MAX:
        raise InvalidInputError(
            f"A sample of {sample} rows cannot be checked.", hint=f"Use 1 to {SAMPLE_ROWS_MAX}.", field="sample"
        )
    found = client.models.named(model)
    if found.package is None or found.signature is None:
        raise InvalidInputError(
            f"{found.model}/{found.version} has no package to be asked.",
            hint="`everline models package` makes one of a model that MLflow logged.",
            field="model",
        )
    result: PipelineResult = client.pipelines.run(
        batch_scoring,
        params={
            "data": data,
            "version": "" if version is None else str(version),
            "model": found.model,
            "model_version": found.version,
            "package": found.package,
            "signature": found.signature,
            "out": out,
            "keep": None if keep is None else list(keep),
            "sample": sample,
        },
        cache=cache,
        reason=reason or f"score {data} with {found.model}/{found.version}",
        **options,
    )
    return result, msgspec.convert(result.value, Scored)


def _client(context: RunContext | None) -> Any:
    if context is None:
        raise InvalidInputError(
            "Scoring needs a run, which knows where packages are.",
            hint="Use `client.models.score(…)` or `everline score`.",
        )
    return context.client


def _predictor(client: Any, package: str, signature: str) -> Predictor:
    """A package in memory, verified as the data plane verifies it."""
    published = client.audit.keys()
    keys = [VerifyKey.parse(key.public) for key in published]
    with tempfile.TemporaryDirectory(prefix="everline-scoring-") as folder:
        fetched = fetch_package(package, download=client.blobs.fetch, out_dir=Path(folder) / "package")
        envelope = msgspec.json.decode(client.blobs.get_bytes(signature))
        verify_package_signature(fetched.manifest_bytes, envelope, keys)
        return fetched.load()


def _check_columns(have: Sequence[str], *, inputs: Sequence[str], outputs: Sequence[str], kept: Sequence[str]) -> None:
    for name in (*inputs, *kept):
        if name not in have:
            what = "the model's input" if name in inputs else "a column to keep,"
            raise InvalidInputError(
                f"The dataset lacks {what} {name!r}.",
                hint=f"It has {', '.join(have)[:1000]}.",
                field=name,
            )
    for name in outputs:
        if name in kept:
            raise InvalidInputError(
                f"The dataset has a column {name!r}, which is an output of the model too.",
                hint="Name the columns that shall go along with `--keep`, without this one.",
                field=name,
            )


def _answer(predictor: Predictor, part: Any, start: int) -> Mapping[str, Any]:
    columns = {field.name: values_of(part[field.name]) for field in predictor.signature.inputs}
    try:
        # By the runtime of small requests, so that a row is scored with the bits that asking for it alone would give.
        return predictor.predict(columns, predictor.runtimes[0])
    except EverlineError as error:
        if start:
            error.message = f"Counted from row {start}: {error.message}"
        raise


def values_of(column: Any) -> list[Any]:
    """A column's values as JSON knows them: a NaN is a missing value."""
    values: list[Any] = column.to_pylist()
    if load("pyarrow").types.is_floating(column.type):
        return [None if value is not None and value != value else value for value in values]
    return values


def _chosen(rows: int, sample: int) -> list[int]:
    if rows <= sample:
        return list(range(rows))
    random = load("numpy").random.default_rng(0)
    return sorted(random.choice(rows, size=sample, replace=False).tolist())


def _requests(chosen: Sequence[int]) -> list[list[int]]:
    step_by = max(1, len(chosen) // _ALONE_MAX)
    alone = set(chosen[::step_by][:_ALONE_MAX])
    together = [place for place in chosen if place not in alone]
    return [[place] for place in sorted(alone)] + [
        together[start : start + _REQUEST_ROWS] for start in range(0, len(together), _REQUEST_ROWS)
    ]


def _same(scored: Any, answer: Mapping[str, Sequence[Any]], places: Sequence[int]) -> None:
    for name, online in answer.items():
        for place, batch, other in zip(places, scored[name].to_pylist(), online, strict=True):
            if not same_bits(batch, other):
                raise IntegrityError(
                    f"Row {place}: {name} is {batch!r} in the batch and {other!r} online.",
                    hint="The predictions were not published. Another number of threads or another library in one of "
                    "the two is the usual cause; `everline doctor` shows what is installed.",
                )
