"""What the gate would say of a release that nobody opened: the same as of one that is, and nothing is left behind."""

from everline.governance import evidence
from everline.governance.types import GateState
from everline.releases import service
from everline.releases.preview import preview
from everline.serving import service as serving
from tests_support.registry import attest, compared, register
from tests_support.released import MAYA


def test_a_preview_says_what_the_release_will_be_told_and_leaves_nothing(world):
    def look(version):
        with world.work(MAYA) as uow:
            return preview(uow, project="default", endpoint="flight-delay", model="flight-delay", version=version)

    first = world.version()
    seen = look(first.version)
    assert (seen.champion, seen.live, seen.gate) == (None, False, GateState.AWAITING_APPROVAL)
    with world.work(MAYA) as uow:
        assert service.list_releases(uow, project="default") == []
        assert serving.list_endpoints(uow, project="default") == []
    world.promoted(b"another")

    with world.work(MAYA) as uow:
        champion = serving.get_endpoint(uow, "flight-delay", project="default").revisions[0]
        second = register(uow, b"better")
        attest(uow, second)
    seen = look(second.version)
    assert (seen.champion.version, seen.gate) == (champion.version, GateState.BLOCKED)
    blocked = [rule.name for verdict in seen.verdicts for rule in verdict.rules if rule.outcome != "pass"]
    assert blocked == ["no-step-back"]
    with world.work(MAYA) as uow:
        body = compared(champion.package, second.package)
        evidence.attach(uow, subject=second.subject, kind="comparison", body=body, project="default")
    seen, opened = look(second.version), world.open(second)
    assert seen.gate is GateState.AWAITING_APPROVAL
    assert [one.rules for one in seen.verdicts] == [one.rules for one in opened.check.verdicts]
    assert look(champion.version).live
