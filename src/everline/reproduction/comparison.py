"""The law of the ladder: which levels a rebuild has earned, and where it first left the record.

Pure: two records and their steps in, a judgement out. Each level needs all levels below it.

    L0 recorded      code, data, parameters and environment are recorded, and every byte of them is still there
    L1 rebuildable   the rebuild ran in an environment equal to the record: Python and every installed distribution
                     by version and by the hashes of its files; see docs/adr/0011-reproduction-levels.md
    L2 re-runnable   the run finished again, from the recorded code, data, parameters and seed alone
    L3, L4 equal     every table, array and value within 1e-9 of the recorded one (L3 by implication)
    L5 bit-equal     every step output has the recorded digest
    L6 elsewhere     L5 on a machine of another class
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from everline.pipelines.types import KeyMaterial, StepRecord, StepStatus, ValueRef
from everline.reproduction.failures import cause_of_error
from everline.reproduction.tolerance import COMPARABLE, RELATIVE_MAX
from everline.reproduction.types import (
    LEVELS,
    Cause,
    FirstDifference,
    LevelCheck,
    Reproduction,
    StepComparison,
    Verdict,
)
from everline.runs import undeclared
from everline.runs.capture import RunRecord
from everline.runs.environment import differences, machine_class_differs
from everline.runs.watching import Seen

Measure = Callable[[ValueRef, ValueRef], float | None]


class Rebuild(msgspec.Struct, frozen=True, kw_only=True):
    """One repetition of a run, as it was recorded."""

    run: str
    finished: bool
    record: RunRecord | None
    steps: tuple[StepRecord, ...]
    undeclared: tuple[Seen, ...] = ()


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """The run that is to be reproduced, as it was recorded."""

    run: str
    finished: bool
    record: RunRecord
    record_digest: str
    steps: tuple[StepRecord, ...]
    undeclared: tuple[Seen, ...] = ()


def judge(
    recorded: Recorded,
    rebuilds: Sequence[Rebuild],
    *,
    failure: str | None = None,
    cause: Cause = Cause.RECORD,
    measure: Measure,
) -> Reproduction:
    """Compare a run with its repetitions.

    Args:
        rebuilds: the first is compared; a second one only tells chance from a hidden input.
        failure, cause: what went wrong on the way, and what it was about, if there is no repetition.
        measure: the largest relative difference between two results, or None if they cannot be compared.
    """
    rebuild = rebuilds[0] if rebuilds else None
    software: tuple[str, ...] = ()
    hardware: tuple[str, ...] = ()
    elsewhere = False
    if rebuild is not None and rebuild.record is not None:
        found = differences(recorded.record.environment, rebuild.record.environment)
        software = tuple(d.sentence() for d in found if d.kind == "environment")
        hardware = tuple(d.sentence() for d in found if d.kind == "hardware")
        elsewhere = machine_class_differs(recorded.record.environment.machine, rebuild.record.environment.machine)
    steps = compare_steps(recorded, rebuild, measure)
    run_level = run_differences(recorded.record, rebuild.record if rebuild else None, software)
    checks = level_checks(
        ran=rebuild is not None and rebuild.record is not None,
        finished=rebuild is not None and rebuild.finished,
        steps=steps,
        what="steps",
        packages=len(recorded.record.environment.distributions),
        run_level=run_level,
        software=software,
        elsewhere=elsewhere,
        hidden=undeclared.told(recorded.undeclared, rebuild.undeclared if rebuild else (), step=None, among=True),
    )
    first = first_difference(
        recorded, rebuilds, steps, run_level=run_level, hardware=hardware, failure=failure, cause=cause
    )
    verdict = _verdict(rebuild, steps, first)
    return Reproduction(
        run=recorded.run,
        level=earned_level(checks),
        verdict=verdict,
        first_difference=first,
        reason=_reason(verdict, first, steps, rebuild),
        checks=checks,
        steps=steps,
        environment=software,
        hardware=hardware,
        record_digest=recorded.record_digest,
        rebuilds=tuple(item.run for item in rebuilds),
        undeclared=tuple(undeclared.sentence(one) for one in (rebuild.undeclared if rebuild else ())),
    )


def compare_steps(recorded: Recorded, rebuild: Rebuild | None, measure: Measure) -> tuple[StepComparison, ...]:
    """Compare every output of every recorded step; steps with effects, which a rebuild leaves out, are no part."""
    again = {} if rebuild is None else {(step.name, step.position): step for step in rebuild.steps}
    found = []
    kept = [step for step in recorded.steps if step.status in (StepStatus.SUCCEEDED, StepStatus.CACHED)]
    for step in kept:
        if step.key is None and (step.name, step.position) not in again:
            continue
        before = tuple(output.digest for output in step.outputs)
        other = again.get((step.name, step.position))
        if other is None or other.status is StepStatus.FAILED:
            found.append(StepComparison(name=step.name, position=step.position, recorded=before))
            continue
        after = tuple(output.digest for output in other.outputs)
        equal, difference = ("bits", None) if before == after else _closeness(step.outputs, other.outputs, measure)
        if equal == "tolerance" and not _is_judged(step, kept):
            equal, difference = "no", None
        found.append(
            StepComparison(
                name=step.name,
                position=step.position,
                recorded=before,
                rebuilt=after,
                equal=equal,
                difference=difference,
            )
        )
    return tuple(found)


def run_differences(before: RunRecord, after: RunRecord | None, software: tuple[str, ...]) -> dict[Cause, str]:
    """What differs between two records as a whole, by class, in the order in which classes are named."""
    if after is None:
        return {}
    found: dict[Cause, str] = {}
    if before.code.digest != after.code.digest:
        old, new = ({file.path: file.digest for file in record.code.files} for record in (before, after))
        changed = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
        found[Cause.CODE] = f"{', '.join(changed[:5])}: not the recorded content"
    # By digest: elsewhere the same content may have another number.
    old_data, new_data = ([(d.name, d.digest) for d in record.data] for record in (before, after))
    if old_data != new_data:
        one_sided = {f"{d.name}@{d.version}" for d in before.data if (d.name, d.digest) not in new_data}
        one_sided |= {f"{d.name}@{d.version}" for d in after.data if (d.name, d.digest) not in old_data}
        changed = sorted(one_sided) or ["the order"]
        found[Cause.DATA] = f"{', '.join(changed[:5])}: not the recorded dataset versions"
    old_values, new_values = dict(before.params), dict(after.params)
    old_seed = old_values.pop("seed", before.seed)
    new_seed = new_values.pop("seed", after.seed)
    names = sorted(old_values.keys() | new_values.keys())
    wrong = [n for n in names if old_values.get(n) != new_values.get(n)]
    if wrong:
        each = (f"{n} = {new_values.get(n)!r}, recorded {old_values.get(n)!r}" for n in wrong[:5])
        found[Cause.PARAMETERS] = "; ".join(each)
    if old_seed != new_seed or before.seed != after.seed:
        found[Cause.SEED] = f"seed {new_seed}, recorded {old_seed}"
    if software:
        found[Cause.ENVIRONMENT] = "; ".join(software[:5])
    return found


def first_difference(
    recorded: Recorded,
    rebuilds: Sequence[Rebuild],
    steps: Sequence[StepComparison],
    *,
    run_level: dict[Cause, str],
    hardware: tuple[str, ...],
    failure: str | None,
    cause: Cause = Cause.RECORD,
) -> FirstDifference | None:
    """Name the first step that differs and the class of its cause; None if everything is as recorded."""
    if not rebuilds:
        return FirstDifference(step=None, cause=cause, detail=failure or "the run was not rebuilt")
    rebuild = rebuilds[0]
    failed = next((step for step in rebuild.steps if step.status is StepStatus.FAILED), None)
    where = next((step for step in steps if step.equal != "bits"), None)
    name = failed.name if failed else where.name if where else None
    before = {step.name: step for step in recorded.steps}
    after = {step.name: step for step in rebuild.steps}
    if name is None:
        # Outputs are equal: what differs at all had no effect, and is still named.
        found_at = next((_at_step(before, after, cause, detail) for cause, detail in run_level.items()), None)
        return found_at or hidden_input(recorded.undeclared, rebuild.undeclared)
    found = _cause_at(before.get(name), after.get(name), run_level)
    if found is not None:
        return FirstDifference(step=name, cause=found[0], detail=found[1])
    if failed is not None and failed.error is not None:
        told = cause_of_error(failed.error.type, failed.error.message)
        cause = told or (Cause.HARDWARE if hardware else Cause.HIDDEN_INPUT)
        detail = f"the step failed when repeated: {failed.error.type}: {failed.error.message[:300]}"
        was = undeclared.told((), recorded.undeclared, step=failed.name)
        detail += f"; when it was recorded, {was}" if was else ""
        detail += f"; {'; '.join(hardware[:5])}" if cause is Cause.HARDWARE and hardware else ""
        return FirstDifference(step=name, cause=cause, detail=detail)
    if where is not None and where.equal == "missing":
        return FirstDifference(step=name, cause=Cause.HIDDEN_INPUT, detail=failure or "the step was not reached")
    hidden = undeclared.told(recorded.undeclared, rebuild.undeclared, step=name)
    return _unexplained(name, rebuilds, hardware, hidden)


def hidden_input(before: Sequence[Seen], after: Sequence[Seen]) -> FirstDifference | None:
    """The first thing that a rebuild read and nobody declared, although all results are equal."""
    if not after:
        return None
    detail = f"{undeclared.told(before, after, step=None, among=True)}: that is not in the record"
    return FirstDifference(step=after[0].step, cause=Cause.HIDDEN_INPUT, detail=detail)


def _cause_at(
    before: StepRecord | None, after: StepRecord | None, run_level: dict[Cause, str]
) -> tuple[Cause, str] | None:
    """The cause that a step's own material shows, else what differs in the run as a whole."""
    old = before.material if before else None
    new = after.material if after else None
    if old is not None and new is not None:
        own = _material_cause(old, new, run_level)
        if own is not None:
            return own
    return next(iter(run_level.items()), None)


