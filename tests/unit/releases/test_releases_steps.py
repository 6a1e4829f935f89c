"""Plans as people write them, and the numbers that guards rest on."""

import doctest

import numpy as np
import pytest

from everline.errors import InvalidInputError
from everline.releases import intervals, plans, progress, steps
from everline.releases.steps import Step, parse_steps
from everline.releases.types import Guards, Plan


@pytest.mark.parametrize("module", [intervals, steps, progress, plans])
def test_examples_hold(module):
    assert doctest.testmod(module).failed == 0


def test_every_spelling_means_the_same():
    meant = [Step(share=0.05, hold_s=600), Step(share=0.25, hold_s=3600), Step(share=1.0, hold_s=0)]
    for text in ("5% 10 min → 25% 1h → 100%", "5 % for 600 s -> 25% for 1 h->100%", "5%,25% 60m,100%"):
        assert parse_steps(text) == meant


@pytest.mark.parametrize(
    "text", ["", "5", "100%", "5% → 5%", "25% → 5%", "0% → 100%", "5% 10 weeks", "101%", "5% 31 d", "1% → 2% →", "½%"]
)
def test_what_cannot_be_followed_is_refused_with_an_example(text):
    with pytest.raises(InvalidInputError) as caught:
        parse_steps(text)
    assert "5% 10 min" in caught.value.hint
    assert caught.value.field == "plan.steps"


def test_a_plan_begins_with_its_first_step_and_its_guards_have_ranges():
    assert plans.check_plan(Plan(canary_share=0.4, steps="5% → 100%")).canary_share == 0.05
    with pytest.raises(InvalidInputError) as caught:
        plans.check_plan(Plan(guards=Guards(p99_ratio_max=0.5)))
    assert caught.value.field == "plan.guards.p99_ratio_max"


def test_intervals_hold_what_they_promise():
    random = np.random.default_rng(2)
    held = {"newcombe": 0, "welch": 0}
    for _ in range(400):
        a, b = random.binomial(200, 0.03), random.binomial(2000, 0.03)
        found = intervals.newcombe(int(a), 200, int(b), 2000)
        held["newcombe"] += found.low <= 0 <= found.high
        found = intervals.welch(random.exponential(1.0, 60), random.exponential(1.0, 300))
        held["welch"] += found.low <= 0 <= found.high
    assert 0.92 <= held["newcombe"] / 400 <= 0.99
    assert 0.91 <= held["welch"] / 400 <= 0.99
