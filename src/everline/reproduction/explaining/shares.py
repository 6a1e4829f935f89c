"""From measured mixtures to shares: the evaluation set first, then the parts, then the seed as what is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from everline.errors import InvalidInputError
from everline.reproduction.explaining import attribution, coalitions
from everline.reproduction.explaining.attribution import Coalition, Interval, deviation, interval, t_95
from everline.reproduction.explaining.types import (
    EVALUATION_SET,
    SEED,
    CoalitionRun,
    Explanation,
    Finding,
    Interaction,
    Method,
    Plan,
    Share,
)

_EQUAL = 1e-9
_LARGE = 0.1
_ROUNDING = 1e-12
_Vector = list[float]


class Measured(NamedTuple):
    """A mixture of two runs with one seed, and its metric on the evaluation set of each; or why there is none.

    Attributes:
        crossing: it is one of the two runs, and cannot be measured on the evaluation set of the other.
    """

    run: CoalitionRun
    on_before: float = math.nan
    on_after: float = math.nan
    problem: str | None = None
    crossing: bool = False


def split(plan: Plan, measured: Sequence[Measured], *, anyway: bool = False, ends_only: bool = False) -> Explanation:
    """Split a change.

    With v(S, e, r) the metric of coalition S on evaluation set e with seed r, none and all the coalitions of no and of
    every part, A and B the evaluation sets of the earlier and the later run:

    - the evaluation set's share is the mean of v(none, B) - v(none, A) and v(all, B) - v(all, A);
    - the parts share v(all) - v(none), v being the mean over both sets: Shapley's values of that game;
    - the seed's share is what is left of the change of the two runs, which had one seed each.

    So the shares add up to the change exactly, whatever the parts do to each other.

    Args:
        measured: every mixture that is needed, with every seed of the plan.
        anyway: split also what noise covers.
        ends_only: stop before the shares; only the two runs themselves must have been run.

    Raises:
        InvalidInputError: a mixture is missing.
    """
    if plan.finding is not None or plan.before_value is None or plan.after_value is None:
        return _without(plan, plan.finding or Finding.UNVERIFIABLE, plan.problem or "there is nothing to split")
    change = plan.after_value - plan.before_value
    table = _Table(plan, measured)
    if change == 0 and not anyway:
        return _without(plan, Finding.NO_CHANGE, f"{plan.metric} is the same in both runs")
    if plan.labels_differ and not anyway:
        reason = "both were measured on the same rows with another outcome, so the two numbers measure different things"
        return _without(plan, Finding.NOT_COMPARABLE, reason, table=table)
    trouble = table.trouble()
    if trouble is not None:
        finding = Finding.NOT_COMPARABLE if any(one.crossing for one in measured) else Finding.UNVERIFIABLE
        return _without(plan, finding, trouble, table=table)
    both = [high - low for high, low in zip(table.on_after(table.all), table.on_before(frozenset()), strict=True)]
    total = interval(both)
    found = _without(plan, Finding.EXPLAINED, "", table=table)
    found = msgspec.structs.replace(found, noise=table.noise())
    if not plan.parts and not table.crossed:
        only = "only the seed differs" if plan.before_seed != plan.after_seed else "nothing that was recorded differs"
        return msgspec.structs.replace(
            found, finding=Finding.WITHIN_NOISE, reason=f"{only} in what leads to the metric"
        )
    if total.low <= 0 <= total.high and len(set(both)) > 1 and not anyway:
        reason = (
            f"over {len(plan.seeds)} seeds the change is {total.mean:+.4g} ({total.low:+.4g} to {total.high:+.4g}), "
            "which may as well be none; one run differs from another by up to "
            f"{table.noise() or 0:.4g} by its seed alone"
        )
        return msgspec.structs.replace(found, finding=Finding.WITHIN_NOISE, reason=reason)
    return found if ends_only else _shares(plan, found, table, change, total)


class _Table:
    """What was measured, by coalition and seed."""

    def __init__(self, plan: Plan, measured: Sequence[Measured]) -> None:
        self.plan = plan
        self.all: Coalition = frozenset(plan.parts)
        self.seeds: tuple[int | None, ...] = plan.seeds or (None,)
        self.runs = tuple(
            msgspec.structs.replace(one.run, problem=one.problem) if one.problem else one.run for one in measured
        )
        step = plan.metric_step
        self.crossed = step is not None and step.before != step.after
        self._found = {(frozenset(one.run.taken), one.run.seed): one for one in measured}

    def problem(self, coalition: Coalition) -> str | None:
        """Why a coalition has no value, or None if it has one."""
        for seed in self.seeds:
            one = self._found.get((coalition, seed))
            if one is None:
                taken = ", ".join(sorted(coalition)) or "nothing"
                raise InvalidInputError(
                    f"The mixture that takes {taken} from the later run was not run with seed {seed}.", field="runs"
                )
            if one.problem is not None:
                return one.problem
        return None

    def fails(self, coalition: Coalition) -> bool:
        """Whether a coalition has no value."""
        return self.problem(coalition) is not None

    def on_before(self, coalition: Coalition) -> _Vector:
        """Its metric on the earlier run's evaluation set, per seed."""
        self.problem(coalition)
        return [self._found[coalition, seed].on_before for seed in self.seeds]

    def on_after(self, coalition: Coalition) -> _Vector:
        """Its metric on the later run's evaluation set, per seed."""
        self.problem(coalition)
        return [self._found[coalition, seed].on_after for seed in self.seeds]

    def value(self, coalition: Coalition) -> _Vector:
        """Its metric, the mean over both evaluation sets, per seed."""
        pairs = zip(self.on_before(coalition), self.on_after(coalition), strict=True)
        return [(first + second) / 2 for first, second in pairs]

    def trouble(self) -> str | None:
        """Why the two runs themselves could not be done again, or did not come out as they were recorded."""
        plan = self.plan
        ends = (
            ("earlier", frozenset[str](), self.on_before, plan.before_value, plan.before_seed),
            ("later", self.all, self.on_after, plan.after_value, plan.after_seed),
        )
        for which, coalition, values, recorded, seed in ends:
            problem = self.problem(coalition)
            if problem is not None:
                crossed = any(one.crossing for one in self._found.values())
                what = "measured on the evaluation set of the other" if crossed else "done again"
                return f"the {which} run cannot be {what}: {problem}"
            again = values(coalition)[self.seeds.index(seed)]
            if recorded is None or not math.isclose(again, recorded, rel_tol=_EQUAL, abs_tol=1e-12):
                return (
                    f"the {which} run comes out as {again:.6g} where {recorded:.6g} was recorded: it depends on "
                    "something that was not recorded; `everline reproduce` says which step"
                )
        return None

    def noise(self) -> float | None:
        """By how much two runs differ in 95 % of cases that differ in their seeds alone; None without seeds."""
        if len(self.seeds) < 2:
            return None
        spread = math.hypot(deviation(self.on_before(frozenset())), deviation(self.on_after(self.all)))
        return t_95(len(self.seeds) - 1) * spread