def _material_cause(old: KeyMaterial, new: KeyMaterial, run_level: dict[Cause, str]) -> tuple[Cause, str] | None:
    if old.code != new.code:
        changed = sorted(
            part for part in old.parts.keys() | new.parts.keys() if old.parts.get(part) != new.parts.get(part)
        )
        return Cause.CODE, f"{', '.join(changed[:5]) or 'the step'}: not the recorded code"
    for name in sorted(old.inputs.keys() | new.inputs.keys()):
        before, after = old.inputs.get(name), new.inputs.get(name)
        if before == after:
            continue
        if _is_digest(before) or _is_digest(after):
            return Cause.DATA, run_level.get(Cause.DATA, f"input {name}: not the recorded data")
        if "seed" in name or name == "random_state":
            return Cause.SEED, f"{name} = {after!r}, recorded {before!r}"
        return Cause.PARAMETERS, f"{name} = {after!r}, recorded {before!r}"
    if old.environment != new.environment:
        return Cause.ENVIRONMENT, run_level.get(Cause.ENVIRONMENT, "not the recorded environment")
    return None


def _at_step(before: dict[str, StepRecord], after: dict[str, StepRecord], cause: Cause, detail: str) -> FirstDifference:
    if cause is not Cause.ENVIRONMENT:
        for name, step in before.items():
            other = after.get(name)
            if step.material is not None and other is not None and other.material is not None:
                own = _material_cause(step.material, other.material, {})
                if own is not None and own[0] is cause:
                    return FirstDifference(step=name, cause=cause, detail=own[1])
    return FirstDifference(step=None, cause=cause, detail=detail)


