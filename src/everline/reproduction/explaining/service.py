"""The law of explanations: the server splits a change by what its own records say was run, and signs only that.

A client runs mixtures of two runs and names the runs that came out. Whether each is the mixture that it is said to be,
which metric it has, and what the shares are, is worked out here from the records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.datasets import service as datasets
from everline.errors import EverlineError, InvalidInputError, NotFoundError
from everline.governance import evidence
from everline.pipelines import service as pipelines
from everline.pipelines.types import StepRecord, StepStatus, ValueRef
from everline.reproduction import service as reproduction
from everline.reproduction.explaining import attribution, coalitions, evaluation_sets
from everline.reproduction.explaining.attribution import Coalition
from everline.reproduction.explaining.components import (
    CHANGES_MAX,
    Side,
    components,
    data_of,
    parameters_of,
    software_of,
)
from everline.reproduction.explaining.shares import Measured, split
from everline.reproduction.explaining.statements import explanation_statement
from everline.reproduction.explaining.types import (
    EVALUATION_SET,
    SEED,
    CoalitionRun,
    Component,
    Explain,
    Explanation,
    Finding,
    Method,
    MetricStep,
    Plan,
    cell_name,
)
from everline.runs import service as runs
from everline.runs.capture import RunRecord
from everline.runs.types import RunStatus

EXPLAINS_TAG = "everline.explains"
RUNS_MAX = 5_000
SEEDS_MAX = 100
_METRICS_FIRST = ("log_loss", "auc", "rmse", "accuracy")


@read
def plan(
    uow: UnitOfWork,
    project: str,
    before: str,
    after: str,
    *,
    metric: str | None = None,
    method: Method = Method.EXACT,
    seeds: int = 5,
) -> Plan:
    """Say what differs between two runs, and what has to be run to split the change of a metric.

    Args:
        metric: None takes log_loss, auc, rmse or accuracy, whichever both have, else the first by name.
        seeds: over how many to average, 1 to 100.

    Raises:
        NotFoundError: there is no such run.
        InvalidInputError: neither run has the metric, or it is the same run twice.
    """
    uow.require(Permission.RUN_READ, project)
    if before == after:
        raise InvalidInputError("A run differs from itself in nothing.", hint="Name two runs.", field="after")
    if not 1 <= seeds <= SEEDS_MAX:
        raise InvalidInputError(f"seeds must be 1 to {SEEDS_MAX}, not {seeds}.", field="seeds")
    found = [runs.get_run(uow, project, uid) for uid in (before, after)]
    metric = _metric(found[0].metrics, found[1].metrics, metric)
    values = [one.metrics.get(metric) for one in found]
    made = Plan(before=before, after=after, metric=metric, before_value=values[0], after_value=values[1], method=method)
    sides: list[Side] = []
    for one in found:
        if one.status is not RunStatus.FINISHED:
            return _stuck(made, Finding.UNVERIFIABLE, f"run {one.run} did not finish")
        prepared = reproduction.prepare(uow, project, one.run)
        if prepared.problem is not None or prepared.record is None:
            detail = prepared.problem.detail if prepared.problem else "it recorded nothing"
            return _stuck(made, Finding.UNVERIFIABLE, f"run {one.run} cannot be done again: {detail}")
        record = msgspec.convert(prepared.record, RunRecord)
        sides.append(Side(one.run, record, tuple(pipelines.list_steps(uow, project, one.run))))
    return _planned(uow, project, made, sides[0], sides[1], seeds=seeds)


@read
def explain(uow: UnitOfWork, project: str, asked: Explain) -> Explanation:
    """Split the change of a metric by what was run.

    Raises:
        NotFoundError: there is no such run.
        InvalidInputError: a run is no mixture of the two, or one that is needed is missing.
    """
    uow.require(Permission.RUN_READ, project)
    if len(asked.runs) > RUNS_MAX:
        raise InvalidInputError(f"At most {RUNS_MAX} runs are looked at.", field="runs")
    planned = plan(uow, project, asked.before, asked.after, metric=asked.metric, method=asked.method, seeds=asked.seeds)
    if planned.finding is not None or planned.metric_step is None:
        return split(planned, [])
    records = [_record(uow, project, uid) for uid in (asked.before, asked.after)]
    measured = [_measure(uow, project, planned, records[0], records[1], one) for one in asked.runs]
    return split(planned, measured, anyway=asked.anyway, ends_only=asked.ends_only)


@act
def certify(uow: UnitOfWork, project: str, found: Explanation) -> Explanation:
    """Sign an explanation, and attach it as evidence to the later run and to the model versions made by it."""
    uow.require(Permission.EVIDENCE_WRITE, project)
    uids = dict.fromkeys([found.before, found.after, *(one.run for one in found.runs if one.run)])
    records = {uid: record for uid in uids if (record := runs.get_run(uow, project, uid).record) is not None}
    statement = explanation_statement(found, records=records, actor=uow.actor.name, at=uow.clock.now())
    uid, digest = reproduction.sign(
        uow,
        project,
        statement,
        kind="explanation",
        subject=f"run:{found.after}",
        verdict=found.finding.value,
    )
    body = {
        "metric": found.metric,
        "before": found.before,
        "change": found.change,
        "finding": found.finding.value,
        "shares": {" + ".join(share.components): share.value for share in found.shares},
        "certificate": uid,
        "digest": digest,
    }
    for subject in reproduction.subjects_of(uow, found.after):
        evidence.attach(uow, subject=subject, kind="explanation", body=body, project=project)
    return msgspec.structs.replace(found, certificate=uid)


def _metric(before: Mapping[str, Any], after: Mapping[str, Any], asked: str | None) -> str:
    both = sorted(name for name in before if name in after)
    if asked is not None:
        if asked not in both:
            raise InvalidInputError(
                f"The runs do not both have a metric {asked[:200]!r}.",
                hint=f"Both have {', '.join(both[:20]) or 'none'}.",
                field="metric",
            )
        return asked
    if not both:
        raise InvalidInputError(
            "The two runs have no metric in common.", hint="A step returns {'metrics': {…}}.", field="metric"
        )
    return next((name for name in _METRICS_FIRST if name in both), both[0])


def _planned(uow: UnitOfWork, project: str, made: Plan, before: Side, after: Side, *, seeds: int) -> Plan:
    made = msgspec.structs.replace(made, entry=after.record.entry)
    if before.record.entry != after.record.entry:
        return _stuck(
            made,
            Finding.NOT_COMPARABLE,
            f"one run is of {before.record.entry}, the other of {after.record.entry}",
        )
    if made.before_value is None or made.after_value is None:
        return _stuck(made, Finding.NOT_COMPARABLE, f"{made.metric} is not a number in both runs")
    steps = [
        _metric_step(uow, side, made.metric, value)
        for side, value in ((before, made.before_value), (after, made.after_value))
    ]
    if steps[0] is None or steps[1] is None or steps[0].name != steps[1].name:
        return _stuck(made, Finding.NOT_COMPARABLE, f"no step of both runs returned {made.metric} among its metrics")
    step = _exchangeable(before, after, steps[0], steps[1])
    differing = components(before, after, metric_step=step.name)
    parts = [one for one in differing if one.idle is None]
    compared = _evaluation_set(uow, step, evaluation_sets.target_of(_results_taken(after, steps[1])))
    if compared is not None:
        differing.insert(0, compared[0])
    differing = [_with_tables(uow, project, one, before.record, after.record) for one in differing]
    if before.record.seed != after.record.seed:
        old, new = (str(side.record.seed) if side.record.seed is not None else "none" for side in (before, after))
        differing.append(Component(name=SEED, before=old, after=new))
    drawn = _seeds(before.record, after.record, seeds)
    method = Method.SAMPLED if made.method is Method.EXACT and len(parts) > attribution.EXACT_MAX else made.method
    return msgspec.structs.replace(
        made,
        method=method,
        components=tuple(differing),
        metric_step=step,
        parts=tuple(one.name for one in parts),
        seeds=drawn,
        labels_differ=compared is not None and compared[1],
        before_seed=before.record.seed if drawn else None,
        after_seed=after.record.seed if drawn else None,
        estimate=coalitions.estimate(
            before,
            after,
            metric_step=step.name,
            parts=parts,
            seeds=max(1, len(drawn)),
            cells=2 if step.before != step.after else 1,
            method=method,
            seconds_of=lambda one: _seconds(uow, project, one),
        ),
    )


def _stuck(made: Plan, finding: Finding, problem: str) -> Plan:
    return msgspec.structs.replace(made, problem=problem, finding=finding)


def _metric_step(uow: UnitOfWork, side: Side, metric: str, value: float) -> StepRecord | None:
    """The first step whose result has the metric as the run has it; later ones, such as a registration, repeat it."""
    return next((step for step in side.steps if _value_of(uow, step, metric) == value), None)


def _value_of(uow: UnitOfWork, step: StepRecord, metric: str) -> float | None:
    if len(step.outputs) != 1 or step.outputs[0].kind != "json":
        return None
    try:
        value = msgspec.json.decode(uow.blobs.get_bytes(step.outputs[0].files[0].digest))
    except (EverlineError, msgspec.DecodeError):
        return None
    found = value.get("metrics") if isinstance(value, dict) else None
    number = found.get(metric) if isinstance(found, dict) else None
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        return None
    return float(number)


def _exchangeable(before: Side, after: Side, first: StepRecord, second: StepRecord) -> MetricStep:
    """The tables that the metric was measured on, if it was a model that was measured."""
    old, new = _results_taken(before, first), _results_taken(after, second)
    tables = [{name: ref for name, ref in side.items() if ref.kind == "table"} for side in (old, new)]
    models = [any(ref.kind == "model" for ref in side.values()) for side in (old, new)]
    if all(models) and tables[0] and set(tables[0]) == set(tables[1]):
        return MetricStep(name=first.name, before=tables[0], after=tables[1])
    return MetricStep(name=first.name)


def _evaluation_set(uow: UnitOfWork, step: MetricStep, target: str | None) -> tuple[Component, bool] | None:
    """What differs between the tables that the metric was measured on, and whether it is the outcome alone."""
    changed = [name for name in step.before if step.before[name] != step.after[name]]
    if not changed:
        return None
    found = [evaluation_sets.compare(uow.blobs, step.before[n], step.after[n], target=target) for n in changed]
    shown = [", ".join(f"{name} {side[name].digest[:19]}" for name in changed) for side in (step.before, step.after)]
    lines = tuple(line for one in found for line in one.changes)[:CHANGES_MAX]
    component = Component(name=EVALUATION_SET, before=shown[0], after=shown[1], changes=lines)
    return component, all(one.label_only for one in found)


def _with_tables(uow: UnitOfWork, project: str, one: Component, before: RunRecord, after: RunRecord) -> Component:
    """A dataset's component with what changed in its table, as far as the profiles of one version each say it."""
    if not one.name.startswith("data "):
        return one
    name = one.name.removeprefix("data ")
    versions = [[use for use in record.data if use.name == name] for record in (before, after)]
    if any(len(uses) != 1 for uses in versions):
        return one
    old, new = (datasets.get_version(uow, project, name, uses[0].digest).table for uses in versions)
    if old is None or new is None:
        return one
    lines = [] if old.rows == new.rows else [f"rows {old.rows} → {new.rows}"]
    mine, theirs = ({column.name: column for column in table.columns} for table in (old, new))
    lines += [f"column {column} added" for column in theirs if column not in mine]
    lines += [f"column {column} removed" for column in mine if column not in theirs]
    changed = [column for column, found in theirs.items() if column in mine and mine[column].digest != found.digest]
    lines += [f"column {column}: other values" for column in changed]
    return msgspec.structs.replace(one, changes=tuple(lines[:CHANGES_MAX])) if lines else one


