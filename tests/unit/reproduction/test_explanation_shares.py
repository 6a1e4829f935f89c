"""How a change is split: games whose shares are known, noise, parts that cannot be exchanged apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from everline.errors import InvalidInputError
from everline.pipelines.types import ValueRef
from everline.reproduction.explaining import attribution, coalitions
from everline.reproduction.explaining.shares import Measured, split
from everline.reproduction.explaining.types import CoalitionRun, Explanation, Finding, Method, MetricStep, Plan


def planned(parts: tuple[str, ...], before: float, after: float, **facts: Any) -> Plan:
    """A plan of a metric's change."""
    step = facts.pop("metric_step", MetricStep(name="measure"))
    return Plan(
        before="a",
        after="b",
        metric="loss",
        before_value=before,
        after_value=after,
        parts=parts,
        metric_step=step,
        **facts,
    )


def explained(
    plan: Plan,
    value: Callable[[frozenset[str], int | None], float],
    *,
    on_after: Callable[[frozenset[str], int | None], float] | None = None,
    fails: Callable[[frozenset[str]], bool] = lambda _: False,
    anyway: bool = False,
) -> Explanation:
    """What an explanation says if mixtures come out as `value` says."""
    measured = []
    for taken in attribution.coalitions(plan.parts):
        for seed in plan.seeds or (None,):
            run = CoalitionRun(taken=tuple(sorted(taken)), seed=seed, run="c")
            if fails(taken):
                measured.append(Measured(run, problem="it does not run"))
            else:
                first = value(taken, seed)
                measured.append(Measured(run, first, on_after(taken, seed) if on_after else first))
    return split(plan, measured, anyway=anyway)


def shares(found: Explanation) -> dict[str, float]:
    return {" + ".join(share.components): round(share.value, 10) for share in found.shares}


def test_a_product_is_split_by_shapley_and_its_interaction_is_shown() -> None:
    def loss(taken: frozenset[str], _seed: int | None) -> float:
        return (2.0 if "weight" in taken else 1.0) * (3.0 if "code" in taken else 1.0)

    found = explained(planned(("code", "data", "weight"), 1.0, 6.0), loss)
    assert found.finding is Finding.EXPLAINED
    assert shares(found) == {"code": 3.0, "weight": 2.0, "data": 0.0}
    assert [(pair.first, pair.second, pair.value) for pair in found.interactions] == [("code", "weight", 2.0)]
    assert found.reason == "code caused +3 of the +5 by which loss changed (60%)"


def test_shares_add_up_exactly_with_the_seed_as_its_own_bar() -> None:
    noise = {1: 0.1, 2: -0.05, 3: 0.02, 4: 0.07, 5: -0.1}

    def loss(taken: frozenset[str], seed: int | None) -> float:
        return 1.0 + 3.0 * ("code" in taken) + noise[seed or 0] * (2.0 if "data" in taken else 1.0)

    before, after = loss(frozenset(), 1), loss(frozenset({"code", "data"}), 2)
    plan = planned(("code", "data"), before, after, seeds=(1, 2, 3, 4, 5), before_seed=1, after_seed=2)
    found = explained(plan, loss)
    assert list(shares(found)) == ["code", "data", "seed"]
    assert math.isclose(sum(share.value for share in found.shares), after - before, rel_tol=1e-15)
    code, data, seed = found.shares
    assert code.low <= 3.0 <= code.high and code.high - code.low < 1e-9
    assert data.low < 0 < data.high, "it only spreads the noise, so its share may as well be none"
    assert found.noise is not None and abs(seed.value) < found.noise


def test_noise_that_covers_the_change_stops_it() -> None:
    def loss(taken: frozenset[str], seed: int | None) -> float:
        chance = [0.1, 0.2, -0.4, 0.5, -0.6] if "code" in taken else [0.0, 0.4, -0.3, 0.2, -0.5]
        return chance[seed or 0]

    plan = planned(("code",), loss(frozenset(), 0), loss(frozenset({"code"}), 1),
                   seeds=(0, 1, 2, 3, 4), before_seed=0, after_seed=1)  # fmt: skip
    found = explained(plan, loss)
    assert found.finding is Finding.WITHIN_NOISE and found.shares == ()
    assert "may as well be none" in found.reason
    assert explained(plan, loss, anyway=True).finding is Finding.EXPLAINED
    same = planned((), 0.0, 0.4, seeds=(0, 1), before_seed=0, after_seed=1)
    only_seed = explained(same, lambda _, seed: [0.0, 0.4][seed or 0])
    assert only_seed.finding is Finding.WITHIN_NOISE and "only the seed differs" in only_seed.reason


def test_another_evaluation_set_is_separated_first() -> None:
    old, new = ValueRef(kind="table", digest="old"), ValueRef(kind="table", digest="new")
    step = MetricStep(name="measure", before={"table": old}, after={"table": new})
    found = explained(
        planned(("code",), 1.0, 3.5, metric_step=step),
        lambda taken, _: 1.0 + 0.5 * ("code" in taken),
        on_after=lambda taken, _: 3.0 + 0.5 * ("code" in taken),
    )
    assert shares(found) == {"evaluation set": 2.0, "code": 0.5}


def test_parts_that_do_not_run_apart_are_one_and_the_reason_is_given() -> None:
    def fails(taken: frozenset[str]) -> bool:
        return ("code" in taken) != ("environment" in taken)

    found = explained(
        planned(("data", "environment", "code"), 0.0, 3.0), lambda taken, _: float(len(taken)), fails=fails
    )
    assert shares(found) == {"environment + code": 2.0, "data": 1.0}
    assert found.shares[0].together == "taking environment alone does not run: it does not run"


def test_runs_that_do_not_come_out_as_recorded_are_not_explained() -> None:
    found = explained(planned(("code",), 1.0, 2.0), lambda taken, _: 1.0 + 0.9 * ("code" in taken))
    assert (found.finding, found.shares) == (Finding.UNVERIFIABLE, ())
    assert "comes out as 1.9 where 2 was recorded" in found.reason
    with pytest.raises(InvalidInputError, match="takes nothing from the later run was not run"):
        split(planned(("code",), 1.0, 2.0), [])


@pytest.mark.parametrize("method", [Method.SAMPLED, Method.QUICK])
def test_sampled_orders_and_one_path_are_exact_where_nothing_interacts(method: Method) -> None:
    parts = tuple("abcdefg")
    weights = {part: float(index) for index, part in enumerate(parts)}
    plan = planned(parts, 0.0, sum(weights.values()), method=method)
    found = explained(plan, lambda taken, _: sum(weights[part] for part in taken))
    assert shares(found) == weights
    assert len(coalitions.needed(method, parts, lambda _: False)) < 2**7


def test_orders_around_a_mixture_that_fails_ask_for_what_they_need() -> None:
    parts = tuple("abcdef")

    def fails(taken: frozenset[str]) -> bool:
        return ("a" in taken) != ("d" in taken)

    assert ("a", "d") in coalitions.groups(Method.SAMPLED, parts, fails)
    assert coalitions.groups(Method.QUICK, parts, fails) == [("a", "b", "c", "d"), ("e",), ("f",)]
    assert not any(fails(taken) for taken in coalitions.needed(Method.SAMPLED, parts, fails))
