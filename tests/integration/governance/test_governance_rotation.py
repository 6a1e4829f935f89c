"""The server's key is changed: what the old one signed stays valid, and each key leads to the other."""

import pytest

from everline.access.types import Actor, Role
from everline.errors import ForbiddenError, IntegrityError
from everline.governance import audit, rotation, verification
from everline.governance.bundle import verify_bundle, verify_proof
from everline.governance.rotations import expand
from everline.governance.signing import SigningKey, server_key, server_keys
from everline.models import service as models
from everline.releases import rollout, service
from everline.serving import desired
from everline.serving.dataplane.loading import verify_release
from everline.webhooks.sealing import derived_key
from tests_support.released import RAVI, World


def test_what_the_old_key_signed_stays_valid_and_each_key_leads_to_the_other(begin, client, app, tmp_path):
    world, settings = World(begin, app.clock), app.settings
    world.clock = type("Clock", (), {"advance": lambda *_: None})()
    waiting = world.open(world.version())
    released = world.do(service.approve, waiting.uid)
    with begin() as uow:
        audit.checkpoint(uow)
    old, sealed = server_key(settings), derived_key(settings, b"purpose")
    done = client.audit.rotate_key(reason="the yearly one")
    new = server_key(settings)
    assert (done.previous, done.next) == (old.public_text, new.public_text)
    known = client.audit.keys()
    assert [key.public for key in known] == [new.public_text, old.public_text]
    assert server_keys(settings) == [new.verify_key, old.verify_key]
    assert derived_key(settings, b"purpose") == sealed  # secrets that are sealed open still
    assert oct((settings.signing_key_file).stat().st_mode)[-3:] == "600"
    with begin() as uow:
        assert verification.verify(uow).verified
        (event,) = audit.list_events(uow, project=None, action="key.rotate")
        proof = audit.prove(uow, 0)
        version = models.get_version(uow, "default", "flight-delay", 1)
        assert models.check_package(uow, version).key == old.keyid
    assert event.data["reason"] == "the yearly one"
    assert verify_proof(proof, new.verify_key).index == 0
    bundle = client.audit.export(tmp_path / "log.zip")
    for key in (old.verify_key, new.verify_key):
        report = verify_bundle(bundle, key)
        assert (report.verified, report.problems) == (True, [])
    assert not verify_bundle(bundle, SigningKey.generate().verify_key).verified

    live = world.do(rollout.promote, released.uid, by=RAVI)  # an approval of the old key, a statement of the new one
    with begin() as uow:
        state = desired.desired_state(uow)
    (endpoint,) = state.endpoints
    (revision,) = [one for one in endpoint.revisions if one.revision == live.revision]
    with pytest.raises(IntegrityError, match="not signed by a trusted key"):
        verify_release(endpoint, revision, key=old.verify_key)
    verify_release(endpoint, revision, key=expand([old.verify_key], state.rotations))  # as a data plane that pinned it


def test_a_rotation_that_one_key_alone_signed_leads_nowhere_and_not_everybody_may_rotate(begin):
    old, thief = SigningKey.generate(), SigningKey.generate()
    with begin() as uow:
        rotation.record_rotation(uow, thief, reason="by the server")
    with begin() as uow:
        (statement,) = rotation.statements(uow)
    halved = statement | {"signatures": statement["signatures"][1:]}
    assert expand([thief.verify_key], [halved]) == [thief.verify_key]
    assert len(expand([thief.verify_key], [statement])) == 2
    assert expand([old.verify_key], [statement]) == [old.verify_key]
    somebody = Actor(uid="u", name="ravi", roles={"default": frozenset({Role.ADMIN})})
    with pytest.raises(ForbiddenError), begin(somebody) as uow:
        rotation.record_rotation(uow, thief, reason="mine")
