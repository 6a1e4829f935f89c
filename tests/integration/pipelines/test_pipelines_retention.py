"""What runs leave behind is forgotten after its time, and not before; what a registered model came from stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import everline as el
from everline.clock import FixedClock
from everline.pipelines import retention
from everline.sdk.client import Client


@el.step
def wide(n: int) -> list[int]:
    return list(range(n))


@el.pipeline
def kept(n: int = 3_000) -> list[int]:
    return wide(n)


def forget(begin: Any, *, days: float) -> dict[str, int]:
    with begin() as uow:
        uow.clock = FixedClock(uow.clock.now() + timedelta(days=days))
        return dict(retention.forget(uow))


def test_a_result_is_forgotten_when_nobody_used_it_for_long(begin: Any, client: Client) -> None:
    first = client.pipelines.run(kept)
    assert forget(begin, days=89) == {"kept_results": 0, "step_results": 0, "output": 0}
    assert client.pipelines.run(kept).steps[0].cached
    assert forget(begin, days=91) == {"kept_results": 1, "step_results": 2, "output": 0}
    (step,) = client.pipelines.steps(first.run)
    assert step.outputs[0].digest == first.steps[0].outputs[0] and not step.outputs[0].files
    again = client.pipelines.run(kept)
    assert not again.steps[0].cached and again.steps[0].outputs == first.steps[0].outputs
