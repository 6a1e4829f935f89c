"""Webhooks on both databases: announced with what they tell of, delivered outside of transactions, until taken."""

import socket

import msgspec
import pytest
from sqlalchemy import select

from everline.access.types import LOCAL, Role
from everline.clock import FixedClock, SystemClock
from everline.errors import ForbiddenError, IntegrityError, InvalidInputError, NotFoundError
from everline.governance import audit
from everline.models import aliases, registry, tags
from everline.server.application import Application
from everline.server.deliveries import Deliveries
from everline.testing.webhook_receiver import WebhookReceiver
from everline.webhooks import service
from everline.webhooks.addresses import address_of, check_url
from everline.webhooks.sealing import unseal
from everline.webhooks.tables import webhook
from everline.webhooks.types import Event, Status

ALL = [event.value for event in Event]
SECRET = "s3cret-of-the-receiver"  # noqa: S105 - a test's own


@pytest.fixture
def app(settings):
    application = Application(msgspec.structs.replace(settings, webhook_private=True))
    application.clock = FixedClock(SystemClock().now())
    yield application
    application.close()


@pytest.fixture
def receiver():
    with WebhookReceiver() as listening:
        yield listening


def make(begin, receiver, **options):
    with begin() as uow:
        return service.create(uow, "default", "ci", url=receiver.url, **{"events": ALL, "secret": SECRET} | options)


def deliver(app):
    """Make every delivery that is due; return how many tries that took."""
    deliveries, tries = Deliveries(app), 0
    while deliveries.run_one():
        tries += 1
    return tries


def test_every_event_is_delivered_once_signed_and_in_mlflows_words(app, begin, receiver):
    hook = make(begin, receiver)
    with begin() as uow:
        registry.create_model(uow, "default", "m", description="d", tags={"a": "1"})
        registry.create_version_from_source(uow, "default", "m", source="s3://b/x", run="r", tags={"t": "v"})
    with begin() as uow:
        tags.set_version_tag(uow, "default", "m", 1, key="k", value="w")
    with begin() as uow:
        tags.delete_version_tag(uow, "default", "m", 1, key="k")
        tags.set_model_tag(uow, "default", "m", key="not", value="announced")
        aliases.set_alias(uow, "default", "m", alias="champion", version=1)
        aliases.delete_alias(uow, "default", "m", alias="champion")
    with pytest.raises(ZeroDivisionError), begin() as uow:
        registry.create_model(uow, "default", "rolled-back")
        raise ZeroDivisionError
    assert deliver(app) == 6
    told = {f"{one.message['entity']}.{one.message['action']}": one.message["data"] for one in receiver.received}
    assert told == {
        "registered_model.created": {"name": "m", "tags": {"a": "1"}, "description": "d"},
        "model_version.created": {
            "name": "m", "version": "1", "source": "s3://b/x", "run_id": "r", "tags": {"t": "v"}, "description": None,
        },
        "model_version_tag.set": {"name": "m", "version": "1", "key": "k", "value": "w"},
        "model_version_tag.deleted": {"name": "m", "version": "1", "key": "k"},
        "model_version_alias.created": {"name": "m", "alias": "champion", "version": "1"},
        "model_version_alias.deleted": {"name": "m", "alias": "champion"},
    }  # fmt: skip
    assert all(one.is_signed_with(SECRET) for one in receiver.received)
    assert len({one.headers["x-mlflow-delivery-id"] for one in receiver.received}) == 6
    with begin() as uow:
        sent = service.list_deliveries(uow, hook.webhook)
        assert [(one.status, one.answer, one.attempts) for one in sent] == [("done", 200, 1)] * 6


def test_a_delivery_is_tried_again_until_it_is_taken_and_some_refusals_are_final(app, begin, receiver):
    hook = make(begin, receiver, secret="")
    receiver.answers += [503, 429, 200, 400, 302]
    with begin() as uow:
        registry.create_model(uow, "default", "m")
    assert deliver(app) == 1  # not due again yet
    for _ in range(2):
        app.clock.advance(5)
        assert deliver(app) == 1
    first = receiver.received
    assert len({one.headers["x-mlflow-delivery-id"] for one in first}) == 1
    assert "x-mlflow-signature" not in first[0].headers
    for name in ("refused", "redirected"):
        with begin() as uow:
            registry.create_model(uow, "default", name)
        assert deliver(app) == 1
        app.clock.advance(60)
        assert deliver(app) == 0
    with begin() as uow:
        sent = service.list_deliveries(uow, hook.webhook)
        assert [(one.status, one.answer, one.attempts) for one in sent] == [
            ("failed", 302, 1), ("failed", 400, 1), ("done", 200, 3),
        ]  # fmt: skip
        service.change(uow, hook.webhook, status=Status.DISABLED)
        registry.create_model(uow, "default", "untold")
    assert deliver(app) == 0 and len(receiver.received) == 5


