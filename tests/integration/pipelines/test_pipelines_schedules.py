"""Schedules: each slot, event and request gives one run, whoever looks, however often, through everything."""

from __future__ import annotations

import base64
import hmac
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from everline.access.types import LOCAL, SYSTEM, Role
from everline.clock import FixedClock
from everline.config import Settings
from everline.datasets import service as datasets
from everline.datasets.inspection import inspect
from everline.datasets.types import DatasetFile
from everline.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from everline.governance import audit
from everline.jobs import queue
from everline.monitoring import incidents
from everline.pipelines.schedules import asking, firing, service
from everline.pipelines.schedules.types import (
    Beyond,
    CatchUp,
    Cron,
    Interval,
    NewVersion,
    Promoted,
    RunStatus,
    ScheduleSpec,
    WebhookCall,
)
from everline.server.application import Application
from everline.server.worker import Worker
from tests_support.released import World

P = "default"
NIGHTLY = Cron(expression="30 2 * * *", zone="Europe/Berlin")
BODY = b'{"ref": "main"}'


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 3, 27, 12, tzinfo=UTC))


@pytest.fixture
def app(settings: Settings, clock: FixedClock):
    application = Application(settings, clock=clock)
    yield application
    application.close()


def spec(**changes: Any) -> ScheduleSpec:
    given = {"name": "nightly", "pipeline": "train:flights", "directory": "/srv/train", "trigger": NIGHTLY}
    return ScheduleSpec(**given | {"params": {"day": "{slot:%Y-%m-%d}"}} | changes)


def put(app: Application, **changes: Any):
    with app.begin(LOCAL) as uow:
        return service.put_schedule(uow, P, spec(**changes))


def tick(app: Application, clock: FixedClock, **passed: float) -> None:
    clock.advance(timedelta(**passed).total_seconds())
    with app.begin(SYSTEM, read_only=True) as uow:
        due = firing.is_due(uow)
    if due:  # as the control plane's own clock does it
        with app.begin(SYSTEM) as uow:
            firing.tick(uow)


def jobs(app: Application) -> list[Any]:
    with app.begin(LOCAL, read_only=True) as uow:
        return list(reversed(queue.list_jobs(uow, project=P, queue="pipelines")))


def work(app: Application, *, worker: str = "w", status: str = "succeeded", run: str = "f" * 32) -> Any:
    """What `everline worker` does with one job, without its pipeline."""
    with app.begin(LOCAL) as uow:
        job = queue.claim(uow, queue="pipelines", worker=worker, project=P)
        if job is not None:
            error = {"error": "step train failed"} if status == "failed" else {}
            queue.complete(uow, job.uid, worker=worker, result={"run": run, "status": status, **error})
    return job


def runs(app: Application, name: str = "nightly") -> list[Any]:
    """The schedule's runs, the oldest slot first."""
    with app.begin(LOCAL, read_only=True) as uow:
        return sorted(service.list_runs(uow, P, name), key=lambda one: (one.slot, one.uid))


def statuses(app: Application, name: str = "nightly") -> list[str]:
    return [one.status.value for one in runs(app, name)]


def actions(app: Application) -> list[str]:
    with app.begin(LOCAL, read_only=True) as uow:
        return [one.action for one in reversed(audit.list_events(uow, project=P, action="schedule."))]


def add_version(uow, number: int, *, run: str | None = None, name: str = "flights") -> None:
    """A dataset version whose content is its number."""
    digest = uow.blobs.put_bytes(str(number).encode())
    file = DatasetFile(path="n.txt", digest=digest, bytes=len(str(number)))
    datasets.add_version(uow, P, name, found=inspect(uow.blobs, [file]), run=run)


def test_a_schedule_runs_each_night_over_the_change_of_clocks(app, clock):
    made = put(app)
    assert made.next_at == datetime(2026, 3, 28, 1, 30, tzinfo=UTC)
    for _ in range(3 * 4):
        tick(app, clock, hours=6)
        work(app)
    tick(app, clock)
    slots = [one.slot.isoformat(timespec="minutes") for one in runs(app)]
    # On the 29th there is no 02:30 in Berlin: its run comes at 03:00 summer time.
    assert slots == ["2026-03-28T01:30+00:00", "2026-03-29T01:00+00:00", "2026-03-30T00:30+00:00"]
    assert [job.payload["parameters"]["day"] for job in jobs(app)] == ["2026-03-28", "2026-03-29", "2026-03-30"]
    assert statuses(app) == ["succeeded"] * 3
    assert runs(app)[0].run == "f" * 32
    assert jobs(app)[0].payload["reason"] == "schedule nightly: slot 2026-03-28 02:30:00 Europe/Berlin"


