"""What differs between two runs: their records side by side, part by part."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from everline.canonical import canonical_digest
from everline.pipelines.types import StepRecord
from everline.reproduction.explaining.types import Component
from everline.runs.capture import RunRecord
from everline.runs.environment import Environment

CHANGES_MAX = 20
CODE, ENVIRONMENT, DATA, PARAMETER = "code", "environment", "data", "parameter"


class Side(NamedTuple):
    """One of two runs: its uid, record and steps in the order of the graph."""

    run: str
    record: RunRecord
    steps: Sequence[StepRecord]

    def step(self, name: str) -> StepRecord | None:
        """The step of this name."""
        return next((step for step in self.steps if step.name == name), None)

    def leading_to(self, name: str) -> list[StepRecord]:
        """A step and all that it depends on, in the order of the graph."""
        wanted = {name}
        for step in reversed(self.steps):
            if step.name in wanted:
                wanted.update(step.needs)
        return [step for step in self.steps if step.name in wanted]


def data_of(record: RunRecord) -> dict[str, list[str]]:
    """The digests of the dataset versions that a run read, in its order, by dataset."""
    found: dict[str, list[str]] = {}
    for use in record.data:
        found.setdefault(use.name, []).append(use.digest)
    return found


def parameters_of(record: RunRecord) -> dict[str, Any]:
    """The parameters of a run without its seed."""
    return {name: value for name, value in record.params.items() if not (name == "seed" and record.seed is not None)}


def software_of(environment: Environment) -> tuple[Any, ...]:
    """What of an environment may change a result and can be made again: Python and the installed distributions."""
    return (environment.python, environment.implementation, environment.distributions)


def mixed(before: Mapping[str, Any], after: Mapping[str, Any], taken: Iterable[str], kind: str) -> dict[str, Any]:
    """The parameters or datasets of a mixture: those that were taken are the later run's, the others the earlier's.

    Args:
        kind: `PARAMETER` or `DATA`, which the names in `taken` begin with.
    """
    chosen = set(taken)
    sides = {name: after if f"{kind} {name}" in chosen else before for name in sorted({*before, *after})}
    return {name: side[name] for name, side in sides.items() if name in side}


def metric_in(content: bytes, metric: str) -> float | None:
    """A metric of a step's JSON result, `{"metrics": {…}}`; None unless it is a finite number."""
    try:
        value = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return None
    found = value.get("metrics") if isinstance(value, dict) else None
    number = found.get(metric) if isinstance(found, dict) else None
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        return None
    return float(number)


def components(before: Side, after: Side, *, metric_step: str) -> list[Component]:
    """The parts that differ, in the order in which they are exchanged one after the other: data first, code last.

    Args:
        metric_step: the step whose result has the metric; what no step that leads to it sees is idle.
    """
    return [
        *_data(before, after, metric_step),
        *_parameters(before, after, metric_step),
        *_environment(before.record.environment, after.record.environment),
        *_code(before, after, metric_step),
    ]


def _data(before: Side, after: Side, metric_step: str) -> Iterable[Component]:
    old, new = data_of(before.record), data_of(after.record)
    for name in sorted({*old, *new}):
        mine, theirs = old.get(name, []), new.get(name, [])
        if mine == theirs:
            continue
        seen = _takes(before, metric_step, mine) or _takes(after, metric_step, theirs)
        yield Component(
            name=f"{DATA} {name}",
            before=_versions(before.record, name),
            after=_versions(after.record, name),
            changes=_lines([
                *(f"without {digest[:19]}" for digest in mine if digest not in theirs),
                *(f"with {digest[:19]}" for digest in theirs if digest not in mine),
            ]),
            idle=None if seen else "no step that leads to the metric reads it",
        )  # fmt: skip


def _takes(side: Side, metric_step: str, digests: Sequence[str]) -> bool:
    """Whether a step that leads to the metric reads a dataset."""
    if not digests:
        return False
    wanted = digests[0] if len(digests) == 1 else canonical_digest(list(digests))
    return any(wanted in _digests(step) for step in side.leading_to(metric_step))


def _digests(step: StepRecord) -> set[str]:
    return {found for value in _inputs(step).values() for found in _digests_in(value)}


