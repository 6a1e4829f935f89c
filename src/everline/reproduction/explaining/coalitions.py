"""Which mixtures of two runs have to be run, and what that costs at most."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from everline.pipelines.types import StepRecord
from everline.reproduction.explaining import attribution
from everline.reproduction.explaining.attribution import Coalition
from everline.reproduction.explaining.components import CODE, DATA, ENVIRONMENT, PARAMETER, Side, plain_inputs
from everline.reproduction.explaining.types import SEED, Component, Estimate, Method

Fails = Callable[[Coalition], bool]


def groups(method: Method, parts: Sequence[str], fails: Fails) -> list[tuple[str, ...]]:
    """The parts, put together where they cannot be exchanged apart."""
    if method is Method.EXACT:
        return attribution.finest_merge(parts, fails)
    if method is Method.QUICK:
        return _along(parts, fails)
    return _apart_in_no_order(parts, fails)


def needed(method: Method, parts: Sequence[str], fails: Fails) -> list[Coalition]:
    """The coalitions whose value is asked for, as far as it is known which of them fail."""
    if method is Method.EXACT:
        return list(attribution.coalitions(parts))
    found: dict[Coalition, None] = {}
    for order in orders(method, groups(method, parts, fails)):
        taken: Coalition = frozenset()
        found[taken] = None
        for group in order:
            taken |= frozenset(group)
            found[taken] = None
    return list(found)


def orders(method: Method, found: Sequence[tuple[str, ...]]) -> list[tuple[tuple[str, ...], ...]]:
    """In which orders groups are exchanged, where not every coalition is run."""
    if method is Method.QUICK:
        return [tuple(found)]
    names = {str(index): group for index, group in enumerate(found)}
    return [tuple(names[name] for name in order) for order in attribution.random_orders(list(names))]


def estimate(
    before: Side,
    after: Side,
    *,
    metric_step: str,
    parts: Sequence[Component],
    seeds: int,
    cells: int,
    method: Method,
    seconds_of: Callable[[StepRecord], float],
) -> Estimate:
    """What running all coalitions costs at most.

    A step runs once for each mixture of those parts that reach it, and once for each seed if the seed does; what the
    two runs themselves did is kept.

    Args:
        seeds: how many, at least 1.
        cells: on how many evaluation sets the metric's step is run.
        seconds_of: how long a recorded step took when it was computed.
    """
    names = [part.name for part in parts]
    count = len(needed(method, names, lambda _: False))
    reached: dict[str, set[str]] = {}
    executions, seconds = 0, 0.0
    for step in after.leading_to(metric_step):
        twin = before.step(step.name)
        mine = _touching(twin, step, before, after, names).union(*(reached.get(name, set()) for name in step.needs))
        reached[step.name] = mine
        exchanged = len(mine - {SEED})
        mixtures = min(2**exchanged, count) * (seeds if SEED in mine else 1)
        times = mixtures * cells - (0 if not mine else 2) if step.name == metric_step else mixtures - min(2, mixtures)
        times = max(0, times)
        took = max((seconds_of(one) for one in (twin, step) if one is not None), default=0.0)
        executions += times
        seconds += times * took
    return Estimate(coalitions=count, executions=executions, seconds=round(seconds, 1))


def _apart_in_no_order(parts: Sequence[str], fails: Fails) -> list[tuple[str, ...]]:
    """Groups of parts that no mixture along random orders had apart and ran, though one had them apart and did not."""
    prefixes = {
        frozenset(order[:length]) for order in attribution.random_orders(parts) for length in range(len(parts) + 1)
    }
    failed = [one for one in prefixes if fails(one)]
    ran = [one for one in prefixes if one not in failed]
    merged: list[set[str]] = [{part} for part in parts]
    for one, two in itertools.combinations(parts, 2):
        if any((one in taken) != (two in taken) for taken in failed) and all(
            (one in taken) == (two in taken) for taken in ran
        ):
            touched = [group for group in merged if one in group or two in group]
            merged = [group for group in merged if group not in touched] + [set().union(*touched)]
    unexplained = [taken for taken in failed if all(group <= taken or not group & taken for group in merged)]
    if unexplained:  # no two parts account for it: nothing can be told apart
        return [tuple(parts)]
    found = [tuple(part for part in parts if part in group) for group in merged]
    return sorted(found, key=lambda group: parts.index(group[0]))


def _along(order: Sequence[str], fails: Fails) -> list[tuple[str, ...]]:
    """Groups along one order: a part waits for the next ones until the coalition runs."""
    found: list[tuple[str, ...]] = []
    taken: Coalition = frozenset()
    waiting: list[str] = []
    for part in order:
        waiting.append(part)
        if not fails(taken | frozenset(waiting)):
            found.append(tuple(waiting))
            taken |= frozenset(waiting)
            waiting = []
    return [*found, tuple(waiting)] if waiting else found


def _touching(twin: StepRecord | None, step: StepRecord, before: Side, after: Side, parts: Sequence[str]) -> set[str]:
    """The parts that reach a step directly; all of them where that cannot be told."""
    if twin is None or twin.material is None or step.material is None:
        return {*parts, SEED}
    found = {ENVIRONMENT} & set(parts)
    if twin.material.code != step.material.code:
        found.add(CODE)
    old, new = plain_inputs(twin), plain_inputs(step)
    if "seed" in new or "seed" in old:
        found.add(SEED)
    named = {part.removeprefix(f"{PARAMETER} "): part for part in parts if part.startswith(f"{PARAMETER} ")}
    for name in {*old, *new} - {"seed"}:
        if old.get(name) != new.get(name):
            found |= {named[name]} if name in named else set(named.values())
    if set(twin.material.inputs) != set(step.material.inputs) or _datasets(twin, before) != _datasets(step, after):
        found |= {part for part in parts if part.startswith(f"{DATA} ")}
    return found & {*parts, SEED}


def _datasets(step: StepRecord, side: Side) -> set[str]:
    """Digests that a step takes and no other step made: datasets."""
    made = {ref.digest for one in side.steps for ref in one.outputs}
    inputs = step.material.inputs if step.material is not None else {}
    return {
        value["digest"]
        for value in inputs.values()
        if isinstance(value, dict) and set(value) == {"digest"} and value["digest"] not in made
    }
