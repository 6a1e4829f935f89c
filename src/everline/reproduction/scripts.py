"""The law of the ladder for scripts and notebooks, which have no steps: their results are compared one by one.

Pure, as `comparison` is. A script of `everline.run()` has a whole record, and can earn every level. A script of the
MLflow client has tags: a commit and the name of a script. Nobody wrote down its arguments, its uncommitted changes or,
beyond the requirements of a model, its environment. So its L0 says what there is, its L1 cannot be earned, and the
level ends there, whatever the results say: they are compared all the same, and each rung says what was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from everline.reproduction.comparison import earned_level, hidden_input, level_checks, run_differences
from everline.reproduction.results import Different, Results, compare
from everline.reproduction.types import (
    Cause,
    FirstDifference,
    LevelCheck,
    Reproduction,
    Source,
    StepComparison,
    Verdict,
)
from everline.runs import undeclared
from everline.runs.capture import RunRecord
from everline.runs.environment import Environment, differences, machine_class_differs
from everline.runs.watching import Seen

_SEED_NAMES = ("seed", "random_state")


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A run with its results: the recorded one, or a repetition.

    Attributes:
        record: of the recorded run of an MLflow client, None; a repetition's is made by whoever repeats it.
        given: the arguments were given by hand.
    """

    run: str
    finished: bool
    record: RunRecord | None
    results: Results
    given: bool = False
    undeclared: tuple[Seen, ...] = ()


def judge(
    recorded: Made,
    rebuilds: Sequence[Made],
    *,
    source: Source | None,
    record_digest: str | None,
    failure: str | None = None,
    cause: Cause = Cause.RECORD,
) -> Reproduction:
    """Compare a script's run with its repetitions.

    Args:
        rebuilds: the first is compared; more of them tell chance from a hidden input.
        source: for a run of the MLflow client, which has no record.
        failure, cause: what went wrong on the way, and what it was about.
    """
    rebuild = rebuilds[0] if rebuilds else None
    # What a script that failed left behind says nothing about what it would have made.
    whole = rebuild is not None and rebuild.finished and failure is None
    steps, different = compare(recorded.results, rebuild.results if rebuild is not None and whole else None)
    software, hardware = _environment(recorded, rebuild, source)
    seen = rebuild.undeclared if rebuild is not None else ()
    hidden = undeclared.told(recorded.undeclared, seen, step=None, among=True)
    run_level = _run_level(recorded, rebuild, source, software, compared=whole)
    if source is None and recorded.record is not None:
        checks = level_checks(
            ran=rebuild is not None and rebuild.record is not None,
            finished=whole,
            steps=steps,
            what="results",
            packages=len(recorded.record.environment.distributions),
            run_level=run_level,
            software=software,
            elsewhere=_elsewhere(recorded, rebuild),
            hidden=hidden,
        )
        left_out: tuple[str, ...] = ()
    else:
        assert source is not None
        checks = _client_checks(source, rebuild, steps, run_level=run_level, whole=whole, cause=cause, hidden=hidden)
        left_out = not_recorded(source)
    first = _first(
        recorded, rebuilds, different, run_level=run_level, hardware=hardware, failure=failure, cause=cause,
        left_out=left_out, hidden=hidden,
    )  # fmt: skip
    verdict = _verdict(steps, first, whole=whole)
    return Reproduction(
        run=recorded.run,
        level=earned_level(checks),
        verdict=verdict,
        first_difference=first,
        reason=_reason(verdict, first, steps),
        checks=checks,
        steps=steps,
        environment=software,
        hardware=hardware,
        record_digest=record_digest,
        rebuilds=tuple(one.run for one in rebuilds),
        undeclared=tuple(undeclared.sentence(one) for one in seen),
        not_recorded=left_out,
    )


def not_recorded(source: Source) -> tuple[str, ...]:
    """What the MLflow client did not write down of a run."""
    found = ["the arguments of the notebook" if source.notebook else "the arguments of the script"]
    if source.script.startswith("/") or source.notebook:
        found.append("the folder it was started in")
    if source.notebook:
        found.append("the order in which its cells were run")
    if source.dirty is None:
        found.append("whether there were uncommitted changes")
    elif source.dirty and not source.diff:
        found.append("the uncommitted changes that there were")
    if source.model is None:
        found.append("the environment")
    else:
        found.append(f"the environment beyond the requirements of model {source.model}")
    found += ["environment variables and hash seed", "the machine", "the bytes of its data"]
    return tuple(found)