def test_two_control_planes_make_each_slot_once(settings, clock, app):
    put(app, trigger=Interval(every="1m"), runs_max=100, catch_up=CatchUp.ALL)
    with app.begin(LOCAL) as uow:
        service.put_schedule(uow, P, spec(name="watch", trigger=NewVersion(dataset="flights"), params={}))
    other = Application(settings, clock=clock)
    for number in range(3):
        with app.begin(LOCAL) as uow:
            add_version(uow, number)
    clock.advance(20 * 60)
    threads = [
        threading.Thread(target=lambda one=one: [Worker(one).tick() for _ in range(5)]) for one in (app, other) * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    tick(app, clock)
    assert len(runs(app)) == len({one.slot for one in runs(app)}) == 20
    assert [job.payload["schedule"] for job in jobs(app)].count("watch") == 1  # one at a time
    assert statuses(app, "watch") == ["queued", "waiting", "waiting"]


@pytest.mark.parametrize(
    ("catch_up", "ran", "missed"), [(CatchUp.NONE, 0, 72), (CatchUp.LAST, 1, 71), (CatchUp.ALL, 24, 48)]
)
def test_slots_that_passed_while_nobody_was_up_follow_the_catch_up_policy(settings, clock, app, catch_up, ran, missed):
    put(app, trigger=Interval(every="1h"), catch_up=catch_up, catch_up_max=24, beyond=Beyond.SKIP, params={})
    app.close()
    clock.advance(3 * 86_400 + 1_800)
    again = Application(settings, clock=clock)
    tick(again, clock)
    tick(again, clock)
    found = statuses(again)
    assert found.count("missed") == missed
    assert found[missed:] == (["queued"] + ["waiting"] * (ran - 1) if ran else [])
    with again.begin(SYSTEM) as uow:
        assert [one.cause for one in service.troubles(uow)] == ["missed"]
    for _ in range(ran):
        assert work(again) is not None
        tick(again, clock)
    assert statuses(again).count("succeeded") == ran
    with again.begin(SYSTEM) as uow:
        assert (service.troubles(uow) == []) == (ran > 0)
    again.close()


def test_a_slot_is_not_late_while_its_allowance_lasts(app, clock):
    put(app, trigger=Interval(every="1h"), catch_up=CatchUp.NONE, start_within_s=600, params={})
    tick(app, clock, hours=1, minutes=9)
    assert statuses(app) == ["queued"]


@pytest.mark.parametrize(
    ("beyond", "after", "in_the_end"),
    [
        (Beyond.QUEUE, ["queued", "queued", "waiting", "waiting"], ["succeeded"] * 4),
        (Beyond.SKIP, ["queued", "queued", "skipped", "skipped"], ["succeeded"] * 2 + ["skipped"] * 2),
    ],
)
def test_the_limit_of_runs_at_once_holds_with_several_workers(app, clock, beyond, after, in_the_end):
    put(app, trigger=Interval(every="1m"), runs_max=2, beyond=beyond, params={})
    for _ in range(4):
        tick(app, clock, minutes=1)
    assert statuses(app) == after
    for number in range(6):
        with app.begin(LOCAL, read_only=True) as uow:
            assert firing.runs.active(uow, runs(app)[0].schedule) <= 2
        work(app, worker=f"w{number}")
        if number < 3:
            tick(app, clock)
    tick(app, clock)
    assert statuses(app) == in_the_end


def test_a_job_that_a_worker_holds_counts_as_running(app, clock):
    put(app, trigger=Interval(every="1m"), params={})
    tick(app, clock, minutes=1)
    with app.begin(LOCAL) as uow:
        assert queue.claim(uow, queue="pipelines", worker="a", project=P) is not None
    tick(app, clock, minutes=1, seconds=1)
    assert statuses(app) == ["running", "waiting"]
    with app.begin(LOCAL) as uow:
        assert queue.claim(uow, queue="pipelines", worker="b", project=P) is not None  # the lease of a ran out
    tick(app, clock)
    assert statuses(app) == ["running", "waiting"]


def test_a_run_that_asks_a_person_keeps_its_place_until_it_has_ended(app, clock, client):
    put(app, trigger=Interval(every="1m"), params={})
    tick(app, clock, minutes=1)
    run = client.runs.create().run
    work(app, status="waiting", run=run)
    tick(app, clock, minutes=1)
    assert statuses(app) == ["asking", "waiting"]
    client.runs.finish(run)
    tick(app, clock)
    assert statuses(app) == ["succeeded", "queued"]


def test_a_backfill_runs_each_slot_once_however_often_it_is_asked(app, clock):
    put(app, catch_up=CatchUp.NONE)
    clock.advance(4 * 86_400)
    tick(app, clock)
    assert statuses(app) == ["missed"] * 4
    work_of = {"start": "2026-03-20", "end": "2026-03-29"}
    with app.begin(LOCAL) as uow:
        first = asking.backfill(uow, P, "nightly", **work_of)
    with app.begin(LOCAL) as uow:
        second = asking.backfill(uow, P, "nightly", **work_of)
    assert (first.slots, first.made, second.made, second.already) == (10, 10, 0, 10)
    days = []
    for _ in range(20):
        job = work(app, status="failed" if len(days) == 3 else "succeeded")
        if job is None:
            break
        days.append(job.payload["parameters"]["day"])
        tick(app, clock)
    assert days == [f"2026-03-{day:02}" for day in range(20, 30)]
    with app.begin(LOCAL) as uow:
        assert asking.backfill(uow, P, "nightly", **work_of).made == 0
    with app.begin(LOCAL) as uow:
        assert asking.backfill(uow, P, "nightly", **work_of, failed=True).made == 1
    assert work(app).payload["parameters"]["day"] == "2026-03-23"
    assert actions(app).count("schedule.backfill") == 2


def test_a_backfill_leaves_the_coming_slots_their_turn(app, clock):
    put(app, beyond=Beyond.SKIP)
    with app.begin(LOCAL) as uow:
        asking.backfill(uow, P, "nightly", start="2026-03-01", end="2026-03-10")
    tick(app, clock, days=1)
    assert [one.kind.value for one in runs(app) if one.status is RunStatus.QUEUED] == ["backfill"]
    work(app)
    tick(app, clock)
    assert work(app).payload["parameters"]["day"] == "2026-03-28"


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        ("2026-04-01", "2026-04-09", "no slot that has come"),
        ("2026-03-09", "2026-03-01", "no slot that has come"),
        ("yesterday", "2026-03-01", "is not a time"),
        ("1990-01-01", "2026-03-01", "more than 1,000 slots"),
    ],
)
def test_a_backfill_of_nothing_or_too_much_is_explained(app, start, end, says):
    put(app)
    with pytest.raises(InvalidInputError, match=says), app.begin(LOCAL) as uow:
        asking.backfill(uow, P, "nightly", start=start, end=end)