def test_a_delivery_is_taken_over_from_a_dead_sender_and_dropped_when_the_webhook_is_gone(app, begin, receiver):
    hook = make(begin, receiver)
    with begin() as uow:
        registry.create_model(uow, "default", "m")
        registry.create_model(uow, "default", "n")
    dying = Deliveries(app)
    dying._deliver = lambda _job, _target: (_ for _ in ()).throw(SystemExit)  # noqa: SLF001 - it dies here
    with pytest.raises(SystemExit):
        dying.run_one()
    with socket.socket() as silent:  # bound and not listening: refused
        silent.bind(("127.0.0.1", 0))
        with begin() as uow:
            service.change(uow, hook.webhook, url=f"http://127.0.0.1:{silent.getsockname()[1]}/")
        assert deliver(app) == 1
    with begin() as uow:
        service.change(uow, hook.webhook, url=receiver.url)
    app.clock.advance(app.settings.job_lease_s + 1)
    assert deliver(app) == 2
    assert sorted(one.message["data"]["name"] for one in receiver.received) == ["m", "n"]
    with begin() as uow:
        registry.create_model(uow, "default", "late")
    with begin() as uow:
        service.delete(uow, hook.webhook)
    assert deliver(app) == 1 and len(receiver.received) == 2
    with pytest.raises(NotFoundError), begin() as uow:
        service.get(uow, hook.webhook)


def test_secrets_are_sealed_and_webhooks_are_for_admins(app, begin, receiver):
    hook = make(begin, receiver)
    assert hook.signed and SECRET not in repr(hook)
    with begin() as uow:
        sealed = uow.conn.execute(select(webhook.c.secret)).scalar_one()
        assert SECRET not in sealed
        assert unseal(uow.settings, sealed, webhook=hook.webhook) == SECRET
        with pytest.raises(IntegrityError):
            unseal(uow.settings, sealed, webhook="another")
        events = audit.list_events(uow, project="default", action="webhook.")
        assert "/hook" not in repr(events) and SECRET not in repr(events)
    for role in (Role.VIEWER, Role.CONTRIBUTOR, Role.APPROVER):
        with pytest.raises(ForbiddenError), begin(role=role) as uow:
            service.list_webhooks(uow, "default")
    with begin(role=Role.AUDITOR) as uow:
        assert [one.name for one in service.list_webhooks(uow, "default")] == ["ci"]
        with pytest.raises(ForbiddenError):
            service.delete(uow, hook.webhook)


def test_a_body_that_is_too_long_goes_without_its_tags(app, begin, receiver):
    make(begin, receiver)
    app.settings = msgspec.structs.replace(app.settings, webhook_payload_bytes_max=400)
    with app.begin(LOCAL) as uow:
        registry.create_model(uow, "default", "m", description="x" * 1000, tags={"a": "1"})
    assert deliver(app) == 1
    message = receiver.received[0].message
    assert message["truncated"] and message["data"] == {"name": "m", "tags": {}, "description": None}


@pytest.mark.parametrize("url", [
    "", "ftp://h/x", "http://example.com/x", "https://", "https:///x", "https://u:p@example.com/", "https://localhost/x",
    "https://127.0.0.1/", "https://127.1/", "https://0x7f000001.localhost/", "https://[::1]/", "https://[::ffff:10.0.0.1]/",
    "https://169.254.169.254/latest", "https://10.0.0.1/", "https://[64:ff9b::a00:1]/", "https://a b/", "https://x:99999/",
    "https://" + "x" * 2001, "https://db.internal/",
])  # fmt: skip
def test_an_address_that_is_not_public_is_refused(url):
    with pytest.raises(InvalidInputError) as caught:
        check_url(url, private=False)
    assert caught.value.field == "url"
    assert check_url("https://example.com:8443/hooks?token=x", private=False)


def test_a_name_that_resolves_to_a_private_address_is_refused_when_it_is_connected_to():
    with pytest.raises(ForbiddenError, match="not public"):
        address_of("localhost", 443, private=False)
    assert address_of("localhost", 443, private=True) in ("127.0.0.1", "::1")
