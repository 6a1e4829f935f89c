"""Rules set aside for a while, quorums, approvals that expire, and classes of change, on both databases."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from everline.access.types import LOCAL, Role
from everline.errors import ConflictError, ForbiddenError, GateClosedError, IntegrityError, InvalidInputError
from everline.governance import enforcing, policies
from everline.governance.signing import dsse_verify, server_key
from everline.governance.tables import waiver as waiver_table
from everline.releases import history, rollout, service, waiving
from everline.releases.states import State
from everline.serving import service as serving
from tests_support.registry import attest, compared, register
from tests_support.released import INES, MAYA, MAYA_APPROVING, someone

OLGA = someone("olga", Role.APPROVER)
WEAK = {"evaluation": {"metrics": {"auc": 0.58, "calibration_error": 0.02}, "slices": []}}
TESTED = {"policy": "baseline", "rule": "tested", "reason": "the new metric is under review"}

QUORUM = """
name = "quorum"
title = "A validator and an owner"
reason = "Company rule 9"
pre_determined = "change.same_inputs && change.same_outputs && evaluation.metrics.auc >= 0.7"

[approvals]
count = 2
quorum = { approver = 2 }
meanings = ["validator", "owner"]
valid_days = 7
"""


def in_force(world, source):
    with world.work(LOCAL) as uow:
        saved = policies.save(uow, source, project="default")
        assert enforcing.activate(uow, saved.name, project="default").active


def test_a_waiver_lets_one_rule_pass_for_one_release_until_it_expires(world):
    release = world.open(world.version(**WEAK))
    assert release.state is State.BLOCKED
    soon = world.clock.now() + timedelta(days=2)
    with pytest.raises(ForbiddenError, match="author"):
        world.do(waiving.waive, release.uid, by=MAYA_APPROVING, expires_at=soon, **TESTED)
    assert world.events("release.refuse")[0].data["attempt"] == "waive"
    for wrong, says in (
        ({"rule": "testd"}, "no rule|has a rule"), ({"rule": "signature"}, "already"), ({"reason": " "}, "reason"),
        ({"expires_at": world.clock.now() + timedelta(days=91)}, "90 days"), ({"expires_at": world.clock.now()}, "90"),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match=says):
            world.do(waiving.waive, release.uid, **({"expires_at": soon} | TESTED | wrong))

    release = world.do(waiving.waive, release.uid, expires_at=soon, owner="maya", **TESTED)
    assert release.state is State.AWAITING_APPROVAL
    (tested,) = [rule for verdict in release.check.verdicts for rule in verdict.rules if rule.name == "tested"]
    assert (tested.outcome, tested.waiver.by, tested.waiver.owner) == ("fail", "ravi", "maya")
    with pytest.raises(InvalidInputError, match="already"):
        world.do(waiving.waive, release.uid, expires_at=soon, **TESTED)
    release = world.do(service.approve, release.uid)
    world.clock.advance(3 * 86_400)
    with pytest.raises(GateClosedError, match="tested"):
        world.do(rollout.promote, release.uid)
    world.do(service.check, release.uid)
    until = world.clock.now() + timedelta(days=2)
    again = world.do(waiving.waive, release.uid, expires_at=until, **TESTED)
    assert again.state is State.APPROVED  # the yes still holds, for the digest is the same
    world.do(rollout.promote, release.uid)
    with world.begin(INES) as uow:
        (live,) = history.live_at(uow, world.clock.now(), project="default")
    assert [(one.rule, one.person_name) for one in live.waivers] == [("tested", "ravi")] * 2
    assert [event.data["rule"] for event in world.events("waiver.grant")] == ["tested", "tested"]


def test_a_waiver_is_taken_back_and_one_altered_in_the_database_is_found(world):
    release = world.open(world.version(**WEAK))
    until = world.clock.now() + timedelta(days=5)
    release = world.do(waiving.waive, release.uid, expires_at=until, **TESTED)
    release = world.do(waiving.revoke_waiver, release.uid, waiver=release.waivers[0].uid, reason="measured again")
    assert (release.state, release.waivers[0].revoked_by) == (State.BLOCKED, "ravi")
    release = world.do(waiving.waive, release.uid, expires_at=until, **TESTED)
    with world.work(LOCAL) as uow:
        statement = release.waivers[-1].statement
        kept = uow.blobs.get_bytes(statement)
        assert b"tested" in dsse_verify(service.msgspec.json.decode(kept), server_key(uow.settings).verify_key)
        later = until + timedelta(days=300)
        uow.conn.execute(update(waiver_table).where(waiver_table.c.revoked_at.is_(None)).values(expires_at=later))
    with pytest.raises(IntegrityError, match="altered"):
        world.do(service.check, release.uid)


def test_a_quorum_takes_different_people_in_the_capacities_asked_for_and_their_yes_grows_old(world):
    in_force(world, QUORUM)
    release = world.open(world.version())
    release = world.do(service.approve, release.uid, meaning="validator")
    assert release.state is State.AWAITING_APPROVAL
    (people,) = [one.approvals for one in release.check.verdicts if one.policy == "quorum"]
    assert "missing: approver, one as owner" in people.text
    with pytest.raises(ConflictError, match="decided"):
        world.do(service.approve, release.uid, meaning="owner")
    world.clock.advance(8 * 86_400)
    release = world.do(service.approve, release.uid, by=OLGA, meaning="owner")
    assert release.state is State.AWAITING_APPROVAL
    (people,) = [one.approvals for one in release.check.verdicts if one.policy == "quorum"]
    assert (people.given, people.by) == (1, ["olga"])
    assert "1 expired after 7 days" in people.text
    release = world.do(service.approve, release.uid, by=someone("paul", Role.APPROVER), meaning="validator")
    assert release.state is State.APPROVED


def test_the_class_of_a_change_is_told_from_both_packages_with_its_proof(world):
    first = world.promoted()
    assert first.check.change.kind == "substantial"  # there was nothing before
    second = world.challenger(share=0.0)
    assert (second.check.change.kind, second.check.change.same["same_inputs"]) == ("minor", True)
    in_force(world, QUORUM)
    second = world.do(service.check, second.uid, by=MAYA)
    assert second.check.change.kind == "pre-determined"
    assert second.check.change.foreseen.policy == "quorum"
    assert [clause.outcome for clause in second.check.change.foreseen.clauses] == ["pass"] * 3
    with world.work(MAYA) as uow:
        (champion,) = serving.get_endpoint(uow, "flight-delay", project="default").revisions
        other = register(uow, b"other", model="flight-delay-2")
        attest(uow, other, comparison=compared(champion.package, other.package))
    with world.work(MAYA) as uow:
        third = service.create(uow, project="default", endpoint="flight-delay", model="flight-delay-2", version=1)
    assert (third.check.change.kind, third.check.change.why) == (
        "substantial", "Another model than the champion's.",
    )  # fmt: skip
