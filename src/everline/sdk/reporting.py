"""The report on a change: a candidate beside the champion on the same rows, and what the release gate would say.

    report = reporting.build(client, candidate=run, endpoint="flight-delay")
    report.passed, report.missed

The rows are those that the candidate was evaluated on, which its run has kept; or a dataset version. Both models are
asked through their packages. The comparison is recorded as the candidate's evidence, so that a release rests on it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from everline.errors import EverlineError, InvalidInputError, NotFoundError
from everline.governance.types import GateState, Outcome, Verdict
from everline.loader import load
from everline.models.types import ModelVersion, SliceComparison
from everline.releases.types import Preview
from everline.sdk.report_rows import Rows, column_of, find_candidate, find_rows, name_of

if TYPE_CHECKING:
    from everline.sdk.client import Client

Watch = Callable[[str], None]
METRICS = ("log_loss", "error_rate", "auc", "brier", "calibration_error")
"""In the order of the report; the first three have intervals."""
HIGHER_IS_BETTER = frozenset({"auc"})
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
    version, run = find_candidate(client, candidate)
    where = endpoint or version.model
    preview = client.releases.preview(where, version.model, version.version)
    other = _champion(client, champion, preview)
    if other is not None and other.package == version.package:
        other = None
    watch("reading the rows")
    rows = find_rows(client, version, run, data)
    watch(f"asking {name_of(version)}" + (f" and {name_of(other)}" if other else ""))
    ours = _probabilities(client, version, rows.table)
    theirs = None if other is None else _probabilities(client, other, rows.table)
    watch("comparing")
    labels = None if block is None else column_of(rows.table, block, "block")
    metrics, method = _metrics(rows.outcome, theirs, ours, labels)
    parts = _slices(rows, theirs, ours, metric=metric, labels=labels, by=slices)
    if record and theirs is not None and _is_live(other, preview):
        _record(client, version, where, rows, (theirs, ours), metric=metric, labels=labels, slices=slices)
        preview = client.releases.preview(where, version.model, version.version)
    missed = [] if preview.live else _missed(preview)
    judged = next((row for row in metrics if row.metric == metric), None)
    if judged is not None and judged.verdict == "worse":
        missed.append(
            f"{metric} is worse than the champion's: {judged.difference:+.4g} ({judged.low:+.4g} to {judged.high:+.4g})"
        )
    code = _code(client, version.run)
    return Report(
        candidate=name_of(version),
        champion=name_of(other) if other else None,
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


def _champion(client: Client, text: str | None, preview: Preview) -> ModelVersion | None:
    if text is not None:
        named: ModelVersion = client.models.named(text)
        return named
    if preview.champion is None or preview.live:
        return None
    found: ModelVersion = client.models.get(preview.champion.model, preview.champion.version)
    return found


def _record(
    client: Client,
    version: ModelVersion,
    endpoint: str,
    rows: Rows,
    answers: tuple[Any, Any],
    *,
    metric: str,
    labels: Any,
    slices: Sequence[str],
) -> None:
    """Have the server compare the same numbers and sign what comes of it."""
    theirs, ours = answers
    client.releases.compare(
        endpoint, version.model, version.version, outcome=rows.outcome.tolist(), champion=theirs.tolist(),
        challenger=ours.tolist(), metric=metric, blocks=labels,
        slices={name: column_of(rows.table, name, "slice") for name in slices} or None,
    )  # fmt: skip


def _is_live(other: ModelVersion | None, preview: Preview) -> bool:
    return other is not None and preview.champion is not None and other.package == preview.champion.package


def _probabilities(client: Client, version: ModelVersion, table: Any) -> Any:
    if version.package is None:
        raise InvalidInputError(f"{name_of(version)} has no package to be asked.", field="candidate")
    with tempfile.TemporaryDirectory(prefix="everline-report-") as folder:
        package = load("everline.models.package").fetch_package(
            version.package, download=client.blobs.fetch, out_dir=Path(folder) / "package"
        )
        predictor = package.load()
    names = [field.name for field in predictor.signature.inputs]
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise InvalidInputError(
            f"{name_of(version)} takes the column {missing[0]!r}, which the rows lack.",
            hint="Name a dataset with the inputs of both models: --data DATASET@VERSION.",
            field="data",
        )
    values_of = load("everline.sdk.scoring.batch").values_of
    try:
        answer = predictor.predict({name: values_of(table[name]) for name in names})
    except EverlineError as error:
        error.message = f"{name_of(version)} does not answer the rows: {error.message}"
        raise
    if "probability" not in answer:
        raise InvalidInputError(
            f"{name_of(version)} gives no probability.", hint="Two-class models are compared.", field="candidate"
        )
    return answer["probability"]


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
    rows: Rows, theirs: Any, ours: Any, *, metric: str, labels: Any, by: Sequence[str]
) -> list[SliceComparison]:
    if theirs is None or not by:
        return []
    columns = {name: column_of(rows.table, name, "slice") for name in by}
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