def _unexplained(
    name: str, rebuilds: Sequence[Rebuild], hardware: tuple[str, ...], hidden: str | None
) -> FirstDifference:
    """Same code, data, parameters, seed and environment, other result: ask the second rebuild what it was."""
    outputs = [
        tuple(ref.digest for step in rebuild.steps if step.name == name for ref in step.outputs) for rebuild in rebuilds
    ]
    if len(set(outputs)) > 1:
        detail = f"{len(outputs)} rebuilds in the same environment gave {len(set(outputs))} different results"
        detail += f"; besides, {hidden}" if hidden else ""
        return FirstDifference(step=name, cause=Cause.NON_DETERMINISM, detail=detail)
    if hidden:
        return FirstDifference(step=name, cause=Cause.HIDDEN_INPUT, detail=f"{hidden}: that is not in the record")
    if hardware:
        return FirstDifference(step=name, cause=Cause.HARDWARE, detail="; ".join(hardware[:5]))
    if len(outputs) > 1:
        detail = f"{len(outputs)} rebuilds agree with each other and not with the record: it read what was not recorded"
        return FirstDifference(step=name, cause=Cause.HIDDEN_INPUT, detail=detail)
    detail = "everything recorded is equal and the result is not; a second rebuild would tell chance from hidden input"
    return FirstDifference(step=name, cause=Cause.NON_DETERMINISM, detail=detail)


