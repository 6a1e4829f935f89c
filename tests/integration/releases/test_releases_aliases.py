"""Aliases that follow an endpoint, and what may not be deleted: releases on both databases."""

from datetime import timedelta

import pytest

from everline.access.types import Role
from everline.clock import rfc3339
from everline.errors import ConflictError, ForbiddenError, InUseError, NotFoundError
from everline.models import aliases, registry
from everline.models import service as models
from everline.releases import deletion, following, rollout, service
from tests_support.registry import attest, register
from tests_support.released import INES, MAYA, RAVI, someone

MODEL = "flight-delay"
TOM = someone("tom", Role.CONTRIBUTOR)


def held(world, moment):
    with world.begin(INES) as uow:
        try:
            return aliases.alias_at(uow, "default", MODEL, alias="@champion", at=moment).version
        except NotFoundError:
            return None


def test_an_alias_that_follows_an_endpoint_is_moved_by_its_releases_and_keeps_what_it_was(world):
    start = world.clock.now()
    first = world.promoted()
    with world.work(MAYA) as uow:
        assert following.follow(uow, "default", MODEL, alias="champion", endpoint=MODEL).following == {
            "champion": MODEL
        }
    followed = world.clock.now()
    second = world.challenger()
    world.do(rollout.start_canary, second.uid)
    in_canary = world.clock.now()
    world.do(rollout.promote, second.uid)
    promoted = world.clock.now()
    with pytest.raises(InUseError, match="follows the endpoint 'flight-delay'"), world.work(MAYA) as uow:
        aliases.set_alias(uow, "default", MODEL, alias="champion", version=1)
    with pytest.raises(InUseError), world.work(MAYA) as uow:
        aliases.delete_alias(uow, "default", MODEL, alias="champion")
    world.do(rollout.rollback, second.uid, reason="drill")
    now = world.clock.now()
    moments = [start, followed, in_canary, promoted, now]
    assert [held(world, moment) for moment in moments] == [None, 1, 1, 2, 1]

    with world.begin(INES) as uow:
        moves = aliases.list_moves(uow, "default", MODEL, alias="champion")
        assert [(move.version, move.release, move.actor_name) for move in moves] == [
            (1, first.uid, "ravi"), (2, second.uid, "ravi"), (1, first.uid, "maya"),
        ]  # fmt: skip
        assert [move.until for move in moves] == [None, moves[0].at, moves[1].at]
    # the audit log tells the same story, independently of the table of moves
    logged = [(event.at, event.data["version"], event.data["release"]) for event in world.events("model.alias")]
    assert logged == [(rfc3339(move.at), move.version, move.release) for move in moves]

    with world.work(MAYA) as uow:
        aliases.stop_following(uow, "default", MODEL, alias="@champion")
        aliases.set_alias(uow, "default", MODEL, alias="champion", version=2)
        assert models.get_version(uow, "default", MODEL, "@champion").version == 2


def test_a_following_alias_names_nothing_when_another_model_answers(world):
    world.promoted()
    with world.work(MAYA) as uow:
        other = register(uow, b"x", model="other")
        attest(uow, other)
        assert following.follow(uow, "default", "other", alias="live", endpoint=MODEL).aliases == {}
        with pytest.raises(NotFoundError, match="pointed at nothing"):
            aliases.alias_at(uow, "default", "other", alias="live")
        with pytest.raises(NotFoundError):
            following.follow(uow, "default", "other", alias="live", endpoint="nowhere")


def test_what_an_endpoint_has_or_may_get_or_would_go_back_to_is_not_deleted(world):
    first = world.promoted()
    for actor, refusal in ((TOM, ForbiddenError), (MAYA, InUseError), (RAVI, InUseError)):
        with pytest.raises(refusal, match="flight-delay"), world.work(actor) as uow:
            deletion.delete_version(uow, "default", MODEL, 1)
    second = world.challenger()
    for step in (None, rollout.start_canary, rollout.promote):  # approved, in canary, live
        if step is not None:
            world.do(step, second.uid)
        for version in (1, 2):
            with pytest.raises(InUseError), world.work(RAVI) as uow:
                deletion.delete_version(uow, "default", MODEL, version)
    with pytest.raises(InUseError, match="endpoint 'flight-delay'"), world.work(RAVI) as uow:
        deletion.delete_model(uow, "default", MODEL)
    assert world.traffic() == [(2, "primary", 1.0)]

    third = world.challenger(b"third", share=0.0)
    world.do(rollout.promote, third.uid)  # now the first is neither live nor what would be gone back to
    with world.work(RAVI) as uow:
        deletion.delete_version(uow, "default", MODEL, 1)
        assert models.get_version_by_uid(uow, first.model_version).package == first.package
        assert uow.blobs.size(first.package)
    (event,) = world.events("model.delete-version")
    assert (event.actor_name, event.data["version"]) == ("ravi", 1)
    with pytest.raises(NotFoundError), world.work(MAYA) as uow:
        service.create(uow, project="default", endpoint="elsewhere", model=MODEL, version=1)
    world.do(rollout.rollback, third.uid, reason="drill")
    assert world.traffic() == [(2, "primary", 1.0)]


def test_one_deletes_what_one_made_alone_and_asks_for_the_rest(world):
    with world.work(MAYA) as uow:
        register(uow, b"1", model="mine")
    with world.work(TOM) as uow:
        register(uow, b"2", model="mine")
    with pytest.raises(ForbiddenError, match="model.delete"), world.work(MAYA) as uow:
        deletion.delete_model(uow, "default", "mine")
    with world.work(MAYA) as uow:
        aliases.set_alias(uow, "default", "mine", alias="best", version=1)
    marked = world.clock.now()
    with world.work(MAYA) as uow:
        deletion.delete_version(uow, "default", "mine", 1)
    with world.work(INES) as uow:
        assert aliases.alias_at(uow, "default", "mine", alias="best", at=marked).version == 1
        with pytest.raises(NotFoundError):
            aliases.alias_at(uow, "default", "mine", alias="best")
        with pytest.raises(NotFoundError):
            aliases.alias_at(uow, "default", "mine", alias="best", at=marked - timedelta(days=1))
    with world.work(RAVI) as uow:
        deletion.delete_model(uow, "default", "mine")
    with world.work(MAYA) as uow:
        with pytest.raises(NotFoundError):
            registry.get_model(uow, "default", "mine")
        registry.create_model(uow, "default", "mine")
        with pytest.raises(ConflictError):
            registry.create_model(uow, "default", "mine")
