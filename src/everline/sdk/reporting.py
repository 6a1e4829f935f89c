"""The report on a change: a candidate beside the champion on the same rows, and what the release gate would say.

    report = reporting.build(client, candidate=run, endpoint="flight-delay")
    report.passed, report.missed

The rows are those that the candidate was evaluated on, which its run has kept; or a dataset version. Both models are
asked through their packages. The comparison is recorded as the candidate's evidence, so that a release rests on it.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from everline.errors import EverlineError, InvalidInputError, NotFoundError
from everline.governance.types import GateState, Outcome, Verdict
from everline.loader import load
from everline.models.types import ModelVersion, SliceComparison
from everline.pipelines.types import StepRecord, ValueRef
from everline.releases.types import Preview

if TYPE_CHECKING:
    from everline.sdk.client import Client

Watch = Callable[[str], None]
METRICS = ("log_loss", "error_rate", "auc", "brier", "calibration_error")
"""In the order of the report; the first three have intervals."""
HIGHER_IS_BETTER = frozenset({"auc"})
_RUN = re.compile(r"[0-9a-f]{32}")
_RUNS_LOOKED_AT = 50
_DECILES = 10
_CURVE_POINTS = 100


class MetricRow(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of both models.

    Attributes:
        difference: candidate minus champion, with its interval; None where there is no champion or no interval.
        verdict: `better`, `worse` or `no difference shown`.
    """

    metric: str
    candidate: float
    champion: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: str | None = None