def _results_taken(side: Side, step: StepRecord) -> dict[str, ValueRef]:
    made = {ref.digest: ref for one in side.steps for ref in one.outputs}
    inputs = step.material.inputs if step.material is not None else {}
    return {
        name: made[value["digest"]]
        for name, value in inputs.items()
        if isinstance(value, dict) and set(value) == {"digest"} and value["digest"] in made
    }


def _seeds(before: RunRecord, after: RunRecord, count: int) -> tuple[int, ...]:
    """The recorded seeds, then others; the same ones for every mixture, so that they cancel."""
    if before.seed is None or after.seed is None:
        return ()
    drawn = dict.fromkeys([before.seed, after.seed])
    further = max(drawn) + 1
    while len(drawn) < count:
        drawn[further] = None
        further += 1
    return tuple(drawn)


def _seconds(uow: UnitOfWork, project: str, step: StepRecord) -> float:
    """How long a step took when it was computed, by whichever run that was."""
    if step.key is not None and step.cached:
        kept = pipelines.lookup(uow, project, keys=[step.key])
        if kept:
            return kept[0].seconds
    return step.seconds or 0.0


def _record(uow: UnitOfWork, project: str, run: str) -> RunRecord:
    return msgspec.convert(runs.get_record(uow, project, run), RunRecord)


