"""Whatever the order of changes, the history answers for each moment what held then."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everline.access.types import LOCAL
from everline.clock import FixedClock
from everline.config import Settings
from everline.ids import new_uid
from everline.server.application import Application
from everline.serving import desired, service
from everline.serving.types import RevisionRole

START = datetime(2026, 1, 1, tzinfo=UTC)
REVISIONS = 3


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    application = Application(Settings(home=tmp_path_factory.mktemp("home")), clock=FixedClock(START))
    yield application
    application.close()


@st.composite
def placements(draw):
    """Primary, perhaps a canary, perhaps a shadow, by the revision's number; sometimes nothing at all."""
    order = draw(st.permutations(range(REVISIONS)))
    canary_percent = draw(st.integers(0, 50))
    if draw(st.booleans()) and draw(st.booleans()):
        return {}
    placed = {order[0]: (RevisionRole.PRIMARY, 1 - canary_percent / 100)}
    if canary_percent:
        placed[order[1]] = (RevisionRole.CANARY, canary_percent / 100)
    if draw(st.booleans()):
        placed[order[2]] = (RevisionRole.SHADOW, 0.0)
    return placed


@given(st.lists(st.tuples(st.integers(1, 1000), placements()), min_size=1, max_size=12), st.integers(0, 12_000))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_history_answers_for_every_moment_what_held_then(app, changes, probe_s):
    name = "e-" + new_uid()
    app.clock = FixedClock(START)
    with app.begin(LOCAL) as uow:
        service.create_endpoint(uow, name, project="default")
        revisions = [
            service.add_revision(
                uow, project="default", endpoint=name, release=new_uid(), model="m", version=number,
                model_version=new_uid(), package="sha256:" + "1" * 64, signature="sha256:" + "2" * 64, statement={},
            )
            for number in range(REVISIONS)
        ]  # fmt: skip
    told, generations = [(START, {})], []
    for pause_s, placed in changes:
        app.clock.advance(pause_s)
        wanted = {revisions[number]: place for number, place in placed.items()}
        with app.begin(LOCAL) as uow:
            service.set_traffic(uow, wanted, project="default", endpoint=name)
            generations.append(desired.read_generation(uow))
        told.append((app.clock.now(), wanted))
    probe = START + timedelta(seconds=probe_s)
    held = [wanted for since, wanted in told if since <= probe][-1]
    with app.begin(LOCAL) as uow:
        found = service.traffic_at(uow, probe, project="default", endpoint=name)
        now = service.get_endpoint(uow, name, project="default").revisions
    assert {one.revision: (one.role, round(one.share, 6)) for one in found} == {
        uid: (role, round(share, 6)) for uid, (role, share) in held.items()
    }
    assert {one.revision for one in now} == set(told[-1][1])
    assert generations == sorted(generations)
