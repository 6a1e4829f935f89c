"""Rollouts that go on and back by themselves, on both databases; time is the control plane's."""

import numpy as np
import pytest
from click.testing import CliRunner

from everline.access.types import SYSTEM, Actor, Role
from everline.cli.app import cli
from everline.errors import ConflictError, ForbiddenError, InvalidInputError
from everline.ids import new_uid
from everline.monitoring import incidents
from everline.releases import advancing, rollout, service, watch
from everline.releases.states import Move, State
from everline.releases.types import Guards, Plan
from everline.serving import desired, feedback, health, predictions
from everline.serving import service as serving
from everline.serving.types import Health, Outcome, RevisionHealth
from tests_support.registry import attest, compared, register
from tests_support.released import INES, MAYA, RAVI
from tests_support.segments import flights, segment

MACHINE = Actor(uid="machine", name="machine", roles={"*": frozenset({Role.DATAPLANE})})
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What no database does differently."""
STEPS = "5% 10 min → 25% 30 min → 100%"


class Traffic:
    """What two revisions answer, as a data plane would report and log it."""

    def __init__(self, world):
        self.world, self.counts = world, {}
        self.random = np.random.default_rng(5)

    def answer(self, share_of, *, requests=400, errors=0, latency_us=900, shift=0.0):
        """`requests` for each revision of {revision: is canary}; what differs is so for the canary only."""
        for revision, is_canary in share_of.items():
            old = self.counts.get(revision, (0, 0))
            self.counts[revision] = (old[0] + requests, old[1] + (errors if is_canary else 0))
            p = np.clip(self.random.beta(2, 5, requests) + (shift if is_canary else 0.0), 0, 1)
            slow = latency_us if is_canary else 900
            rows = [
                {
                    **one,
                    "outputs": {"probability": float(value)},
                    "row": 0,
                    "request": new_uid(),
                    "latency_us": slow + n,
                }
                for n, (one, value) in enumerate(zip(flights(requests), p, strict=True))
            ]
            data, ids = segment(rows, at=self.world.clock.now(), revision=revision)
            with self.world.begin(MACHINE) as uow:
                predictions.add_segment(uow, data, project="default", endpoint="flight-delay")
            self.ids, self.p = ids, p
        with self.world.begin(MACHINE) as uow:
            health.report_health(uow, Health(replica="a", revisions=[
                RevisionHealth(endpoint="flight-delay", project="default", revision=uid, requests=n, errors=e)
                for uid, (n, e) in self.counts.items()
            ]))  # fmt: skip


@pytest.fixture
def begun(world):
    """A champion, and a canary with a plan of three steps; both have traffic."""

    def make(steps=STEPS, **guards):
        world.promoted()
        with world.work(MAYA) as uow:
            (champion,) = serving.get_endpoint(uow, "flight-delay", project="default").revisions
            made = register(uow, b"better")
            attest(uow, made, comparison=compared(champion.package, made.package))
        plan = Plan(steps=steps, guards=Guards(**guards)) if guards else Plan(steps=steps)
        with world.work(MAYA) as uow:
            release = service.create(
                uow, project="default", endpoint="flight-delay", model="flight-delay", version=2, plan=plan
            )
        world.do(service.approve, release.uid)
        release = world.do(rollout.start_canary, release.uid)
        world.both = {champion.revision: False, release.revision: True}
        return release

    return make


@pytest.fixture
def look(world):
    """The worker's look, after some time; says where the release stands then."""

    def after(uid, *, minutes):
        world.clock.advance(minutes * 60)
        with world.begin(SYSTEM) as uow:
            for release in advancing.due(uow):
                advancing.look(uow, release)
        with world.begin() as uow:
            return service.get(uow, uid)

    return after


def test_a_rollout_goes_on_by_itself_while_its_guards_hold_and_ends_as_the_champion(world, begun, look):
    release, traffic = begun(), Traffic(world)
    assert world.traffic() == [(1, "primary", 0.95), (2, "canary", 0.05)]
    assert (release.rollout.step, release.rollout.steps, release.rollout.hold_s) == (1, 3, 600)
    assert Move.PROMOTE not in release.next
    waits = look(release.uid, minutes=11)
    assert {one.guard: one.verdict for one in waits.rollout.readings}["requests"] == "unclear"
    assert world.traffic()[1] == (2, "canary", 0.05)  # nobody asked anything, so that nothing is known

    traffic.answer(world.both)
    second = look(release.uid, minutes=1)
    assert (second.rollout.step, world.traffic()) == (2, [(1, "primary", 0.75), (2, "canary", 0.25)])
    told = second.history[-1]
    assert (told.move, told.actor_name) == (Move.ADVANCE, "everline")
    assert "p99 latency against the champion" in told.reason
    with pytest.raises(ConflictError, match="step 2 of 3"):
        world.do(rollout.promote, release.uid)

    traffic.answer(world.both)
    early = look(release.uid, minutes=5)
    assert (early.rollout.step, {one.verdict for one in early.rollout.readings}) == (2, {"holds"})
    assert world.do(watch.watch, release.uid).canary.n == 800  # of all steps
    done = look(release.uid, minutes=30)
    assert (done.state, world.traffic()) == (State.PROMOTED, [(2, "primary", 1.0)])
    assert done.history[-1].actor_name == "everline"
    assert [event.data["share"] for event in world.events("release.advance")] == [0.25]


