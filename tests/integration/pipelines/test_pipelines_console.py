"""The console's pages of pipelines on both databases: what they say, what people can do there, what is harmless."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree

import pytest

from everline.access import service as access
from everline.access.types import Role
from everline.canonical import canonical_digest
from everline.ids import new_uid
from everline.pipelines import approvals, history, running, service, tables
from everline.pipelines.schedules import service as schedules
from everline.pipelines.schedules.types import Cron, ScheduleSpec
from everline.pipelines.types import (
    Asked,
    PlannedStep,
    RecordSteps,
    StartRun,
    StepError,
    StepOutput,
    StepStatus,
    StepUpdate,
)
from everline.runs import service as runs
from everline.runs.types import RunStatus

PIPELINE = "shop:prices"
HOSTILE = '"><script>alert(1)</script><img src=x>\x1b[31m'


class Work:
    """A driver that reports what a test says."""

    def __init__(self, begin: Any, plan: list[PlannedStep] | None = None, *, pipeline: str = PIPELINE) -> None:
        self.begin, self.pipeline = begin, pipeline
        with begin() as uow:
            self.run = runs.create_run(uow, "default", pipeline=pipeline).run
            body = StartRun(pipeline=pipeline, driver="host:7:1", directory="/nowhere", plan=plan or [])
            self.epoch = running.start(uow, "default", self.run, body=body).epoch
            self.start = uow.clock.now() - timedelta(seconds=100)

    def step(self, name: str, status: StepStatus, *, at: float = 0, took: float = 1, **fields: Any) -> StepUpdate:
        ended = None
        if status not in (StepStatus.RUNNING, StepStatus.WAITING):
            ended = self.start + timedelta(seconds=at + took)
        begun = self.start + timedelta(seconds=at)
        return StepUpdate(
            uid=new_uid(), name=name, position=fields.pop("position", 0), status=status, started_at=begun,
            ended_at=ended, attempts=1, **fields,
        )  # fmt: skip

    def report(self, *steps: StepUpdate, output: dict[str, str] | None = None) -> None:
        pieces = [StepOutput(uid=uid, text=text) for uid, text in (output or {}).items()]
        with self.begin() as uow:
            report = RecordSteps(pipeline=self.pipeline, epoch=self.epoch, steps=list(steps), output=pieces)
            service.record_steps(uow, "default", self.run, report=report)

    def ask(self, step: str = "approval", *, shown: dict[str, Any] | None = None, **fields: Any) -> None:
        self.report(self.step(step, StepStatus.WAITING))
        asked = {"question": "Publish?", "role": "approver", "others": False, **fields}
        with self.begin() as uow:
            approvals.ask(
                uow, "default", self.run,
                asked=Asked(step=step, material=canonical_digest(shown or {}), shown=shown or {}, **asked),
            )  # fmt: skip

    def stop(self, status: RunStatus) -> None:
        with self.begin() as uow:
            running.stop(uow, "default", self.run, epoch=self.epoch, status=status)


def send(browser: Any, address: str, *, page: str, **fields: str) -> Any:
    """Send a form as the page would that has it."""
    token = re.search(r'name="form_token" value="(\w+)"', browser.get(page).text)
    assert token is not None
    return browser.post(address, data={"form_token": token[1], **fields}, follow_redirects=False)


def vertices(page: str) -> dict[str, str]:
    """The state of each vertex of the broad picture, by its title."""
    picture = page[page.index('class="pipeline broad') :].partition("</svg>")[0]
    return {title: state for state, title in re.findall(r'vertex state-(\w+)".*?<title>(.*?)</title>', picture, re.S)}


def test_a_run_at_work_shows_what_is_done_and_what_is_to_come(browser: Any, begin: Any) -> None:
    plan = [PlannedStep(name="load"), PlannedStep(name="large", needs=(0,))]
    plan += [PlannedStep(name=f"price[{i}]", needs=(0,)) for i in range(1_000)]
    plan += [PlannedStep(name="when", kind="choice", needs=(1,))]
    plan += [PlannedStep(name="ask", kind="question", needs=(1_002,))]
    work = Work(begin, plan)
    work.report(
        work.step("load", StepStatus.CACHED, took=0, reason="unchanged since run 01a2"),
        work.step("large", StepStatus.RUNNING, at=1, position=1, needs=("load",), reason="code changed: RATE"),
    )
    work.report(*(
        work.step(f"price[{i}]", StepStatus.SUCCEEDED, at=1 + i // 8, position=i + 2, needs=("load",))
        for i in range(600)
    ))  # fmt: skip
    work.report(
        work.step(
            "price[600]", StepStatus.FAILED, at=90, position=602, reason="it never ran before",
            error=StepError(type="ValueError", message="no <b>price</b>", traceback="\x1b[31mline\x1b[0m 7"),
        )
    )  # fmt: skip
    page = browser.get(f"/runs/{work.run}").text
    found = vertices(page)
    assert found["load: cached"] == "cached"
    assert found["large: running"] == "running"
    assert found["price[…]: 1 failed, 600 succeeded, 399 not yet"] == "failed"
    assert found["ask: question"] == "pending"
    assert len(found) == 5
    assert 'id="graph" data-refresh' in page
    assert "Cancel run" in page
    steps = browser.get(f"/runs/{work.run}/steps").text
    assert "code changed: RATE" in steps
    assert steps.index("price[600]</a>") < steps.index("load</a>")  # what needs eyes comes first
    assert steps.count('<rect class="bar') < 1_000
    assert len(steps) < 400_000
    calls = browser.get(f"/runs/{work.run}/steps", params={"of": "price[…]", "state": "pending"}).text
    assert "399 of 1" in calls
    failed = re.search(r'href="(/runs/\w+/steps/[\w-]+)">price\[600\]', steps)
    assert failed is not None
    step = browser.get(failed[1]).text
    assert "no &lt;b&gt;price&lt;/b&gt;" in step
    assert "line 7" in step
    work.stop(RunStatus.FAILED)
    ended = browser.get(f"/runs/{work.run}").text
    assert 'id="graph" data-refresh' not in ended
    assert "Cancel run" not in ended
    assert f"everline run --resume {work.run}" in ended


def test_a_part_that_is_built_while_it_runs_takes_the_place_of_its_vertex(browser: Any, begin: Any) -> None:
    plan = [
        PlannedStep(name="count"),
        PlannedStep(name="square", kind="expansion", needs=(0,)),
        PlannedStep(name="sub", kind="expansion", needs=(0,)),
        PlannedStep(name="join", needs=(1, 2)),
    ]
    work = Work(begin, plan)
    assert vertices(browser.get(f"/runs/{work.run}").text)["square: built while it runs"] == "pending"
    work.report(
        work.step("count", StepStatus.SUCCEEDED),
        *(work.step(f"square[{i}]", StepStatus.SUCCEEDED, position=4 + i, needs=("count",)) for i in range(3)),
        work.step("sub/read", StepStatus.SUCCEEDED, position=7, needs=("count",)),
        work.step("sub/fit", StepStatus.RUNNING, position=8, needs=("sub/read",)),
    )
    found = vertices(browser.get(f"/runs/{work.run}").text)
    assert found["square: 3 succeeded"] == "succeeded"
    assert found["sub/fit: running"] == "running"


def test_hostile_names_and_output_are_text_everywhere(browser: Any, begin: Any) -> None:
    work = Work(begin, [PlannedStep(name=HOSTILE, kind="question")], pipeline="shop:<i>x</i>")
    bad = work.step(f"{HOSTILE}[1]", StepStatus.RUNNING, reason=HOSTILE, needs=(HOSTILE,))
    printed = "\x1b[31mred\x1b[0m <script>alert(2)</script>\n 10 %\r 90 %\n\x1b]0;title\x07\x00half"
    work.report(bad, output={bad.uid: printed})
    work.ask(HOSTILE, question=HOSTILE, shown={HOSTILE: {"metrics": {HOSTILE: 1.0}}, "rows": [{HOSTILE: HOSTILE}]})
    step = f"/runs/{work.run}/steps/{bad.uid}"
    pages = (
        f"/runs/{work.run}",
        f"/runs/{work.run}/steps",
        step,
        "/approvals",
        "/pipelines",
        "/pipelines/shop:<i>x</i>",
    )
    for address in pages:
        answer = browser.get(address)
        assert answer.status_code == 200, address
        for markup in ("<script>alert", "<img src=x", "<i>x</i>"):
            assert markup not in answer.text, (address, markup)
    text = browser.get(step).text
    assert "red &lt;script&gt;alert(2)&lt;/script&gt;\n 90 %\n" in text
    assert "\x1b" not in text.partition('class="output"')[2].partition("</pre>")[0]
    more = browser.get(f"{step}/output.json").json()
    assert (more["text"], more["ended"]) == (printed.replace("\x00", ""), False)
    assert browser.get(f"{step}/output.json", params={"after": more["last"]}).json()["text"] == ""
    whole = browser.get(f"{step}/output.txt")
    assert whole.content.decode() == printed.replace("\x00", "")
    for address in (f"/runs/{work.run}/pictures/graph.svg", f"/runs/{work.run}/pictures/timeline.svg"):
        picture = browser.get(address)
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(picture.content).iter()}
        assert "svg" in tags
        assert not {"script", "img"} & tags
        assert picture.headers["content-disposition"].startswith("attachment")
        assert "sandbox" in picture.headers["content-security-policy"]
    assert browser.get(f"/runs/{work.run}/pictures/other.svg").status_code == 404


def test_a_question_is_answered_with_what_it_shows(browser: Any, begin: Any) -> None:
    work = Work(begin, [PlannedStep(name="approval", kind="question")])
    shown = {
        "candidate": {"metrics": {"auc": 0.81}, "n": 90},
        "champion": {"metrics": {"auc": 0.78}},
        "rows": {"kind": "table", "digest": "sha256:" + "a" * 64, "rows": 12},
    }
    work.ask(shown=shown)
    work.stop(RunStatus.SCHEDULED)
    page, answers = f"/runs/{work.run}", f"/runs/{work.run}/answers"
    text = browser.get(page).text
    for words in ("Publish?", "0.81", "0.78", "+0.03", "table, 12 rows", "It waits for 1 answer"):
        assert words in text
    assert '<span class="count mark">1' in browser.get("/datasets").text
    assert "shop:prices asks: Publish?" in browser.get("/").text
    assert browser.post(answers, data={"step": "approval", "move": "approve"}).status_code == 403  # no form's token
    silent = send(browser, answers, page=page, step="approval", move="reject", reason=" ")
    assert silent.status_code == 400
    assert "A no needs a reason" in silent.text
    given = send(browser, answers, page=page, step="approval", move="approve", reason="better <i>indeed</i>")
    assert given.headers["location"].startswith(f"/runs/{work.run}?done=approve")
    assert "better &lt;i&gt;indeed" in browser.get("/approvals").text
    assert "count mark" not in browser.get("/datasets").text
    with begin() as uow:
        assert approvals.list_approvals(uow, "default", run=work.run)[0].approved is True


def test_a_mark_is_for_those_who_may_answer(begin: Any) -> None:
    work = Work(begin)
    work.ask(role="approver")
    with begin(role=Role.APPROVER) as uow:
        assert history.waiting_for(uow, "default") == 1
    with begin(role=Role.CONTRIBUTOR) as uow:
        assert history.waiting_for(uow, "default") == 0
    work.stop(RunStatus.KILLED)
    with begin(role=Role.APPROVER) as uow:
        assert history.waiting_for(uow, "default") == 0


def test_a_run_is_cancelled_and_its_question_withdrawn(browser: Any, begin: Any) -> None:
    work = Work(begin)
    work.ask()
    work.stop(RunStatus.SCHEDULED)
    page = f"/runs/{work.run}"
    assert send(browser, f"{page}/cancel", page=page).status_code == 303
    assert "The run ended before anybody answered" in browser.get(page).text
    history_ = browser.get("/approvals").text
    assert "withdrawn" in history_
    assert "Nobody is asked" in history_
    assert send(browser, f"{page}/cancel", page=page).status_code == 409


def test_a_dead_driver_is_told_with_the_command_that_goes_on(browser: Any, begin: Any) -> None:
    work = Work(begin)
    first = work.step("load", StepStatus.RUNNING)
    work.report(first)
    with begin() as uow:
        past = uow.clock.now() - timedelta(minutes=5)
        uow.conn.execute(tables.pipeline_run.update().values(lease_until=past))
    text = browser.get(f"/runs/{work.run}").text
    assert "Nobody runs it any more" in text
    assert "host:7:1" in text
    assert f"everline run --resume {work.run}" in text
    with begin() as uow:
        body = StartRun(pipeline=PIPELINE, driver="other:8:2")
        work.epoch = running.start(uow, "default", work.run, body=body).epoch
    work.report(work.step("load", StepStatus.SUCCEEDED, at=50))
    steps = browser.get(f"/runs/{work.run}/steps").text
    assert "Nobody runs it" not in steps
    assert "lost with its driver" in steps


def test_pipelines_show_their_runs_and_which_step_got_slower(browser: Any, begin: Any) -> None:
    for number, seconds in enumerate((1, 1, 1, 4, 4, 4)):
        work = Work(begin)
        work.report(
            work.step("read", StepStatus.CACHED if number % 2 else StepStatus.SUCCEEDED, took=0.5),
            work.step("fit", StepStatus.FAILED if number == 0 else StepStatus.SUCCEEDED, took=seconds, position=1),
        )
        work.stop(RunStatus.FAILED if number == 0 else RunStatus.FINISHED)
    Work(begin, pipeline="other:one")
    every = ScheduleSpec(name="hourly", pipeline=PIPELINE, directory="/nowhere", trigger=Cron(expression="0 * * * *"))
    with begin() as uow:
        schedules.put_schedule(uow, "default", every)
    page = browser.get("/pipelines").text
    assert page.index("other:one") < page.index(PIPELINE)
    assert 'href="/schedules/hourly"' in page
    squares = re.findall(r'<rect class="fill-(\w+)" x="\d+" width="14"', page)
    assert squares == ["running", "failed", *["succeeded"] * 5]
    assert "83 %" in page
    one = browser.get(f"/pipelines/{PIPELINE}").text
    assert "fit takes longer in the last three runs than before" in one
    assert "× 4" in one
    picture = browser.get(f"/pipelines/{PIPELINE}/steps.svg")
    assert ElementTree.fromstring(picture.content).tag.endswith("svg")
    assert browser.get("/pipelines/no:such").status_code == 404


@pytest.mark.parametrize("address", ["/runs/{}/steps", "/runs/{}", "/runs/{}/pictures/graph.svg"])
def test_a_run_of_another_project_is_not_there(browser: Any, begin: Any, address: str) -> None:
    work = Work(begin)
    with begin() as uow:
        access.create_project(uow, "other")
    answer = browser.get(address.format(work.run), params={"project": "other"})
    assert answer.status_code == 404
