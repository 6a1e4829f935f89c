"""Releases on both databases: from evidence to traffic and back, and what no path gets around."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import msgspec
import numpy as np
import pytest
from sqlalchemy import update

from everline.access.types import Actor, Permission, Role
from everline.errors import (
    ConflictError,
    ForbiddenError,
    GateClosedError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StaleError,
)
from everline.governance import evidence
from everline.governance.signing import dsse_verify, server_key
from everline.governance.types import GateState
from everline.ids import new_uid
from everline.models import tables as model_tables
from everline.releases import comparison, history, plans, rollout, service, tables, watch
from everline.releases.states import Move, State
from everline.releases.types import Plan
from everline.reproduction import service as reproduction
from everline.serving import desired, feedback, predictions
from everline.serving import service as serving
from everline.serving.types import Guard, Outcome, RevisionRole
from tests_support.registry import attest, compared, register
from tests_support.released import INES, MAYA, MAYA_APPROVING, RAVI, someone
from tests_support.segments import flights, segment


def test_the_whole_walk_from_missing_evidence_to_rollback(world):
    first = world.version(lineage=None)
    release = world.open(first)
    assert (release.state, release.check.gate) == (State.BLOCKED, GateState.BLOCKED)
    unknown = {rule.name: rule.outcome for verdict in release.check.verdicts for rule in verdict.rules}
    assert unknown["lineage"] == "unknown"
    assert unknown["tested"] == "pass"

    with world.work(MAYA) as uow:
        attest(uow, first)
    release = world.do(service.check, release.uid, by=MAYA)
    assert release.state is State.AWAITING_APPROVAL
    assert {one.kind for one in release.check.evidence} == {"evaluation", "lineage", "scan", "signature"}

    with pytest.raises(ForbiddenError, match="four eyes"):
        world.do(service.approve, release.uid, by=MAYA_APPROVING)
    assert world.do(service.get, release.uid).state is State.AWAITING_APPROVAL
    (refused,) = world.events("release.refuse")
    assert (refused.actor_name, refused.subject, refused.data["attempt"]) == ("maya", release.subject, "approve")

    release = world.do(service.approve, release.uid, meaning="validator", reason="tested on April")
    assert (release.state, [one.person_name for one in release.approvals]) == (State.APPROVED, ["ravi"])
    release = world.do(rollout.promote, release.uid)
    assert (release.state, world.traffic()) == (State.PROMOTED, [(1, "primary", 1.0)])

    second = world.challenger()
    second = world.do(rollout.start_canary, second.uid)
    assert (second.state, world.traffic()) == (State.CANARY, [(1, "primary", 0.9), (2, "canary", 0.1)])
    second = world.do(rollout.promote, second.uid)
    assert (second.state, world.traffic()) == (State.PROMOTED, [(2, "primary", 1.0)])
    assert world.do(service.get, release.uid).state is State.SUPERSEDED

    second = world.do(rollout.rollback, second.uid, reason="deliberate drill")
    assert (second.state, world.traffic()) == (State.ROLLED_BACK, [(1, "primary", 1.0)])
    assert world.do(service.get, release.uid).state is State.PROMOTED
    assert [step.move for step in second.history] == [
        Move.CHECK, Move.ASK, Move.APPROVE, Move.START_CANARY, Move.PROMOTE, Move.ROLL_BACK,
    ]  # fmt: skip
    assert second.history[-1].reason == "deliberate drill"
    actions = {event.action for event in world.events("release.")}
    assert {"release.create", "release.block", "release.ask", "release.approve", "release.start_canary",
            "release.promote", "release.supersede", "release.restore", "release.roll_back"} <= actions  # fmt: skip


def test_what_was_live_at_a_moment_is_answered_with_what_was_known_then(world):
    start = world.clock.now()
    first = world.promoted()
    promoted_at = world.clock.now()
    second = world.challenger()
    world.do(rollout.start_canary, second.uid)
    canary_at = world.clock.now()
    world.do(rollout.promote, second.uid)
    world.do(rollout.rollback, second.uid, reason="drill")
    with world.begin(INES) as uow:
        assert history.live_at(uow, start, project="default") == []
        (one,) = history.live_at(uow, promoted_at + timedelta(seconds=30), project="default", endpoint="flight-delay")
        pair = history.live_at(uow, canary_at, project="default", endpoint="flight-delay")
        (now,) = history.live_at(uow, world.clock.now(), project="default")
    assert (one.release, one.version, one.since, one.until) == (first.uid, 1, promoted_at, canary_at)
    assert [decision.person_name for decision in one.approvals] == ["ravi"]
    assert one.author_name == "maya"
    assert one.check.verdicts[0].digest.startswith("sha256:")
    assert {item.kind for item in one.check.evidence} >= {"evaluation", "lineage", "signature"}
    assert (one.moved.actor_name, one.moved.move) == ("ravi", Move.PROMOTE)
    assert [(item.version, item.role, item.share) for item in pair] == [
        (1, RevisionRole.PRIMARY, 0.9), (2, RevisionRole.CANARY, 0.1),
    ]  # fmt: skip
    assert (now.version, now.until, now.moved.move) == (1, None, Move.RESTORE)
    with world.begin(INES) as uow:
        with pytest.raises(InvalidInputError, match="future"):
            history.live_at(uow, world.clock.now() + timedelta(days=1), project="default")
        with pytest.raises(NotFoundError):
            history.live_at(uow, world.clock.now(), project="default", endpoint="nowhere")


def test_promotion_is_refused_when_the_champion_changed_since_the_comparison(world):
    world.promoted()
    late = world.challenger(b"late", share=0.0)
    quick = world.challenger(b"quick", share=0.0)
    world.do(rollout.promote, quick.uid)
    with pytest.raises(StaleError, match="flight-delay/1.*flight-delay/3"):
        world.do(rollout.promote, late.uid)
    assert world.traffic() == [(3, "primary", 1.0)]
    assert world.events("release.refuse")[0].data["code"] == "stale"
    again = world.do(service.check, late.uid, by=MAYA)
    assert again.state is State.BLOCKED  # its comparison was with version 1
    with world.work(MAYA) as uow:
        attest(uow, register_of(uow, 2), comparison=compared(quick.package, late.package))
    again = world.do(service.check, late.uid, by=MAYA)
    assert again.state is State.AWAITING_APPROVAL  # the earlier yes was to replacing version 1
    assert again.digest != late.digest


def register_of(uow, version):
    return service.models.get_version(uow, "default", "flight-delay", version)


def test_a_challenger_that_may_be_clearly_worse_is_blocked(world):
    first = world.promoted()
    with world.work(MAYA) as uow:
        made = register(uow, b"worse")
        attest(uow, made, comparison=compared(first.package, made.package, low=0.02, high=0.05))
    release = world.open(made)
    assert release.state is State.BLOCKED
    rules = {rule.name: rule.outcome for verdict in release.check.verdicts for rule in verdict.rules}
    assert rules["no-step-back"] == "fail"
    with pytest.raises(ConflictError, match="blocked"):
        world.do(service.approve, release.uid)


def test_bad_news_between_approval_and_canary_closes_the_gate(world):
    world.promoted()
    release = world.challenger()
    with world.work(MAYA) as uow:
        attest(uow, register_of(uow, 2), evaluation={"metrics": {"auc": 0.51, "calibration_error": 0.3}, "slices": []})
    with pytest.raises(GateClosedError, match="tested"):
        world.do(rollout.start_canary, release.uid)
    assert world.traffic() == [(1, "primary", 1.0)]
    assert world.events("release.refuse")[0].data["code"] == "gate_closed"


def test_a_canary_comes_before_promotion_when_the_plan_says_so(world):
    world.promoted()
    release = world.challenger(share=0.25)
    assert Move.START_CANARY in release.next
    assert Move.PROMOTE not in release.next
    with pytest.raises(ConflictError, match="25%"):
        world.do(rollout.promote, release.uid)
    world.do(rollout.start_canary, release.uid)
    released = world.do(rollout.rollback, release.uid, reason="slower")
    assert (released.state, world.traffic()) == (State.ROLLED_BACK, [(1, "primary", 1.0)])


def test_an_endpoint_has_one_canary_at_a_time(world):
    world.promoted()
    first, second = world.challenger(b"one"), world.challenger(b"two")
    world.do(rollout.start_canary, first.uid)
    with pytest.raises(ConflictError, match="canary already"):
        world.do(rollout.start_canary, second.uid)


def test_a_rollback_of_the_champion_ends_a_canary_beside_it(world):
    world.promoted()
    second = world.challenger(b"two", share=0.0)
    world.do(rollout.promote, second.uid)
    third = world.challenger(b"three")
    world.do(rollout.start_canary, third.uid)
    world.do(rollout.rollback, second.uid, reason="wrong answers")
    assert world.traffic() == [(1, "primary", 1.0)]
    assert world.do(service.get, third.uid).state is State.ROLLED_BACK


def test_the_first_release_cannot_be_rolled_back_to_nothing(world):
    first = world.promoted()
    with pytest.raises(ConflictError, match="Nothing answered"):
        world.do(rollout.rollback, first.uid, reason="because")
    with pytest.raises(InvalidInputError, match="reason"):
        world.do(rollout.rollback, first.uid, reason=" ")


def test_a_rejection_needs_a_reason_and_is_final(world):
    release = world.open(world.version())
    with pytest.raises(InvalidInputError):
        world.do(service.reject, release.uid, reason="")
    release = world.do(service.reject, release.uid, reason="drift in May")
    assert (release.state, release.next) == (State.REJECTED, [])
    for act in (service.approve, service.check, rollout.promote):
        with pytest.raises(ConflictError, match="final|rejected"):
            world.do(act, release.uid, by=Actor(uid="x", name="x", roles={"default": frozenset({Role.ADMIN})}))


# --- what was tampered with -----------------------------------------------------------------------


def test_a_changed_package_is_not_approved_or_promoted(world, app):
    release = world.open(world.version())
    (file,) = msgspec.json.decode(app.blobs.get_bytes(release.package))["files"]
    path = app.settings.home / "blobs" / "sha256" / file["digest"][7:9] / file["digest"][9:]
    path.chmod(0o600)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"!")
    with pytest.raises(IntegrityError):
        world.do(service.approve, release.uid)
    path.write_bytes(whole)
    world.do(service.approve, release.uid)
    path.write_bytes(whole[:-1] + b"!")
    with pytest.raises(IntegrityError):
        world.do(rollout.promote, release.uid)
    assert world.traffic() == []
    assert [event.data["code"] for event in world.events("release.refuse")] == ["integrity", "integrity"]


def test_a_version_that_was_pointed_at_another_package_is_not_promoted(world):
    release = world.open(world.version())
    world.do(service.approve, release.uid)
    other = world.version(b"other")
    with world.begin() as uow:
        table = model_tables.model_version
        uow.conn.execute(update(table).where(table.c.uid == release.model_version).values(package=other.package))
    with pytest.raises(IntegrityError, match="no longer the package"):
        world.do(rollout.promote, release.uid)


def test_a_release_row_that_was_altered_is_noticed(world):
    release = world.open(world.version())
    with world.begin() as uow:
        uow.conn.execute(update(tables.release).where(tables.release.c.uid == release.uid).values(endpoint="other"))
    with pytest.raises(IntegrityError, match="altered"):
        world.do(service.approve, release.uid)


def test_the_statement_of_a_revision_names_release_package_and_endpoint_and_is_signed(world, app):
    release = world.promoted()
    with world.begin() as uow:
        (endpoint,) = desired.desired_state(uow).endpoints
        (revision,) = endpoint.revisions
        payload = dsse_verify(revision.statement, server_key(uow.settings).verify_key)
    statement = msgspec.json.decode(payload)
    assert statement["subject"] == [{"name": "flight-delay/1", "digest": {"sha256": release.package[7:]}}]
    assert statement["predicate"]["properties"] == ["EVERLINE_RELEASED"]
    assert (statement["predicate"]["release"], statement["predicate"]["endpoint"]) == (release.uid, "flight-delay")
    assert set(statement["predicate"]["evidence"]) == {"evaluation", "lineage", "scan", "signature"}


# --- who may do what, and bad input ---------------------------------------------------------------


def test_only_approvers_approve_and_a_try_without_the_role_is_recorded(world):
    release = world.open(world.version())
    with pytest.raises(ForbiddenError):
        world.do(service.approve, release.uid, by=someone("carl", Role.CONTRIBUTOR))
    (event,) = world.events("release.refuse")
    assert (event.actor_name, event.data["code"]) == ("carl", "forbidden")
    with pytest.raises(ForbiddenError):
        world.do(rollout.promote, release.uid, by=INES)
    with pytest.raises(NotFoundError):
        world.do(service.get, release.uid, by=Actor(uid="z", name="z", roles={}))


def test_one_person_decides_once(world):
    release = world.open(world.version())
    world.do(service.approve, release.uid)
    with pytest.raises(ConflictError):
        world.do(service.approve, release.uid)


def test_the_same_package_is_not_released_twice_to_one_endpoint_at_a_time(world):
    version = world.version()
    release = world.open(version)
    with pytest.raises(ConflictError, match=release.uid):
        world.open(version)
    world.do(service.reject, release.uid, reason="anew")
    assert world.open(version).uid != release.uid


def test_a_release_follows_its_endpoints_plan_unless_told_otherwise(world):
    world.promoted()
    with world.work(MAYA) as uow:
        plans.set_plan(uow, "flight-delay", Plan(canary_share=0.3), project="default")
        serving.set_guard(uow, "flight-delay", project="default", guard=Guard.FLAG)
    assert world.open(world.version(b"second"), share=None).plan == Plan(canary_share=0.3)
    assert world.open(world.version(b"third"), share=0.05).plan == Plan(canary_share=0.05)
    with world.work(MAYA) as uow:
        plans.set_plan(uow, "flight-delay", None, project="default")
        assert serving.get_endpoint(uow, "flight-delay", project="default").guard is Guard.FLAG
    assert world.open(world.version(b"fourth"), share=None).plan == Plan()
    assert [(event.data["before"], event.data["after"]) for event in world.events("endpoint.plan")] == [
        ({"canary_share": 0.3}, None),
        (None, {"canary_share": 0.3}),
    ]
    assert world.events("endpoint.guard")[0].data["after"] == "flag"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"endpoint": "../x"}, InvalidInputError),
        ({"endpoint": ""}, InvalidInputError),
        ({"version": 99}, NotFoundError),
        ({"version": "newest"}, InvalidInputError),
        ({"model": "nothing"}, NotFoundError),
        ({"plan": Plan(canary_share=0.9)}, InvalidInputError),
        ({"plan": Plan(canary_share=float("nan"))}, InvalidInputError),
        ({"project": "elsewhere"}, NotFoundError),
    ],
)
def test_a_release_of_nonsense_is_refused_and_leaves_nothing(world, change, error):
    world.version()
    asked = {"project": "default", "endpoint": "flight-delay", "model": "flight-delay", "version": 1} | change
    with pytest.raises(error), world.work(MAYA) as uow:
        service.create(uow, **asked)
    with world.begin() as uow:
        assert service.list_releases(uow, project="default") == []
        assert serving.list_endpoints(uow, project="default") == []


def test_unknown_and_malformed_identifiers_are_not_found(world):
    for act in (service.get, service.check, service.approve, rollout.promote, watch.watch):
        for uid in (new_uid(), "../../x", "", "x" * 5000, "\u0000"):
            with pytest.raises(NotFoundError):
                world.do(act, uid)


def test_releases_are_listed_by_endpoint_and_state_newest_first(world):
    first = world.promoted()
    second = world.challenger(approve=False)
    with world.begin(INES) as uow:
        everything = service.list_releases(uow, project="default", endpoint="flight-delay")
        waiting = service.list_releases(uow, project="default", state=State.AWAITING_APPROVAL)
        older = service.list_releases(uow, project="default", before=second.uid)
    assert [one.uid for one in everything] == [second.uid, first.uid]
    assert [one.uid for one in waiting] == [second.uid]
    assert [one.uid for one in older] == [first.uid]


# --- comparison and watch -------------------------------------------------------------------------


def test_a_comparison_with_the_champion_becomes_evidence_that_opens_the_gate(world):
    world.promoted()
    with world.work(MAYA) as uow:
        made = register(uow, b"better")
        attest(uow, made)
    release = world.open(made)
    assert release.state is State.BLOCKED
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.95, 2000)
    y = (rng.uniform(size=2000) < p).astype(float)
    with world.work(MAYA) as uow:
        found = comparison.compare(
            uow, project="default", endpoint="flight-delay", model="flight-delay", version=made.version,
            outcome=y.tolist(), champion=np.full(2000, 0.5).tolist(), challenger=p.tolist(),
            blocks=(np.arange(2000) // 50).tolist(), slices={"half": ["am", "pm"] * 1000},
        )  # fmt: skip
    assert (found.verdict, found.blocks) == ("better", 40)
    with world.begin() as uow:
        body = evidence.list_evidence(uow, subject=made.subject, project="default", kind="comparison")[0].body
    assert [(one["value"], one["verdict"]) for one in body["slices"]] == [("am", "better"), ("pm", "better")]
    assert (body["worse_slices"], body["verdict"]) == (0, "better")
    with world.begin() as uow:
        signed = reproduction.get_certificate(uow, "default", body["certificate"])
    assert signed.statement["subject"][0]["digest"] == {"sha256": made.package.removeprefix("sha256:")}
    assert signed.statement["predicate"]["everline"]["difference"] == body["difference"]
    release = world.do(service.check, release.uid, by=MAYA)
    assert release.state is State.AWAITING_APPROVAL
    assert "comparison" in {one.kind for one in release.check.evidence}


def test_a_first_version_has_nobody_to_be_compared_with(world):
    version = world.version()
    with world.work(MAYA) as uow, pytest.raises(ConflictError, match="no champion"):
        comparison.compare(
            uow, project="default", endpoint="flight-delay", model="flight-delay", version=version.version,
            outcome=[0, 1], champion=[0.5, 0.5], challenger=[0.5, 0.5],
        )  # fmt: skip


def test_a_canary_is_watched_beside_its_champion(world):
    world.promoted()
    release = world.challenger()
    with pytest.raises(ConflictError, match="no canary"):
        world.do(watch.watch, release.uid)
    release = world.do(rollout.start_canary, release.uid)
    assert "nothing yet" in world.do(watch.watch, release.uid).text
    with world.begin() as uow:
        revisions = serving.get_endpoint(uow, "flight-delay", project="default").revisions
        for revision, probability in zip(revisions, (0.5, 0.9), strict=True):
            rows = flights(40, outputs={"probability": probability, "label": probability >= 0.5})
            data, ids = segment(rows, at=uow.clock.now(), revision=revision.revision)
            predictions.add_segment(uow, data, project="default", endpoint="flight-delay")
            outcomes = [Outcome(prediction=uid, outcome=True) for uid in ids]
            feedback.log_feedback(uow, outcomes, project="default", endpoint="flight-delay")
    seen = world.do(watch.watch, release.uid)
    assert (seen.canary.n, seen.champion.n, seen.canary.n_outcomes) == (40, 40, 40)
    assert seen.canary.log_loss == pytest.approx(-np.log(0.9))
    assert seen.champion.log_loss == pytest.approx(-np.log(0.5))
    assert seen.canary.error_rate == 0.0
    assert seen.canary.p50_ms == pytest.approx(0.9195)
    assert seen.high < 0
    assert "lower" in seen.text


def test_every_role_that_the_walk_needs_is_given():
    assert Permission.RELEASE_APPROVE not in {p for p in Permission if MAYA.may(p, "default")}
    assert RAVI.may(Permission.RELEASE_OPERATE, "default")


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(world, app):
    world.promoted()
    uids = [world.challenger(content, share=0.0).uid for content in (b"one", b"two")]
    with ThreadPoolExecutor(2) as pool:
        tries = [pool.submit(promote_alone, app, uid) for uid in uids]
    outcomes = sorted((type(one.exception()).__name__ for one in tries), key=str)
    assert outcomes == ["NoneType", "StaleError"]
    ((_, role, share),) = world.traffic()
    assert (role, share) == ("primary", 1.0)
    states = sorted(world.do(service.get, uid).state for uid in uids)
    assert states == [State.APPROVED, State.PROMOTED]


def promote_alone(app, uid):
    with app.begin(RAVI) as uow:
        return rollout.promote(uow, uid)
