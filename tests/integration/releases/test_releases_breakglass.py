"""Breaking the glass: at once, loud, and with a review that nothing gets past, on both databases."""

import msgspec
import pytest

from everline.access.types import Role
from everline.errors import ConflictError, ForbiddenError, IntegrityError, InvalidInputError
from everline.governance.signing import dsse_verify, server_key
from everline.releases import breakglass, rollout, service, waiving
from everline.releases.states import State
from everline.serving import desired
from tests_support.registry import attest, compared, register
from tests_support.released import MAYA, MAYA_APPROVING, RAVI, someone

OLGA = someone("olga", Role.APPROVER)


def test_a_blocked_release_goes_live_at_once_and_blocks_the_next_until_it_is_reviewed(world):
    world.promoted()
    with world.work(MAYA) as uow:
        made = register(uow, b"mended in the night")
    release = world.open(made)
    assert release.state is State.BLOCKED
    with pytest.raises(ForbiddenError, match="break_glass"):
        world.do(breakglass.break_glass, release.uid, by=MAYA, reason="wrong answers since midnight")
    with pytest.raises(InvalidInputError, match="reason"):
        world.do(breakglass.break_glass, release.uid, by=MAYA_APPROVING, reason=" ")
    release = world.do(breakglass.break_glass, release.uid, by=MAYA_APPROVING, reason="wrong answers since midnight")
    assert (release.state, world.traffic()) == (State.PROMOTED, [(2, "primary", 1.0)])
    assert release.check.gate == "blocked"  # what the policies said is kept
    assert {"release.break_glass", "review.open"} <= {
        event.action for event in (*world.events("release."), *world.events("review."))
    }
    with world.begin() as uow:
        (endpoint,) = desired.desired_state(uow).endpoints
        (revision,) = [one for one in endpoint.revisions if one.revision == release.revision]
        payload = dsse_verify(revision.statement, server_key(uow.settings).verify_key)
    statement = msgspec.json.decode(payload)
    assert statement["predicate"]["properties"] == ["EVERLINE_RELEASED", "EVERLINE_BREAK_GLASS"]

    with world.work(MAYA) as uow:
        after = register(uow, b"the next one")
        attest(uow, after, comparison=compared(release.package, after.package))
    following = world.open(after)
    assert following.state is State.BLOCKED
    unmet = [(one.policy, rule.name) for one in following.check.verdicts for rule in one.rules if not rule.stands]
    assert unmet == [("break-glass", "review-closed")]
    with pytest.raises(InvalidInputError, match="not waived"):
        world.do(
            waiving.waive, following.uid, policy="break-glass", rule="review-closed", reason="hurry",
            expires_at=world.clock.now(),
        )  # fmt: skip
    with world.begin(RAVI) as uow:
        (review,) = breakglass.list_reviews(uow, project="default", endpoint="flight-delay", open_only=True)
    assert (review.release, review.opened_by_name, review.finding) == (release.uid, "maya", None)
    with pytest.raises(ForbiddenError, match="cannot review"):
        world.do(breakglass.close_review, review.uid, by=MAYA_APPROVING, finding="all fine")
    closed = world.do(breakglass.close_review, review.uid, by=OLGA, finding="mended; the evaluation was made up for")
    assert closed.closed_by_name == "olga"
    with pytest.raises(ConflictError, match="closed by olga"):
        world.do(breakglass.close_review, review.uid, by=RAVI, finding="again")
    assert world.do(service.check, following.uid, by=MAYA).state is State.AWAITING_APPROVAL
    assert world.do(rollout.rollback, release.uid, reason="over").state is State.ROLLED_BACK


def test_no_emergency_lets_an_altered_package_through(world, app):
    release = world.open(world.version(lineage=None))
    for path in app.settings.home.rglob("*"):
        if path.is_file() and path.read_bytes() == b"weights":
            path.chmod(0o644)
            path.write_bytes(b"altered")
    with pytest.raises(IntegrityError):
        world.do(breakglass.break_glass, release.uid, reason="now")
    assert world.traffic() == []
    assert world.events("release.refuse")[0].data["attempt"] == "break-glass"