def _measure(
    uow: UnitOfWork, project: str, planned: Plan, before: RunRecord, after: RunRecord, given: CoalitionRun
) -> Measured:
    """What one run says: the metric on each evaluation set, or why there is none.

    Raises:
        InvalidInputError: it is no run of this explanation, or another mixture than it is said to be.
    """
    unknown = sorted(set(given.taken) - set(planned.parts))
    if unknown:
        raise InvalidInputError(f"The two runs do not differ in {unknown[0][:200]!r}.", field="runs.taken")
    if given.run is None:
        return Measured(given, problem=given.problem or "it was not run")
    found = runs.get_run(uow, project, given.run)
    if found.tags.get(EXPLAINS_TAG) != f"{planned.before} {planned.after}":
        raise InvalidInputError(f"Run {given.run} was not made to explain these two.", field="runs.run")
    try:
        record = _record(uow, project, given.run)
    except NotFoundError:
        return Measured(given, problem=given.problem or "it recorded nothing")
    wrong = _not_the_mixture(record, before, after, frozenset(given.taken), planned)
    if wrong is not None:
        return Measured(given, problem=wrong)
    if planned.seeds and record.seed != given.seed:
        raise InvalidInputError(f"Run {given.run} had the seed {record.seed}, not {given.seed}.", field="runs.seed")
    return _cells(uow, project, planned, given)


