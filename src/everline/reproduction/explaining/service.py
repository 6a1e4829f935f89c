"""The law of explanations: the server splits a change by what its own records say was run, and signs only that.

A client runs mixtures of two runs and names the runs that came out. Whether each is the mixture that it is said to be,
which metric it has, and what the shares are, is worked out here from the records.
"""

from __future__ import annotations

import msgspec

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError, NotFoundError
from everline.governance import evidence
from everline.pipelines import service as pipelines
from everline.pipelines.measuring import EXPLAINS_TAG
from everline.pipelines.types import StepStatus
from everline.reproduction import service as reproduction
from everline.reproduction.explaining.attribution import Coalition
from everline.reproduction.explaining.components import DATA, PARAMETER, data_of, mixed, parameters_of, software_of
from everline.reproduction.explaining.planning import make_plan, record_of, value_of
from everline.reproduction.explaining.shares import Measured, split
from everline.reproduction.explaining.statements import explanation_statement
from everline.reproduction.explaining.types import CoalitionRun, Explain, Explanation, Plan, cell_name
from everline.runs import service as runs
from everline.runs.capture import RunRecord

RUNS_MAX = 5_000


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
    planned = make_plan(
        uow,
        project,
        asked.before,
        asked.after,
        metric=asked.metric,
        method=asked.method,
        seeds=asked.seeds,
        # Mixtures have read what the records name, each piece against its digest: it is not all read once more here.
        whole=not asked.runs,
    )
    if planned.finding is not None or planned.metric_step is None:
        return split(planned, [])
    records = [record_of(uow, project, uid) for uid in (asked.before, asked.after)]
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
        record = record_of(uow, project, given.run)
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
        value = value_of(uow, one, planned.metric) if one is not None and ended else None
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
    data = mixed(data_of(before), data_of(after), taken, DATA)
    for name, digests in data_of(record).items():
        if name in data and digests != data[name]:
            return f"it read another version of {name}"
    parameters = mixed(parameters_of(before), parameters_of(after), taken, PARAMETER)
    for name, value in parameters_of(record).items():
        if name in parameters and value != parameters[name]:
            return f"it took another value of {name}"
    return None