def _shares(plan: Plan, found: Explanation, table: _Table, change: float, total: Interval) -> Explanation:
    groups = coalitions.groups(found.method, plan.parts, table.fails)
    names = {" + ".join(group): group for group in groups}

    def value(coalition: Coalition) -> _Vector:
        return table.value(frozenset(part for name in coalition for part in names[name]))

    shares: list[Share] = []
    if found.method is Method.EXACT:
        by_part = {name: interval(seeds) for name, seeds in attribution.exact(list(names), value).items()}
    else:
        ordered = [[" + ".join(group) for group in order] for order in coalitions.orders(found.method, groups)]
        by_part = {name: _over(cells) for name, cells in attribution.over_orders(ordered, value).items()}
    for name, one in by_part.items():
        shares.append(
            Share(
                components=names[name],
                value=one.mean,
                low=one.low,
                high=one.high,
                together=_why_together(table, names[name]),
            )
        )
    shares.sort(key=lambda share: -abs(share.value))
    if table.crossed:
        one = interval(_evaluation(table))
        shares.insert(0, Share(components=(EVALUATION_SET,), value=one.mean, low=one.low, high=one.high))
    if plan.seeds:
        left = change - math.fsum(share.value for share in shares)
        if abs(left) <= _ROUNDING * max((abs(share.value) for share in shares), default=0.0):
            left = 0.0  # the last bit of a sum is nobody's doing
        margin = total.high - total.mean
        shares.append(Share(components=(SEED,), value=left, low=left - margin, high=left + margin))
    pairs = attribution.interactions(list(names), value) if found.method is Method.EXACT else {}
    return msgspec.structs.replace(
        found,
        shares=tuple(shares),
        interactions=tuple(_large(pairs, change)),
        reason=_sentence(plan, shares, change),
    )


def _evaluation(table: _Table) -> _Vector:
    ends = (frozenset[str](), table.all)
    crossed = [zip(table.on_after(end), table.on_before(end), strict=True) for end in ends]
    effects = [[high - low for high, low in pairs] for pairs in crossed]
    return [(first + second) / 2 for first, second in zip(*effects, strict=True)]


def _over(cells: Sequence[Sequence[float]]) -> Interval:
    """The mean effect over orders and seeds; both spreads widen the interval."""
    by_order = interval([math.fsum(seeds) / len(seeds) for seeds in cells])
    by_seed = interval([math.fsum(orders) / len(orders) for orders in zip(*cells, strict=True)])
    margin = math.hypot(by_order.high - by_order.mean, by_seed.high - by_seed.mean)
    return Interval(by_order.mean, by_order.mean - margin, by_order.mean + margin)


def _why_together(table: _Table, group: tuple[str, ...]) -> str | None:
    """Why parts could not be exchanged apart: the first mixture that needed them apart and did not run."""
    if len(group) < 2:
        return None
    for run in table.runs:
        taken = set(run.taken)
        if run.problem is not None and taken & set(group) and not set(group) <= taken:
            return f"taking {', '.join(run.taken)} alone does not run: {run.problem}"
    return "a mixture that has them apart does not run"


def _large(pairs: dict[tuple[str, str], _Vector], change: float) -> list[Interaction]:
    found = []
    for (first, second), seeds in pairs.items():
        one = interval(seeds)
        if (one.low > 0 or one.high < 0) and abs(one.mean) >= _LARGE * abs(change):
            found.append(Interaction(first=first, second=second, value=one.mean, low=one.low, high=one.high))
    return sorted(found, key=lambda pair: -abs(pair.value))


def _sentence(plan: Plan, shares: Sequence[Share], change: float) -> str:
    if not shares:
        return f"{plan.metric} changed by {change:+.4g}"
    largest = max(shares, key=lambda share: abs(share.value))
    named = " and ".join(largest.components)
    share = f" ({largest.value / change:.0%})" if change else ""
    return f"{named} caused {largest.value:+.4g} of the {change:+.4g} by which {plan.metric} changed{share}"


def _without(plan: Plan, finding: Finding, reason: str, *, table: _Table | None = None) -> Explanation:
    old, new = plan.before_value, plan.after_value
    return Explanation(
        before=plan.before,
        after=plan.after,
        metric=plan.metric,
        before_value=old,
        after_value=new,
        change=None if old is None or new is None else new - old,
        finding=finding,
        reason=reason,
        method=plan.method,
        components=plan.components,
        seeds=plan.seeds,
        runs=table.runs if table is not None else (),
    )
