"""What differs between two runs, and what has to be run to say how much of a metric's change each part caused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.datasets import service as datasets
from everline.errors import EverlineError, IntegrityError, InvalidInputError, NotFoundError
from everline.pipelines import service as pipelines
from everline.pipelines.serialisers import bytes_of
from everline.pipelines.types import StepRecord, ValueRef
from everline.reproduction import service as reproduction
from everline.reproduction.explaining import attribution, coalitions, evaluation_sets
from everline.reproduction.explaining.components import CHANGES_MAX, Side, components, metric_in
from everline.reproduction.explaining.types import (
    EVALUATION_SET,
    SEED,
    Component,
    Finding,
    Method,
    MetricStep,
    Plan,
)
from everline.runs import service as runs
from everline.runs.capture import RunRecord
from everline.runs.types import RunStatus

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
    return make_plan(uow, project, before, after, metric=metric, method=method, seeds=seeds, whole=True)


def make_plan(
    uow: UnitOfWork,
    project: str,
    before: str,
    after: str,
    *,
    metric: str | None,
    method: Method,
    seeds: int,
    whole: bool,
) -> Plan:
    """A plan; with `whole` every byte that the two records name is read again, which may be gigabytes."""
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
        missing = _not_whole(uow, project, one.run, whole=whole)
        if missing is not None:
            return _stuck(made, Finding.UNVERIFIABLE, f"run {one.run} cannot be done again: {missing}")
        record = record_of(uow, project, one.run)
        sides.append(Side(one.run, record, tuple(pipelines.list_steps(uow, project, one.run))))
    return _planned(uow, project, made, sides[0], sides[1], seeds=seeds)


def value_of(uow: UnitOfWork, step: StepRecord, metric: str) -> float | None:
    """The metric in a step's result; None if it has none. Asks for no permission."""
    if len(step.outputs) != 1 or step.outputs[0].kind != "json":
        return None
    try:
        return metric_in(bytes_of(step.outputs[0].files[0], uow.blobs.get_bytes), metric)
    except EverlineError:
        return None


def record_of(uow: UnitOfWork, project: str, run: str) -> RunRecord:
    """What a run recorded; asks for no permission beyond the run's own."""
    return msgspec.convert(runs.get_record(uow, project, run), RunRecord)


def _not_whole(uow: UnitOfWork, project: str, run: str, *, whole: bool) -> str | None:
    """Why a run cannot be done again, or None."""
    if whole:
        prepared = reproduction.prepare(uow, project, run)
        if prepared.problem is not None or prepared.record is None:
            return prepared.problem.detail if prepared.problem else "it recorded nothing"
        return None
    try:
        runs.get_record(uow, project, run)
    except (NotFoundError, IntegrityError) as error:
        return error.message
    return None


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
    return next((step for step in side.steps if value_of(uow, step, metric) == value), None)


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