class Decile(msgspec.Struct, frozen=True, kw_only=True):
    """A tenth of the rows, ordered by the candidate's probability: what was announced, and what happened."""

    observed: float
    candidate: float
    champion: float | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate beside its champion.

    Attributes:
        candidate, champion: `name:version`; no champion at an endpoint's first release.
        run, commit, dirty: what made the candidate; None where that was not recorded.
        live: the candidate is what answers already.
        data: what the rows are; `rows` is how many.
        method, level: of the intervals.
        deciles: for a plot of calibration; `curves` are ROC curves by model, as points (false, true positive rate).
        gate, verdicts: what the policies say of a release now.
        missed: why it may not be released, one sentence each; empty if it may, once people have approved.
    """

    candidate: str
    champion: str | None
    endpoint: str
    run: str | None
    commit: str | None = None
    dirty: bool = False
    live: bool = False
    data: str
    rows: int
    method: str = ""
    level: float = 0.95
    metrics: list[MetricRow]
    slices: list[SliceComparison] = []
    deciles: list[Decile] = []
    curves: dict[str, list[tuple[float, float]]] = {}
    gate: GateState
    verdicts: list[Verdict] = []
    missed: list[str] = []
    passed: bool


class _Rows(NamedTuple):
    table: Any
    name: str
    outcome: Any
    target: str


def build(
    client: Client,
    *,
    candidate: str | None = None,
    champion: str | None = None,
    endpoint: str | None = None,
    data: str | None = None,
    metric: str = "log_loss",
    block: str | None = None,
    slices: Sequence[str] = (),
    record: bool = True,
    watch: Watch = lambda message: None,
) -> Report:
    """Compare a candidate with a champion, and ask what the gate would say.

    Args:
        candidate: a run that registered a version, or `name:2`, `name@alias`, `name`; None means the newest such run.
        champion: another version than the one that answers the endpoint.
        endpoint: where the candidate would go; None means the endpoint of the model's name.
        data: `dataset` or `dataset@version` with the inputs of both and the outcome; None means the rows that the
            candidate was evaluated on.
        metric: `log_loss`, `error_rate` or `auc`: the one that is recorded as evidence, and by which worse is missed.
        block: a column, such as the day; rows that share its value depend on each other.
        slices: columns by whose values the comparison is divided, with intervals that hold together.
        record: attach the comparison with the endpoint's champion to the candidate as evidence.

    Raises:
        NotFoundError: there is no such run or version.
        InvalidInputError: the run registered no version, the rows cannot be found, or a model takes other columns.
    """
    version, run = _candidate(client, candidate)
    where = endpoint or version.model
    preview = client.releases.preview(where, version.model, version.version)
    other = _champion(client, champion, preview)
    if other is not None and other.package == version.package:
        other = None
    watch("reading the rows")
    rows = _rows(client, version, run, data)
    watch(f"asking {_name(version)}" + (f" and {_name(other)}" if other else ""))
    ours = _probabilities(client, version, rows.table)
    theirs = None if other is None else _probabilities(client, other, rows.table)
    watch("comparing")
    labels = None if block is None else _column(rows.table, block, "block")
    metrics, method = _metrics(rows.outcome, theirs, ours, labels)
    parts = _slices(rows, theirs, ours, metric=metric, labels=labels, by=slices)
    if record and theirs is not None and _is_live(other, preview):
        client.releases.compare(
            where, version.model, version.version, outcome=rows.outcome.tolist(), champion=theirs.tolist(),
            challenger=ours.tolist(), metric=metric, blocks=labels,
            slices={name: _column(rows.table, name, "slice") for name in slices} or None,
        )  # fmt: skip
        preview = client.releases.preview(where, version.model, version.version)
    missed = [] if preview.live else _missed(preview)
    judged = next((row for row in metrics if row.metric == metric), None)
    if judged is not None and judged.verdict == "worse":
        missed.append(
            f"{metric} is worse than the champion's: {judged.difference:+.4g} ({judged.low:+.4g} to {judged.high:+.4g})"
        )
    code = _code(client, version.run)
    return Report(
        candidate=_name(version),
        champion=_name(other) if other else None,
        endpoint=where,
        run=version.run,
        commit=code.get("commit"),
        dirty=bool(code.get("dirty")),
        live=preview.live,
        data=rows.name,
        rows=len(rows.outcome),
        method=method,
        metrics=metrics,
        slices=parts,
        deciles=_deciles(rows.outcome, theirs, ours),
        curves={
            name: _curve(rows.outcome, one)
            for name, one in (("candidate", ours), ("champion", theirs))
            if one is not None
        },
        gate=preview.gate,
        verdicts=preview.verdicts,
        missed=missed,
        passed=not missed,
    )


def _name(version: ModelVersion) -> str:
    return f"{version.model}:{version.version}"


def _candidate(client: Client, text: str | None) -> tuple[ModelVersion, str | None]:
    """The version that is meant, and the run whose steps know its evaluation."""
    if text is not None and not _RUN.fullmatch(text):
        found = client.models.named(text)
        return found, found.run
    runs = [text] if text else [one.run for one in client.runs.list(limit=_RUNS_LOOKED_AT) if one.pipeline]
    for run in runs:
        for step in reversed(client.pipelines.steps(run)):
            made = _registered(client, step)
            if made is not None:
                return client.models.get(*made), run
    what = f"Run {text}" if text else f"None of the {len(runs)} newest runs"
    raise InvalidInputError(
        f"{what} registered no model version.",
        hint="End the pipeline with `el.candidate(…)`, or name a version: --candidate NAME:2.",
        field="candidate",
    )


def _registered(client: Client, step: StepRecord) -> tuple[str, int] | None:
    """What a step registered, if its result is a candidate."""
    for ref in step.outputs:
        if ref.kind != "json" or len(ref.files) != 1 or ref.files[0].bytes > 1 << 20:
            continue
        value = load("everline.pipelines.serialisers").json_of(ref, client.blobs.get_bytes)
        if isinstance(value, dict) and {"model", "version", "uid", "package"} <= value.keys():
            return str(value["model"]), int(value["version"])
    return None


def _champion(client: Client, text: str | None, preview: Preview) -> ModelVersion | None:
    if text is not None:
        named: ModelVersion = client.models.named(text)
        return named
    if preview.champion is None or preview.live:
        return None
    found: ModelVersion = client.models.get(preview.champion.model, preview.champion.version)
    return found


def _is_live(other: ModelVersion | None, preview: Preview) -> bool:
    return other is not None and preview.champion is not None and other.package == preview.champion.package


def _rows(client: Client, version: ModelVersion, run: str | None, data: str | None) -> _Rows:
    pc, numpy = load("pyarrow.compute"), load("numpy")
    target = client.models.manifest(version.model, version.version)["metadata"].get("target")
    if not isinstance(target, str):
        raise InvalidInputError(
            f"The package of {_name(version)} does not name the outcome that it predicts.",
            hint="Versions that `el.candidate` registered do.",
            field="candidate",
        )
    if data is not None:
        name, _, label = data.partition("@")
        found = client.datasets.version(name, label or None)
        table, called = client.datasets.table(name, found.version), f"{name}@{label or found.version}"
    else:
        table, called = _evaluated(client, version, run)
    if target not in table.column_names:
        raise InvalidInputError(f"The rows have no column {target!r}, which is the outcome.", field="data")
    table = table.filter(pc.is_valid(table[target]))
    most = client.settings.comparison_rows_max
    if table.num_rows > most:
        table = table.take(numpy.linspace(0, table.num_rows - 1, most).astype("int64"))
    outcome = table[target].to_numpy().astype(float)
    return _Rows(table, called, outcome, target)


def _evaluated(client: Client, version: ModelVersion, run: str | None) -> tuple[Any, str]:
    """The table that `el.evaluate` took in a run, out of the results that the run has kept."""
    steps = client.pipelines.steps(run) if run else []
    kept = {ref.digest: (step.name, ref) for step in steps for ref in step.outputs if ref.kind == "table"}
    for step in steps:
        material = step.material
        if material is None or not {"model", "table"} <= material.inputs.keys():
            continue
        for digest in _digests(material.inputs["table"]):
            if digest in kept:
                maker, ref = kept[digest]
                return _table(client, ref), f"what {maker} gave to {step.name} in run {run}"
    raise InvalidInputError(
        f"The rows that {_name(version)} was evaluated on are not kept.",
        hint="Name the rows with --data DATASET@VERSION.",
        field="data",
    )


def _digests(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _digests(one)
    elif isinstance(value, str):
        yield value


def _table(client: Client, ref: ValueRef) -> Any:
    content = load("everline.pipelines.serialisers").bytes_of(ref.files[0], client.blobs.get_bytes)
    return load("pyarrow").ipc.open_file(io.BytesIO(content)).read_all()


def _probabilities(client: Client, version: ModelVersion, table: Any) -> Any:
    if version.package is None:
        raise InvalidInputError(f"{_name(version)} has no package to be asked.", field="candidate")
    with tempfile.TemporaryDirectory(prefix="everline-report-") as folder:
        package = load("everline.models.package").fetch_package(
            version.package, download=client.blobs.fetch, out_dir=Path(folder) / "package"
        )
        predictor = package.load()
    names = [field.name for field in predictor.signature.inputs]
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise InvalidInputError(
            f"{_name(version)} takes the column {missing[0]!r}, which the rows lack.",
            hint="Name a dataset with the inputs of both models: --data DATASET@VERSION.",
            field="data",
        )
    values_of = load("everline.sdk.scoring.batch").values_of
    try:
        answer = predictor.predict({name: values_of(table[name]) for name in names})
    except EverlineError as error:
        error.message = f"{_name(version)} does not answer the rows: {error.message}"
        raise
    if "probability" not in answer:
        raise InvalidInputError(
            f"{_name(version)} gives no probability.", hint="Two-class models are compared.", field="candidate"
        )
    return answer["probability"]


def _column(table: Any, name: str, field: str) -> list[Any]:
    if name not in table.column_names:
        raise InvalidInputError(
            f"The rows have no column {name!r}.", hint=f"They have {', '.join(table.column_names)[:500]}.", field=field
        )
    return [None if value is None else str(value) for value in table[name].to_pylist()]


def _metrics(outcome: Any, theirs: Any, ours: Any, labels: Any) -> tuple[list[MetricRow], str]:
    evaluation, comparison = load("everline.models.evaluation"), load("everline.models.comparison")
    mine = evaluation.metrics(outcome > 0.5, ours)
    if theirs is None:
        return [MetricRow(metric=name, candidate=mine[name]) for name in METRICS if name in mine], ""
    before, rows, method = evaluation.metrics(outcome > 0.5, theirs), [], ""
    for name in METRICS:
        if name not in mine:
            continue
        if name not in comparison.METRICS:
            rows.append(
                MetricRow(
                    metric=name, candidate=mine[name], champion=before[name], difference=mine[name] - before[name]
                )
            )
            continue
        found = comparison.compare(outcome, theirs, ours, metric=name, blocks=labels)
        method = method or found.method
        rows.append(
            MetricRow(
                metric=name, candidate=found.challenger_value, champion=found.champion_value,
                difference=found.difference, low=found.low, high=found.high, verdict=found.verdict,
            )
        )  # fmt: skip
    return rows, method


def _slices(
    rows: _Rows, theirs: Any, ours: Any, *, metric: str, labels: Any, by: Sequence[str]
) -> list[SliceComparison]:
    if theirs is None or not by:
        return []
    columns = {name: _column(rows.table, name, "slice") for name in by}
    found: list[SliceComparison] = load("everline.models.slices").compare_slices(
        rows.outcome, theirs, ours, slices=columns, metric=metric, blocks=labels
    )
    return found


def _deciles(outcome: Any, theirs: Any, ours: Any) -> list[Decile]:
    numpy = load("numpy")
    order = numpy.argsort(ours, kind="stable")
    return [
        Decile(
            observed=float(outcome[part].mean()),
            candidate=float(ours[part].mean()),
            champion=None if theirs is None else float(theirs[part].mean()),
        )
        for part in numpy.array_split(order, min(_DECILES, len(order)))
    ]


def _curve(outcome: Any, score: Any) -> list[tuple[float, float]]:
    """A ROC curve in at most 100 points; equal scores are one step."""
    numpy = load("numpy")
    order = numpy.argsort(-score, kind="stable")
    ends = numpy.append(numpy.diff(score[order]) != 0, True)
    hits, misses = numpy.cumsum(outcome[order])[ends], numpy.cumsum(1 - outcome[order])[ends]
    chosen = numpy.unique(numpy.linspace(0, len(hits) - 1, _CURVE_POINTS).astype(int))
    total = max(1.0, float(hits[-1])), max(1.0, float(misses[-1]))
    return [(0.0, 0.0), *((float(misses[at] / total[1]), float(hits[at] / total[0])) for at in chosen)]


def _missed(preview: Preview) -> list[str]:
    """Every rule that does not pass; people who have not approved yet are no miss."""
    if not preview.verdicts:
        return ["no policy is in force, and without one nothing is released"]
    found = []
    for verdict in preview.verdicts:
        for rule in verdict.rules:
            if rule.outcome is Outcome.PASS:
                continue
            clause = next((one for one in rule.clauses if one.outcome is not Outcome.PASS), None)
            gone = [seen.path for seen in clause.values if seen.missing] if clause else []
            what = f"{', '.join(gone)} is missing" if gone else clause.text if clause else rule.expression
            found.append(f"rule {rule.name!r} of policy {verdict.policy!r} says {rule.outcome.value}: {what}")
    return found


def _code(client: Client, run: str | None) -> dict[str, Any]:
    if run is None:
        return {}
    try:
        found: dict[str, Any] = client.runs.record(run)["code"]
    except NotFoundError:
        return {}
    return found