def earned_level(checks: Sequence[LevelCheck]) -> str | None:
    """The highest rung up to which every rung was earned."""
    level = None
    for check in checks:
        if not check.earned:
            break
        level = check.level
    return level


def level_checks(
    *,
    ran: bool,
    finished: bool,
    steps: Sequence[StepComparison],
    what: str,
    packages: int,
    run_level: Mapping[Cause, str],
    software: tuple[str, ...],
    elsewhere: bool,
    hidden: str | None = None,
) -> tuple[LevelCheck, ...]:
    """Every rung of the ladder with its reason.

    Args:
        ran: a rebuild started and recorded its environment.
        steps: what was compared; `what` is the word for it, `steps` or `results`.
        packages: how many distributions were recorded.
        run_level: what differs in the run as a whole.
        software: differences of the environment.
        elsewhere: the rebuild ran on a machine of another class.
        hidden: what the rebuild read that is not in the record.
    """
    from_record = finished and not (run_level.keys() - {Cause.ENVIRONMENT}) and not hidden
    bits = bool(steps) and all(step.equal == "bits" for step in steps)
    close = bool(steps) and all(step.equal in ("bits", "tolerance") for step in steps)
    n = f"{len(steps)} {what}"
    earned = {
        "L0": (True, "code, data, parameters and environment are recorded and whole"),
        "L1": (
            ran and not software,
            f"Python and {packages} distributions have the recorded versions and file hashes"
            if ran and not software
            else "; ".join(software[:3]) or "it was not rebuilt",
        ),
        "L2": (
            from_record,
            "it finished again from the record alone"
            if from_record
            else "; ".join(f"{cause}: {detail}" for cause, detail in run_level.items())
            or (f"{hidden}: that is not in the record" if finished else "the rebuild did not finish"),
        ),
        "L3": (close, "implied by L4" if close else "outputs differ by more than the tolerance"),
        "L4": (close, f"outputs of {n} within {RELATIVE_MAX:g}" if close else "outputs differ"),
        "L5": (bits, f"outputs of {n} have the recorded digests" if bits else "an output has other bits"),
        "L6": (bits and elsewhere, "on another machine class" if elsewhere else "the machine class is the same"),
    }
    return tuple(LevelCheck(level=level, earned=earned[level][0], reason=earned[level][1]) for level in LEVELS)


def _verdict(rebuild: Rebuild | None, steps: Sequence[StepComparison], first: FirstDifference | None) -> Verdict:
    if rebuild is None or not rebuild.finished or not steps:
        return Verdict.DIVERGED
    if all(step.equal == "bits" for step in steps):
        return Verdict.IDENTICAL if first is None else Verdict.EQUIVALENT
    if all(step.equal in ("bits", "tolerance") for step in steps):
        return Verdict.EQUIVALENT
    return Verdict.DIVERGED


def _reason(
    verdict: Verdict, first: FirstDifference | None, steps: Sequence[StepComparison], rebuild: Rebuild | None
) -> str:
    if verdict is Verdict.IDENTICAL:
        return f"every output of {len(steps)} steps has the recorded digest"
    if first is None:
        return "there was nothing to compare"
    place = f"at step {first.step}" if first.step else "in the run as a whole"
    if verdict is Verdict.EQUIVALENT and all(step.equal == "bits" for step in steps):
        return f"every output has the recorded digest, but {place} the {first.cause} differs: {first.detail}"
    return f"{place}, because of {first.cause}: {first.detail}"


def _closeness(before: Sequence[ValueRef], after: Sequence[ValueRef], measure: Measure) -> tuple[str, float | None]:
    if len(before) != len(after):
        return "no", None
    worst = 0.0
    for old, new in zip(before, after, strict=True):
        if old.digest == new.digest:
            continue
        if old.kind != new.kind:
            return "no", None
        if old.kind not in COMPARABLE:
            continue  # The bytes of a model or package say nothing about how near it is: its results do.
        difference = measure(old, new)
        if difference is None:
            return "no", None
        worst = max(worst, difference)
    return ("tolerance" if worst <= RELATIVE_MAX else "no"), worst


def _is_judged(step: StepRecord, steps: Sequence[StepRecord]) -> bool:
    """Whether a step has comparable results of its own, or a later step makes some of what it gave."""
    if any(output.kind in COMPARABLE for output in step.outputs):
        return True
    return any(step.name in later.needs and _is_judged(later, steps) for later in steps if later is not step)


def _is_digest(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"digest"}
