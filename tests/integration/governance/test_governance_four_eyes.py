"""What is in force is changed by two people, on both databases."""

import pytest

from everline.access.types import Actor, Role
from everline.errors import ForbiddenError
from everline.governance import audit, enforcing, policies
from everline.governance.built_in import PACKS

ADA = Actor(uid="ada-uid", name="ada", roles={"default": frozenset({Role.ADMIN})})
BEN = Actor(uid="ben-uid", name="ben", roles={"default": frozenset({Role.ADMIN})})
RAVI = Actor(uid="ravi-uid", name="ravi", roles={"default": frozenset({Role.APPROVER})})
MAYA = Actor(uid="maya-uid", name="maya", roles={"default": frozenset({Role.CONTRIBUTOR})})
SOURCE = """
name = "strict"
title = "Strict"
reason = "Company rule 1"
[[rules]]
name = "good"
reason = "It must be good"
expression = "evaluation.metrics.auc >= 0.{}"
"""


def save(begin, auc, by=ADA):
    with begin(by) as uow:
        return policies.save(uow, SOURCE.format(auc), project="default")


def activate(begin, by, version=None):
    with begin(by) as uow:
        return enforcing.activate(uow, "strict", project="default", version=version)


def test_whoever_saved_a_version_cannot_put_it_into_force_alone(begin):
    save(begin, 7)
    asked = activate(begin, ADA)
    assert (asked.active, asked.proposal.by, asked.proposal.version) == (False, "ada", 1)
    assert not activate(begin, ADA).active  # asking twice makes no second person
    with pytest.raises(ForbiddenError):
        activate(begin, MAYA)
    found = activate(begin, RAVI)
    assert (found.active, found.proposal) == (True, None)
    with begin(ADA) as uow:
        (event,) = audit.list_events(uow, project="default", action="policy.activate")
    assert (event.actor_name, event.data["proposed_by"]) == ("ravi", ADA.uid)


def test_going_back_to_a_weaker_version_or_to_none_takes_two_as_well(begin):
    save(begin, 5)
    activate(begin, BEN)
    save(begin, 8)
    activate(begin, BEN)
    asked = activate(begin, BEN, version=1)
    assert (asked.active, asked.proposal.version) == (False, 1)
    assert activate(begin, ADA, version=1).active
    with begin(BEN) as uow:
        asked = enforcing.deactivate(uow, "strict", project="default", reason="not needed")
    assert asked.active
    assert (asked.proposal.version, asked.proposal.reason) == (None, "not needed")
    with begin(BEN) as uow:
        assert enforcing.deactivate(uow, "strict", project="default", reason="still not").active
    with begin(RAVI) as uow:
        assert not enforcing.deactivate(uow, "strict", project="default", reason="agreed").active


def test_the_local_user_of_a_home_is_alone_and_packs_are_there_to_take(begin):
    with begin() as uow:
        packs = policies.list_packs(uow, project="default")
        assert [one.name for one in packs] == list(PACKS)
        for pack in packs[1:]:
            saved = policies.save(uow, pack.source, project="default")
            assert enforcing.activate(uow, saved.name, project="default").active