def test_saving_again_changes_nothing_and_a_change_counts_from_now(app, clock):
    made = put(app)
    assert put(app) == made
    clock.advance(3_600)
    changed = put(app, trigger=Interval(every="1h"), params={})
    assert changed.next_at == datetime(2026, 3, 27, 14, tzinfo=UTC)
    assert changed.uid == made.uid
    assert actions(app) == ["schedule.create", "schedule.change"]


def test_what_passes_while_it_is_paused_is_not_run_afterwards(app, clock):
    put(app)
    with app.begin(LOCAL) as uow:
        assert service.set_enabled(uow, P, "nightly", enabled=False).next_at is None
    tick(app, clock, days=3)
    with app.begin(LOCAL) as uow:
        asking.run_now(uow, P, "nightly", params={"day": "{slot:%d}", "k": 1}, key="once")
    with app.begin(LOCAL) as uow:
        again = asking.run_now(uow, P, "nightly", key="once")
    assert (again.status, again.parameters) == (RunStatus.QUEUED, {"day": "30", "k": 1})
    with app.begin(LOCAL) as uow:
        assert service.set_enabled(uow, P, "nightly", enabled=True).next_at == datetime(2026, 3, 31, 0, 30, tzinfo=UTC)
    tick(app, clock)
    assert len(jobs(app)) == 1
    assert actions(app) == ["schedule.create", "schedule.pause", "schedule.fire", "schedule.resume"]


def test_a_deleted_schedule_starts_nothing_and_its_history_stays(app, clock):
    uid = put(app, trigger=Interval(every="1m"), params={}).uid
    tick(app, clock, minutes=1)
    tick(app, clock, minutes=1)
    with app.begin(LOCAL) as uow:
        service.delete_schedule(uow, P, "nightly", reason="moved")
    tick(app, clock, minutes=5)
    assert work(app) is None
    with app.begin(LOCAL, read_only=True) as uow:
        history = audit.list_events(uow, project=P, subject=f"schedule:{uid}")
        with pytest.raises(NotFoundError):
            service.get_schedule(uow, P, "nightly")
    assert [one.action for one in history] == ["schedule.delete", "schedule.fire", "schedule.fire", "schedule.create"]
    assert history[0].data["dropped"] == 2
    assert put(app).uid != uid


