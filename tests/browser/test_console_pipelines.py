"""A run at work in a real browser: the page follows it by itself, and a person answers its question there."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from everline.canonical import canonical_digest
from everline.ids import new_uid
from everline.pipelines import approvals, running, service
from everline.pipelines.types import Asked, PlannedStep, RecordSteps, StartRun, StepOutput, StepStatus, StepUpdate
from everline.runs import service as runs
from everline.runs.types import RunStatus

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
NAME = "prices:prices"
SOON = 15_000


def test_a_page_follows_a_run_until_its_end_and_a_question_is_answered_on_it(site: Any, visit: Open) -> None:
    plan = [PlannedStep(name="load"), PlannedStep(name="approval", kind="question", needs=(0,))]
    plan.append(PlannedStep(name="publish", needs=(1,)))
    with site.app.begin() as uow:
        run = runs.create_run(uow, "default", name="prices of today", pipeline=NAME).run
        epoch = running.start(uow, "default", run, body=StartRun(pipeline=NAME, driver="worker", plan=plan)).epoch
        now = uow.clock.now()
    uids = [new_uid() for _ in plan]

    def report(position: int, status: StepStatus, *, printed: str = "") -> None:
        ended = now + timedelta(seconds=2) if status is StepStatus.SUCCEEDED else None
        step = StepUpdate(
            uid=uids[position], name=plan[position].name, position=position, status=status, started_at=now,
            ended_at=ended, attempts=1,
        )  # fmt: skip
        output = [StepOutput(uid=step.uid, text=printed)] if printed else []
        with site.app.begin() as uow:
            body = RecordSteps(pipeline=NAME, epoch=epoch, steps=[step], output=output)
            service.record_steps(uow, "default", run, report=body)

    page = visit("ravi")
    page.goto(f"/runs/{run}")
    vertex = page.locator("svg.broad .vertex")
    expect(page.locator("svg.broad .state-pending")).to_have_count(3)
    report(0, StepStatus.RUNNING, printed="10 %\r")
    expect(page.locator("svg.broad .state-running")).to_contain_text("load", timeout=SOON)

    output = visit("ravi")
    output.goto(f"/runs/{run}/steps/{uids[0]}")
    expect(output.locator(".output")).to_have_text("10 %")
    report(0, StepStatus.RUNNING, printed="90 %\r\n\x1b[1mread <b>all</b>\n")
    expect(output.locator(".output")).to_have_text("90 %\nread <b>all</b>\n", timeout=SOON)
    report(0, StepStatus.SUCCEEDED)
    expect(output.locator("#step-head")).to_contain_text("succeeded", timeout=SOON)

    expect(page.locator("svg.broad .state-succeeded")).to_contain_text("load", timeout=SOON)
    report(1, StepStatus.WAITING)
    asked = Asked(
        step="approval", question="Publish these prices?", role="approver", others=False,
        material=canonical_digest({}), shown={"candidate": {"metrics": {"error": 0.125}}},
    )  # fmt: skip
    with site.app.begin() as uow:
        approvals.ask(uow, "default", run, asked=asked)
    question = page.get_by_role("region", name="Publish these prices?")
    expect(question).to_contain_text("0.125", timeout=SOON)
    page.get_by_label("Reason").fill("Close to those of yesterday.")
    report(2, StepStatus.RUNNING)
    expect(vertex.filter(has_text="publish")).to_have_class(re.compile("state-running"), timeout=SOON)
    expect(page.get_by_label("Reason")).to_have_value("Close to those of yesterday.")  # nothing is taken from under it
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("status")).to_contain_text("Your approval is recorded")
    expect(page.get_by_role("region", name="Publish these prices?")).to_contain_text("ravi said yes")

    report(2, StepStatus.SUCCEEDED)
    with site.app.begin() as uow:
        running.stop(uow, "default", run, epoch=epoch, status=RunStatus.FINISHED)
    expect(page.locator("#run-head")).to_contain_text("finished", timeout=SOON)
    expect(page.locator("[data-refresh]")).to_have_count(0)
    page.get_by_role("link", name="Pipelines").first.click()
    page.get_by_role("link", name=NAME).click()
    expect(page.get_by_role("row", name="prices of today")).to_contain_text("succeeded")