@ON_SQLITE
@pytest.mark.parametrize(
    ("wrong", "guard"),
    [
        ({"errors": 40}, "error rate"),
        ({"latency_us": 9000}, "p99 latency against the champion"),
        ({"shift": 0.3}, "prediction drift"),
    ],
)
def test_a_broken_guard_takes_the_release_back_and_opens_an_incident(world, begun, look, wrong, guard):
    release = begun()
    Traffic(world).answer(world.both, **wrong)
    back = look(release.uid, minutes=1)
    assert (back.state, world.traffic()) == (State.ROLLED_BACK, [(1, "primary", 1.0)])
    assert {one.guard for one in back.rollout.readings if one.verdict == "broken"} == {guard}
    assert back.history[-1].reason.startswith(f"by its guards: {guard}: ")
    with world.begin() as uow:
        (incident,) = incidents.list_incidents(uow, project="default")
        (alert,) = incidents.list_alerts(uow, project="default")
    assert (incident.endpoint, incident.cause, incident.monitor) == ("flight-delay", "rollout", None)
    assert guard in alert.sentence
    world.clock.advance(60)
    with world.begin(MAYA) as uow:
        assert incidents.resolve_incident(uow, incident.uid, project="default").resolved_by == "maya"


@ON_SQLITE
def test_outcomes_that_come_late_take_a_release_back(world, begun, look):
    release, traffic = begun("5% 1 min -> 50%", drift=False), Traffic(world)
    traffic.answer(world.both)  # the canary last: its ids are known
    assert look(release.uid, minutes=2).rollout.step == 2
    with world.begin() as uow:
        logged = predictions.newest(uow, "flight-delay", project="default", limit=5000)
    ids, whose = logged["prediction"].to_pylist(), logged["revision"].to_pylist()
    p = np.array(logged["out.probability"].to_pylist())
    true = np.random.default_rng(1).random(len(p)) < p
    items = [
        Outcome(prediction=uid, outcome=bool(not value if revision == release.revision else value))
        for uid, value, revision in zip(ids, true, whose, strict=True)
    ]
    with world.begin() as uow:
        feedback.log_feedback(uow, items, project="default", endpoint="flight-delay")
    back = look(release.uid, minutes=60)
    assert back.state is State.ROLLED_BACK
    assert "quality: log loss" in back.history[-1].reason


def test_each_step_is_taken_once_however_many_look(world, begun, look, app):
    release = begun("5% 10 min → 25%")
    Traffic(world).answer(world.both)
    world.clock.advance(3600)
    with world.begin(SYSTEM) as uow:
        (found,) = advancing.due(uow)
    for _ in range(3):  # replicas that all saw it due
        with world.begin(SYSTEM) as uow:
            advancing.look(uow, found)
    assert len(world.events("release.advance")) == 1
    with world.begin(SYSTEM) as uow:
        assert advancing.due(uow) == []
    assert Move.PROMOTE in world.do(service.get, release.uid).next  # the plan leaves the end to a person
    assert world.do(rollout.promote, release.uid).state is State.PROMOTED


@ON_SQLITE
def test_a_person_may_slow_a_rollout_down_and_not_hurry_it(world, begun, look):
    release = begun()
    Traffic(world).answer(world.both)
    with pytest.raises(InvalidInputError, match=r"0\.2 of the requests"):
        world.do(advancing.set_share, release.uid, share=0.2)
    slow = world.do(advancing.set_share, release.uid, share=0.01, reason="a big day")
    assert (slow.rollout.status, world.traffic()[1]) == ("paused", (2, "canary", 0.01))
    assert look(release.uid, minutes=60).rollout.step == 1
    with pytest.raises(ForbiddenError):
        world.do(advancing.resume, release.uid, by=INES)
    assert world.do(advancing.resume, release.uid).rollout.status == "advancing"
    assert world.traffic()[1] == (2, "canary", 0.05)
    assert world.do(advancing.pause, release.uid, reason="lunch", by=RAVI).rollout.problem == "lunch"
    with pytest.raises(ConflictError, match="paused"):
        world.do(advancing.pause, release.uid, reason="lunch")