def test_a_run_that_nobody_starts_is_missed_and_over_when_one_succeeds(app, clock):
    put(app, trigger=Interval(every="1h"), start_within_s=600, params={})
    tick(app, clock, hours=1)
    with app.begin(SYSTEM) as uow:
        assert service.troubles(uow) == []
    tick(app, clock, minutes=11)
    with app.begin(SYSTEM) as uow:
        (trouble,) = service.troubles(uow)
    assert trouble.sentence == (
        "Schedule nightly missed: its run of 2026-03-27 13:00 UTC had not started when its time was over."
    )
    work(app, status="failed")
    tick(app, clock)
    with app.begin(SYSTEM) as uow:
        assert [one.cause for one in service.troubles(uow)] == ["missed", "failed"]
    assert (statuses(app), runs(app)[0].error) == (["failed"], "step train failed")
    tick(app, clock, hours=1)
    work(app)
    tick(app, clock)
    with app.begin(SYSTEM) as uow:
        assert service.troubles(uow) == []


def test_each_new_version_of_a_dataset_gives_one_run_with_its_facts(settings, clock, app):
    with app.begin(LOCAL) as uow:
        add_version(uow, 1)
    put(
        app,
        trigger=NewVersion(dataset="flights"),
        params={"v": "{version}", "d": "{digest}", "all": "{dataset}"},
        runs_max=5,
    )
    tick(app, clock)
    assert runs(app) == []  # what was there before is no news
    with app.begin(LOCAL) as uow:
        add_version(uow, 2)
        add_version(uow, 3)
        add_version(uow, 4, name="weather")
    app.close()  # nobody is up when it happens, nor when the first control plane dies in the middle
    again = Application(settings, clock=clock)
    with pytest.raises(ZeroDivisionError), again.begin(SYSTEM) as uow:
        firing.tick(uow)
        raise ZeroDivisionError
    tick(again, clock)
    tick(again, clock)
    assert [job.payload["parameters"]["v"] for job in jobs(again)] == [2, 3]
    assert jobs(again)[0].payload["parameters"]["d"].startswith("sha256:")
    assert jobs(again)[0].payload["reason"] == "schedule nightly: version 2 of dataset flights"
    tick(again, clock)
    with again.begin(SYSTEM, read_only=True) as uow:
        assert not firing.is_due(uow)  # its own events do not keep it awake
    again.close()


def test_a_pipeline_that_adds_to_the_dataset_that_starts_it_does_not_start_itself(app, clock, client):
    put(app, trigger=NewVersion(dataset="flights"), params={})
    run = client.runs.create(tags={"everline.reason": "schedule nightly: version 1 of dataset flights"})
    with app.begin(LOCAL) as uow:
        add_version(uow, 1, run=run.run)
    tick(app, clock)
    assert runs(app) == []
    assert actions(app) == ["schedule.create", "schedule.skip"]


def test_a_promoted_release_gives_a_run(app, clock):
    world = World(app.begin, clock)
    put(app, trigger=Promoted(endpoint="flight-delay"), params={"model": "{model}", "version": "{version}"})
    put(app, name="other", trigger=Promoted(endpoint="elsewhere"), params={})
    world.promoted()
    tick(app, clock)
    assert [one.parameters for one in runs(app)] == [{"model": "flight-delay", "version": 1}]
    assert runs(app, "other") == []


def hook(app: Application, uid: str, headers: dict[str, str], body: bytes = BODY):
    with app.begin(LOCAL) as uow:
        return asking.receive(uow, uid, headers=headers, body=body)