def _cells(uow: UnitOfWork, project: str, planned: Plan, given: CoalitionRun) -> Measured:
    """The metric of a mixture on both evaluation sets, from the results of its steps."""
    assert planned.metric_step is not None
    assert given.run is not None
    step = planned.metric_step
    steps = {one.name: one for one in pipelines.list_steps(uow, project, given.run)}
    names = [cell_name(step.name, cell) for cell in ("before", "after")] if step.before else [step.name] * 2
    if step.before == step.after:
        names[1] = names[0]
    values: list[float] = []
    for name in names:
        one = steps.get(name)
        ended = one is not None and one.status in (StepStatus.SUCCEEDED, StepStatus.CACHED)
        value = _value_of(uow, one, planned.metric) if one is not None and ended else None
        if value is None:
            problem = given.problem or f"{planned.metric} is not a number there"
            return Measured(given, problem=problem, crossing=one is not None and _is_crossed(planned, given, name))
        values.append(value)
    return Measured(given, on_before=values[0], on_after=values[1])


def _is_crossed(planned: Plan, given: CoalitionRun, cell: str) -> bool:
    """Whether one of the two runs itself was measured on the evaluation set of the other."""
    assert planned.metric_step is not None
    if planned.metric_step.before == planned.metric_step.after:
        return False
    own = {frozenset[str](): "before", frozenset(planned.parts): "after"}.get(frozenset(given.taken))
    return own is not None and cell != cell_name(planned.metric_step.name, own)


def _not_the_mixture(
    record: RunRecord, before: RunRecord, after: RunRecord, taken: Coalition, planned: Plan
) -> str | None:
    """What of a run is neither the earlier run's nor, where it was taken from there, the later one's."""
    code = after.code if "code" in taken else before.code
    if record.code.digest != code.digest:
        return "it ran with other code"
    if "environment" in planned.parts:
        environment = after.environment if "environment" in taken else before.environment
        if software_of(record.environment) != software_of(environment):
            return "it ran in another environment"
    data = _mixed(data_of(before), data_of(after), taken, "data")
    for name, digests in data_of(record).items():
        if name in data and digests != data[name]:
            return f"it read another version of {name}"
    parameters = _mixed(parameters_of(before), parameters_of(after), taken, "parameter")
    for name, value in parameters_of(record).items():
        if name in parameters and value != parameters[name]:
            return f"it took another value of {name}"
    return None


def _mixed(before: Mapping[str, Any], after: Mapping[str, Any], taken: Coalition, kind: str) -> dict[str, Any]:
    names: Sequence[str] = sorted({*before, *after})
    sides = {name: after if f"{kind} {name}" in taken else before for name in names}
    return {name: side[name] for name, side in sides.items() if name in side}