@ON_SQLITE
def test_the_command_line_tells_of_a_rollout_and_slows_it_down(world, begun, look, settings, monkeypatch):
    release = begun()
    Traffic(world).answer(world.both)
    look(release.uid, minutes=1)
    monkeypatch.setenv("EVERLINE_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("EVERLINE_WORKER", "false")
    monkeypatch.setenv("EVERLINE_HOME", str(settings.home))

    def run(*words):
        result = CliRunner().invoke(cli, ["release", *words])
        assert result.exit_code == 0, result.output
        return result.output

    shown = run("show", release.uid)
    assert "rollout advancing: step 1 of 3, 0.05 of the requests" in shown
    assert "holds   error rate: 0 of 400 requests failed" in shown
    assert "rollout paused" in run("share", release.uid, "0.01", "--reason", "a big day")
    assert "rollout advancing" in run("resume", release.uid)
    assert "lunch" in run("pause", release.uid, "--reason", "lunch")
    assert CliRunner().invoke(cli, ["release", "create", "e", "m", "1", "--guard", "p99"]).exit_code != 0


def test_a_gate_that_closed_meanwhile_stalls_the_rollout_and_says_why(world, begun, look):
    release = begun("50% 1 min → 100%")
    Traffic(world).answer(world.both)
    with world.work(MAYA) as uow:
        bad = {"metrics": {"auc": 0.51, "calibration_error": 0.3}, "slices": []}
        attest(uow, service.models.get_version(uow, "default", "flight-delay", 2), evaluation=bad)
    stalled = look(release.uid, minutes=5)
    assert (stalled.state, stalled.rollout.status) == (State.CANARY, "stalled")
    assert "tested" in stalled.rollout.problem
    assert len(world.events("release.refuse")) == 1
    assert look(release.uid, minutes=60).rollout.status == "stalled"
    assert len(world.events("release.refuse")) == 1


@ON_SQLITE
def test_a_shadow_is_beside_whoever_answers_until_it_is_promoted_or_taken_back(world):
    world.promoted()
    shadow, canary = world.challenger(b"shadow"), world.challenger(b"canary", share=0.2)
    with pytest.raises(InvalidInputError, match="shadow"):
        world.do(rollout.start_shadow, shadow.uid, share=0.0)
    shadow = world.do(rollout.start_shadow, shadow.uid, share=0.5)
    assert (shadow.state, world.traffic()) == (State.SHADOW, [(1, "primary", 1.0), (2, "shadow", 0.5)])
    with (
        world.begin() as uow,
        pytest.raises(ConflictError, match="No release"),
    ):  # what nobody hears leaves in no bundle
        desired.desired_alone(uow, project="default", model_version=shadow.model_version)
    with pytest.raises(ConflictError, match="shadow already"):
        world.do(rollout.start_shadow, canary.uid)
    world.do(rollout.start_canary, canary.uid)
    assert world.traffic() == [(1, "primary", 0.8), (3, "canary", 0.2), (2, "shadow", 0.5)]
    world.do(rollout.rollback, canary.uid, reason="drill")
    assert world.traffic() == [(1, "primary", 1.0), (2, "shadow", 0.5)]
    canary = world.do(rollout.start_canary, shadow.uid)
    assert (canary.state, world.traffic()) == (State.CANARY, [(1, "primary", 0.9), (2, "canary", 0.1)])
    world.do(rollout.rollback, shadow.uid, reason="drill")

    with world.work(MAYA) as uow:
        again = register(uow, b"again")
        champion = serving.get_endpoint(uow, "flight-delay", project="default").revisions[0]
        attest(uow, again, comparison=compared(champion.package, again.package))
    release = world.open(again)
    world.do(service.approve, release.uid)
    world.do(rollout.start_shadow, release.uid)
    assert world.do(rollout.rollback, release.uid, reason="drill").state is State.ROLLED_BACK
    assert world.traffic() == [(1, "primary", 1.0)]


@ON_SQLITE
def test_what_a_rollback_goes_back_to_is_kept_loaded_by_data_planes(world):
    first = world.promoted()
    second = world.challenger(share=0.0)
    world.do(rollout.promote, second.uid)

    def roles():
        with world.begin() as uow:
            (endpoint,) = desired.desired_state(uow).endpoints
        return {one.version: (one.role.value, one.share) for one in endpoint.revisions}

    assert roles() == {2: ("primary", 1.0), 1: ("warm", 0.0)}
    assert world.traffic() == [(2, "primary", 1.0)]
    third = world.challenger(b"third", share=0.2)
    world.do(rollout.start_canary, third.uid)
    assert roles() == {2: ("primary", 0.8), 3: ("canary", 0.2), 1: ("warm", 0.0)}
    world.do(rollout.promote, third.uid)
    assert roles() == {3: ("primary", 1.0), 2: ("warm", 0.0)}
    world.do(rollout.rollback, third.uid, reason="drill")
    assert roles() == {2: ("primary", 1.0), 1: ("warm", 0.0)}
    world.do(rollout.rollback, second.uid, reason="drill")
    assert roles() == {1: ("primary", 1.0)}
    assert first.uid