def test_a_webhook_sets_it_going_for_those_who_know_the_secret(app, clock):
    made = put(app, trigger=WebhookCall(), params={"ref": "{body.ref}"}, runs_max=10)
    with pytest.raises(ForbiddenError):
        hook(app, made.uid, {"authorization": "Bearer "})  # no secret was given out yet
    with app.begin(LOCAL) as uow:
        secret = service.give_secret(uow, P, "nightly").secret
    assert hook(app, made.uid, {"authorization": f"Bearer {secret}"}).parameters == {"ref": "main"}
    assert hook(app, made.uid, {"x-gitlab-token": secret}).status is RunStatus.QUEUED
    signed = hmac.new(secret.encode(), BODY, "sha256").hexdigest()
    github = {"x-hub-signature-256": f"sha256={signed}", "x-github-delivery": "one"}
    assert hook(app, made.uid, github).uid == hook(app, made.uid, github).uid
    key, at = base64.b64decode(secret.removeprefix("whsec_")), str(int(clock.now().timestamp()))
    text = base64.b64encode(hmac.new(key, b"msg_1." + at.encode() + b"." + BODY, "sha256").digest()).decode()
    standard = {"webhook-id": "msg_1", "webhook-timestamp": at, "webhook-signature": f"v1,AAAA v1,{text}"}
    assert hook(app, made.uid, standard).status is RunStatus.QUEUED
    assert len(jobs(app)) == 4

    wrong = [
        {}, {"authorization": f"Bearer {secret}x"}, {"x-gitlab-token": ""},
        github | {"x-hub-signature-256": "sha256=ü"},
        standard | {"webhook-id": "msg_2"}, standard | {"webhook-timestamp": "1"},
    ]  # fmt: skip
    for headers in wrong:
        with pytest.raises(ForbiddenError):
            hook(app, made.uid, headers)
    with pytest.raises(ForbiddenError):
        hook(app, made.uid, github, b'{"ref": "other"}')
    clock.advance(600)
    with pytest.raises(ForbiddenError):
        hook(app, made.uid, standard)
    with pytest.raises(InvalidInputError, match=r"no 'body\.ref'"):
        hook(app, made.uid, {"authorization": f"Bearer {secret}"}, b"{}")
    with app.begin(LOCAL) as uow:
        newer = service.give_secret(uow, P, "nightly").secret
    with pytest.raises(ForbiddenError):
        hook(app, made.uid, {"authorization": f"Bearer {secret}"})
    assert hook(app, made.uid, {"authorization": f"Bearer {newer}"}).attempt == 1
    with app.begin(LOCAL) as uow:
        service.set_enabled(uow, P, "nightly", enabled=False)
    with pytest.raises(ConflictError, match="paused"):
        hook(app, made.uid, {"authorization": f"Bearer {newer}"})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pipeline": "train"}, "is not a pipeline"),
        ({"name": "a b"}, "cannot be used as a name"),
        ({"trigger": Cron(expression="0 25 * * *")}, "hour"),
        ({"params": {"v": "{version}"}}, "names {version}, which this trigger does not know"),
        ({"params": {"v": "x" * 70_000}}, "65536 are allowed"),
        ({"runs_max": 0}, "it may be 1 to 100"),
        ({"start_within_s": 1}, "it may be 10 to 2,592,000"),
    ],
)
def test_a_schedule_that_could_not_be_carried_out_is_refused(app, changes, says):
    with pytest.raises(InvalidInputError, match=says):
        put(app, **changes)


def test_viewers_look_and_change_nothing(app, begin):
    put(app)
    with begin(role=Role.VIEWER) as uow:
        assert service.show_schedule(uow, P, "nightly").schedule.name == "nightly"
    for act in (
        lambda uow: service.put_schedule(uow, P, spec(runs_max=2)),
        lambda uow: service.delete_schedule(uow, P, "nightly"),
        lambda uow: asking.run_now(uow, P, "nightly"),
        lambda uow: service.give_secret(uow, P, "nightly"),
    ):
        with pytest.raises(ForbiddenError), begin(role=Role.VIEWER) as uow:
            act(uow)


def test_an_incident_is_open_while_runs_are_missed_and_over_by_itself(settings, app, clock):
    put(app, trigger=Interval(every="1h"), start_within_s=600, params={})
    other = Application(settings, clock=clock)

    def look() -> list[Any]:
        for one in (app, other):
            Worker(one).tick()
        with app.begin(LOCAL, read_only=True) as uow:
            return incidents.list_incidents(uow, project=P)

    clock.advance(3_600)
    assert look() == []
    clock.advance(700)
    (missed,) = look()
    assert (missed.cause, missed.status.value, missed.schedule_name) == ("missed", "open", "nightly")
    assert "its run of 2026-03-27 13:00 UTC had not started" in missed.sentence
    clock.advance(3_600)
    assert [one.windows for one in look()] == [2]
    with app.begin(LOCAL) as uow:
        incidents.resolve_incident(uow, missed.uid, project=P, note="seen")
    assert [one.status.value for one in look()] == ["resolved"]  # told once; only a later slot tells again
    work(app, status="failed")
    (failed, _) = look()
    assert (failed.cause, failed.severity, failed.status.value) == ("failed", "medium", "open")
    work(app)
    assert [one.status.value for one in look()] == ["resolved", "resolved"]
    assert look()[0].resolved_by == "everline"
    with app.begin(LOCAL, read_only=True) as uow:
        assert len(incidents.list_alerts(uow, project=P)) == 2
        said = [one.action for one in audit.list_events(uow, project=P, action="incident.")]
    assert said == ["incident.resolve", "incident.open", "incident.resolve", "incident.join", "incident.open"]
    other.close()
