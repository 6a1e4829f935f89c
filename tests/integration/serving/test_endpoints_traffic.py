"""Endpoints, their traffic and its history, the desired state, and health, on both databases."""

from datetime import UTC, datetime

import pytest

from everline.access.types import Actor, Role
from everline.clock import FixedClock
from everline.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from everline.ids import new_uid
from everline.serving import desired, health, service
from everline.serving.types import Guard, Health, RevisionHealth, RevisionRole

MACHINE = Actor(uid="machine", name="machine", roles={"*": frozenset({Role.DATAPLANE})})
PRIMARY, CANARY, SHADOW = RevisionRole.PRIMARY, RevisionRole.CANARY, RevisionRole.SHADOW


@pytest.fixture
def clock(app):
    app.clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
    return app.clock


@pytest.fixture
def revisions(begin, clock):
    """Two revisions of one endpoint, without traffic."""
    with begin() as uow:
        service.create_endpoint(uow, "flight-delay", project="default", guard=Guard.FLAG)
        return [
            service.add_revision(
                uow,
                project="default",
                endpoint="flight-delay",
                release=new_uid(),
                model="flight-delay",
                version=version,
                model_version=new_uid(),
                package="sha256:" + str(version) * 64,
                signature="sha256:" + "a" * 64,
                statement={"payload": "…", "version": version},
            )
            for version in (1, 2)
        ]


def place(begin, placements):
    with begin() as uow:
        return service.set_traffic(uow, placements, project="default", endpoint="flight-delay")


def test_an_endpoint_is_created_once_and_listed(begin):
    with begin() as uow:
        made = service.create_endpoint(uow, "prices", project="default")
    with begin(role=Role.VIEWER) as uow:
        assert service.list_endpoints(uow, project="default") == [made]
    with begin() as uow, pytest.raises(ConflictError):
        service.create_endpoint(uow, "prices", project="default")
    with begin(role=Role.VIEWER) as uow, pytest.raises(ForbiddenError):
        service.create_endpoint(uow, "more", project="default")
    with begin() as uow, pytest.raises(InvalidInputError):
        service.create_endpoint(uow, "../prices", project="default")


def test_traffic_moves_and_its_history_answers_for_every_moment(begin, clock, revisions):
    first, second = revisions
    moments = []
    for placements in (
        {first: (PRIMARY, 1.0)},
        {first: (PRIMARY, 0.9), second: (CANARY, 0.1)},
        {second: (PRIMARY, 1.0)},
        {first: (PRIMARY, 1.0)},
    ):
        clock.advance(60)
        place(begin, placements)
        moments.append(clock.now())
    with begin() as uow:
        seen = [
            {one.revision: (one.role, one.share) for one in service.traffic_at(uow, moment, project="default")}
            for moment in moments
        ]
        before = service.traffic_at(uow, datetime(2025, 1, 1, tzinfo=UTC), project="default")
        ended = service.traffic_history(uow, "flight-delay", project="default")
    assert seen == [
        {first: (PRIMARY, 1.0)},
        {first: (PRIMARY, 0.9), second: (CANARY, 0.1)},
        {second: (PRIMARY, 1.0)},
        {first: (PRIMARY, 1.0)},
    ]
    assert before == []
    assert [one.until is None for one in ended] == [True, False, False, False, False]


def test_saying_again_what_holds_changes_neither_history_nor_generation(begin, revisions):
    place(begin, {revisions[0]: (PRIMARY, 1.0)})
    with begin(MACHINE) as uow:
        before = desired.read_generation(uow)
    place(begin, {revisions[0]: (PRIMARY, 1.0)})
    with begin(MACHINE) as uow:
        assert desired.read_generation(uow) == before
    with begin() as uow:
        assert len(service.traffic_history(uow, "flight-delay", project="default")) == 1


@pytest.mark.parametrize(
    "shares",
    [
        [(PRIMARY, 0.9), (CANARY, 0.2)],
        [(PRIMARY, 0.5)],
        [(CANARY, 1.0)],
        [(PRIMARY, 0.5), (PRIMARY, 0.5)],
        [(PRIMARY, 1.5), (CANARY, -0.5)],
        [(PRIMARY, float("nan"))],
    ],
)
def test_shares_that_do_not_add_up_are_refused(begin, revisions, shares):
    with begin() as uow, pytest.raises(InvalidInputError):
        service.set_traffic(uow, dict(zip(revisions, shares, strict=False)), project="default", endpoint="flight-delay")


def test_the_desired_state_carries_everything_a_data_plane_checks(begin, revisions):
    first, second = revisions
    place(begin, {first: (PRIMARY, 1.0), second: (SHADOW, 0.0)})
    with begin(MACHINE) as uow:
        state = desired.desired_state(uow)
    (endpoint,) = state.endpoints
    assert state.generation == 2
    assert (endpoint.endpoint, endpoint.project, endpoint.guard) == ("flight-delay", "default", Guard.FLAG)
    assert [(one.revision, one.role, one.share) for one in endpoint.revisions] == [
        (first, PRIMARY, 1.0),
        (second, SHADOW, 0.0),
    ]
    assert endpoint.revisions[0].statement == {"payload": "…", "version": 1}
    assert endpoint.revisions[0].package == "sha256:" + "1" * 64


def test_the_desired_state_is_for_machines(begin, revisions):
    for role in (Role.VIEWER, Role.CONTRIBUTOR, Role.DATAPLANE):  # the last only in one project
        with begin(role=role) as uow, pytest.raises(ForbiddenError):
            desired.desired_state(uow)


def test_health_is_kept_per_replica_with_an_hour_of_samples(begin, clock, revisions):
    def report(replica, requests):
        one = RevisionHealth(
            endpoint="flight-delay", project="default", revision=revisions[0], ready=True, requests=requests, p50_ms=1.5
        )
        with begin(MACHINE) as uow:
            health.report_health(
                uow, Health(replica=replica, address=f"http://{replica}", generation=1, revisions=[one])
            )

    report("a", 10)
    clock.advance(5)
    report("b", 1)
    clock.advance(5)
    report("a", 20)
    with begin(role=Role.VIEWER) as uow:
        replicas = health.list_replicas(uow, project="default")
        samples = health.list_samples(uow, "flight-delay", project="default")
        assert health.dataplane_address(uow, "flight-delay", project="default") == "http://a"
        assert health.dataplane_address(uow, "other", project="default") is None
    assert [(one.replica, one.revisions[0].requests) for one in replicas] == [("a", 20), ("b", 1)]
    assert [(one.replica, one.requests) for one in samples] == [("a", 10), ("b", 1), ("a", 20)]
    clock.advance(3591)
    report("b", 2)
    with begin() as uow:
        assert [one.requests for one in health.list_samples(uow, "flight-delay", project="default")] == [1, 20, 2]


def test_bad_health_is_refused(begin):
    with begin(MACHINE) as uow, pytest.raises(InvalidInputError):
        health.report_health(uow, Health(replica=""))
    with begin(role=Role.CONTRIBUTOR) as uow, pytest.raises(ForbiddenError):
        health.report_health(uow, Health(replica="x"))


def test_unknown_endpoints_are_not_found(begin):
    with begin() as uow:
        with pytest.raises(NotFoundError):
            service.get_endpoint(uow, "nowhere", project="default")
        with pytest.raises(NotFoundError):
            service.get_revision(uow, new_uid(), project="default")