def _digests_in(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        if set(value) == {"digest"}:
            yield value["digest"]
        else:
            for item in value.values():
                yield from _digests_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _digests_in(item)


def _versions(record: RunRecord, name: str) -> str:
    found = [f"{use.version}" + (f" ({use.label})" if use.label else "") for use in record.data if use.name == name]
    return f"{name}@{', '.join(found)}" if found else "not read"


def _parameters(before: Side, after: Side, metric_step: str) -> Iterable[Component]:
    old, new = parameters_of(before.record), parameters_of(after.record)
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    same_steps = _plain_inputs(before, metric_step) == _plain_inputs(after, metric_step)
    idle = same_steps and data_of(before.record) == data_of(after.record)
    for name in changed:
        yield Component(
            name=f"{PARAMETER} {name}",
            before=_shown(old, name),
            after=_shown(new, name),
            idle="no step that leads to the metric takes another value" if idle else None,
        )


def _plain_inputs(side: Side, metric_step: str) -> dict[str, dict[str, Any]]:
    """By step, what it takes that is no result or dataset."""
    return {step.name: plain_inputs(step) for step in side.leading_to(metric_step)}


def plain_inputs(step: StepRecord) -> dict[str, Any]:
    """What a step takes that is neither a result nor a dataset, by parameter."""
    return {name: value for name, value in _inputs(step).items() if not any(_digests_in(value))}


def _inputs(step: StepRecord) -> Mapping[str, Any]:
    return step.material.inputs if step.material is not None else {}


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "not taken"
    text = msgspec.json.encode(values[name]).decode()
    return text if len(text) <= 80 else text[:79] + "…"


def _environment(before: Environment, after: Environment) -> Iterable[Component]:
    if software_of(before) == software_of(after):
        return
    old, new = ({one.name: one for one in side.distributions} for side in (before, after))
    lines = []
    if (before.python, before.implementation) != (after.python, after.implementation):
        lines.append(f"Python {before.python} → {after.python}")
    for name in sorted({*old, *new}):
        mine, theirs = old.get(name), new.get(name)
        if mine is None or theirs is None:
            lines.append(f"{name} {'added' if mine is None else 'removed'}")
        elif mine.version != theirs.version:
            lines.append(f"{name} {mine.version} → {theirs.version}")
        elif mine != theirs:
            lines.append(f"{name} {mine.version}: other files")
    yield Component(
        name=ENVIRONMENT,
        before=f"Python {before.python}, {len(old)} distributions",
        after=f"Python {after.python}, {len(new)} distributions",
        changes=_lines(lines),
    )


def _code(before: Side, after: Side, metric_step: str) -> Iterable[Component]:
    old, new = before.record.code, after.record.code
    if old.digest == new.digest:
        return
    lines: list[str] = []
    seen = set(parameters_of(before.record)) != set(parameters_of(after.record))  # only one of them takes a parameter
    mine, theirs = ({step.name: step for step in side.leading_to(metric_step)} for side in (before, after))
    for name in [*mine, *(name for name in theirs if name not in mine)]:
        first, second = mine.get(name), theirs.get(name)
        if first is None or second is None:
            lines.append(f"step {name} {'added' if first is None else 'removed'}")
            seen = True
        elif first.material is not None and second.material is not None:
            parts = _changed(first.material.parts, second.material.parts)
            if first.material.code != second.material.code:
                lines.append(f"step {name}: {', '.join(parts) or 'the step itself'}")
                seen = True
    files = _changed({f.path: f.digest for f in old.files}, {f.path: f.digest for f in new.files})
    yield Component(
        name=CODE,
        before=_commit(before.record),
        after=_commit(after.record),
        changes=_lines([*lines, *(f"file {path}" for path in files)]),
        idle=None if seen else "no step that leads to the metric, and nothing that it calls, is another",
    )


def _changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]


def _commit(record: RunRecord) -> str:
    code = record.code
    if code.commit is None:
        return code.digest[:19]
    return f"{code.commit[:10]}{' with uncommitted changes' if code.dirty else ''}"


def _lines(lines: Sequence[str]) -> tuple[str, ...]:
    if len(lines) <= CHANGES_MAX:
        return tuple(lines)
    return (*lines[: CHANGES_MAX - 1], f"and {len(lines) - CHANGES_MAX + 1} more")