def _environment(
    recorded: Made, rebuild: Made | None, source: Source | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Differences of software and of hardware, as sentences."""
    if rebuild is None or rebuild.record is None:
        return (), ()
    here = rebuild.record.environment
    if recorded.record is not None:
        found = differences(recorded.record.environment, here)
        return (
            tuple(one.sentence() for one in found if one.kind == "environment"),
            tuple(one.sentence() for one in found if one.kind == "hardware"),
        )
    return (_pins_missed(source, here) if source is not None else ()), ()


def _pins_missed(source: Source, here: Environment) -> tuple[str, ...]:
    versions = {one.name: one.version for one in here.distributions}
    found = []
    if source.python is not None and not f"{here.python}.".startswith(f"{source.python}."):
        found.append(f"python: {source.python} required by model {source.model}, {here.python} here")
    for pin in source.requirements:
        name, _, version = pin.partition("==")
        if versions.get(name) != version and not (name == "mlflow" and versions.get("mlflow-skinny") == version):
            there = versions.get(name, "not installed")
            found.append(f"{name}: {version} required by model {source.model}, {there} here")
    return tuple(found)


def _run_level(
    recorded: Made, rebuild: Made | None, source: Source | None, software: tuple[str, ...], *, compared: bool
) -> dict[Cause, str]:
    """What differs in the whole of two runs, by class: of a script, also what it logged as parameters and inputs."""
    found: dict[Cause, str] = {}
    if recorded.record is not None:
        found |= run_differences(recorded.record, rebuild.record if rebuild else None, software)
    elif rebuild is not None and source is not None:
        found |= _client_code(source, rebuild)
        if software:
            found[Cause.ENVIRONMENT] = "; ".join(software[:5])
    if rebuild is None or not compared:
        return found
    for cause, detail in _logged(recorded.results, rebuild.results).items():
        found.setdefault(cause, detail)
    order = (Cause.CODE, Cause.DATA, Cause.PARAMETERS, Cause.SEED, Cause.ENVIRONMENT)
    return {cause: found[cause] for cause in order if cause in found}


def _client_code(source: Source, rebuild: Made) -> dict[Cause, str]:
    if source.dirty and not source.diff:
        return {Cause.CODE: "there were uncommitted changes, which nobody recorded"}
    code = rebuild.record.code if rebuild.record is not None else None
    if code is not None and code.commit != source.commit:
        return {Cause.CODE: f"commit {code.commit}, recorded {source.commit}"}
    if code is not None and code.dirty and not source.dirty:
        return {Cause.CODE: f"the files were not those of commit {source.commit}"}
    return {}


def _logged(before: Results, after: Results) -> dict[Cause, str]:
    found = logged_differences(before.params, after.params)
    changed = _unequal(before.data, after.data)
    if changed:
        name = changed[0]
        found[Cause.DATA] = f"dataset {name}: {after.data.get(name)}, recorded {before.data.get(name)}"
    return found


def logged_differences(before: Mapping[str, str], after: Mapping[str, str]) -> dict[Cause, str]:
    """The first of the logged parameters that differ, seeds apart from the others."""
    found: dict[Cause, str] = {}
    for name in _unequal(before, after):
        cause = Cause.SEED if any(word in name.lower() for word in _SEED_NAMES) else Cause.PARAMETERS
        found.setdefault(cause, f"{name} = {after.get(name)!r}, recorded {before.get(name)!r}")
    return found


def _unequal(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]


def _elsewhere(recorded: Made, rebuild: Made | None) -> bool:
    if recorded.record is None or rebuild is None or rebuild.record is None:
        return False
    return machine_class_differs(recorded.record.environment.machine, rebuild.record.environment.machine)


def _client_checks(
    source: Source,
    rebuild: Made | None,
    steps: Sequence[StepComparison],
    *,
    run_level: Mapping[Cause, str],
    whole: bool,
    cause: Cause,
    hidden: str | None,
) -> tuple[LevelCheck, ...]:
    """The ladder for a run of the MLflow client: what its record bears out, and where it ends."""
    found = rebuild is not None and Cause.CODE not in run_level
    came = rebuild is not None or cause is not Cause.CODE
    code = run_level.get(Cause.CODE, "the commit or the script in it was not found")
    changes = ", with its uncommitted changes" if source.dirty and source.diff else ""
    what = f"commit {source.commit[:12]} and {source.script} in it are here{changes}"
    if source.requirements:
        pinned = f"the record names {len(source.requirements)} packages (requirements of model {source.model})"
        environment = f"{pinned} and no others, and no hashes of their files"
        missed = run_level.get(Cause.ENVIRONMENT)
        environment += f"; not met: {missed}" if missed else ""
    else:
        environment = "the record names no package: the MLflow client writes them down only with a model"
    given = rebuild is not None and rebuild.given
    if not whole:
        again = "the rebuild did not finish"
    elif run_level:
        again = "; ".join(f"{kind}: {detail}" for kind, detail in run_level.items())
    elif hidden:
        again = f"{hidden}: that is not in the record"
    else:
        again = "its arguments were given by hand" if given else "it finished again from the commit alone"
    checks = level_checks(
        ran=False, finished=whole, steps=steps, what="results", packages=0, run_level=dict(run_level), software=(),
        elsewhere=False,
    )  # fmt: skip
    own = {
        "L0": (found and came, f"{what}; not recorded: {', '.join(not_recorded(source)[:3])}" if found else code),
        "L1": (False, environment),
        "L2": (whole and not run_level and not given and not hidden, again),
        "L6": (False, "the MLflow client does not record the machine"),
    }
    return tuple(
        LevelCheck(level=one.level, earned=own[one.level][0], reason=own[one.level][1]) if one.level in own else one
        for one in checks
    )


def _first(
    recorded: Made,
    rebuilds: Sequence[Made],
    different: Sequence[Different],
    *,
    run_level: Mapping[Cause, str],
    hardware: tuple[str, ...],
    failure: str | None,
    cause: Cause,
    left_out: tuple[str, ...],
    hidden: str | None,
) -> FirstDifference | None:
    if failure is not None or not rebuilds or not rebuilds[0].finished:
        was = undeclared.told((), recorded.undeclared, step=None, among=True)
        before = f"; when it was recorded, {was}" if was and cause is Cause.HIDDEN_INPUT else ""
        return FirstDifference(step=None, cause=cause, detail=(failure or "the rebuild did not finish") + before)
    where = different[0] if different else None
    if run_level:
        kind, detail = next(iter(run_level.items()))
        shown = f"{detail}; {where.name} {where.detail}" if where else detail
        return FirstDifference(step=where.name if where else None, cause=kind, detail=shown)
    if where is None:
        return hidden_input(recorded.undeclared, rebuilds[0].undeclared)
    others = {tuple(sorted(_states(one.results).items())) for one in rebuilds} if len(rebuilds) > 1 else set()
    shown = f"{where.name} {where.detail}"
    if len(others) > 1:
        detail = f"{shown}; {len(rebuilds)} rebuilds in the same environment gave {len(others)} different results"
        detail += f"; besides, {hidden}" if hidden else ""
        return FirstDifference(step=where.name, cause=Cause.NON_DETERMINISM, detail=detail)
    if hidden:
        detail = f"{shown}; {hidden}: that is not in the record"
        return FirstDifference(step=where.name, cause=Cause.HIDDEN_INPUT, detail=detail)
    if hardware:
        return FirstDifference(step=where.name, cause=Cause.HARDWARE, detail=f"{shown}; {'; '.join(hardware[:5])}")
    if len(rebuilds) > 1:
        unseen = f", or it depends on {', '.join(left_out)}" if left_out else ""
        detail = f"{shown}; {len(rebuilds)} rebuilds agree with each other and not with the record: it read what was "
        return FirstDifference(step=where.name, cause=Cause.HIDDEN_INPUT, detail=f"{detail}not recorded{unseen}")
    return FirstDifference(step=where.name, cause=Cause.NON_DETERMINISM, detail=shown)


def _states(results: Results) -> dict[str, str]:
    metrics = {f"metric {name}": repr(points) for name, points in results.metrics.items()}
    return metrics | {name: content.said for name, content in results.files.items()}


def _verdict(steps: Sequence[StepComparison], first: FirstDifference | None, *, whole: bool) -> Verdict:
    if not whole or not steps:
        return Verdict.DIVERGED
    if all(step.equal == "bits" for step in steps):
        return Verdict.IDENTICAL if first is None else Verdict.EQUIVALENT
    if all(step.equal in ("bits", "tolerance") for step in steps):
        return Verdict.EQUIVALENT
    return Verdict.DIVERGED


def _reason(verdict: Verdict, first: FirstDifference | None, steps: Sequence[StepComparison]) -> str:
    if verdict is Verdict.IDENTICAL:
        return f"every one of {len(steps)} results has the recorded bits"
    if first is None:
        return "there was nothing to compare"
    place = f"{first.step} differs" if first.step else "the run as a whole differs"
    if verdict is Verdict.EQUIVALENT and all(step.equal == "bits" for step in steps):
        return f"every result has the recorded bits, but the {first.cause} differs: {first.detail}"
    return f"{place}, because of {first.cause}: {first.detail}"
