"""Values of webhooks: what happens, who is told, and what became of telling them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class Event(StrEnum):
    """What a webhook can be told of: MLflow's events of the model registry."""

    MODEL_CREATED = "registered_model.created"
    VERSION_CREATED = "model_version.created"
    TAG_SET = "model_version_tag.set"
    TAG_DELETED = "model_version_tag.deleted"
    ALIAS_CREATED = "model_version_alias.created"
    ALIAS_DELETED = "model_version_alias.deleted"


EXAMPLES: dict[Event, dict[str, Any]] = {
    Event.MODEL_CREATED: {
        "name": "example_model",
        "tags": {"example_key": "example_value"},
        "description": "An example registered model",
    },
    Event.VERSION_CREATED: {
        "name": "example_model",
        "version": "1",
        "source": "models:/123",
        "run_id": "abcd1234abcd5678",
        "tags": {"example_key": "example_value"},
        "description": "An example model version",
    },
    Event.TAG_SET: {"name": "example_model", "version": "1", "key": "example_key", "value": "example_value"},
    Event.TAG_DELETED: {"name": "example_model", "version": "1", "key": "example_key"},
    Event.ALIAS_CREATED: {"name": "example_model", "alias": "example_alias", "version": "1"},
    Event.ALIAS_DELETED: {"name": "example_model", "alias": "example_alias"},
}
"""What a test delivery says."""


class Status(StrEnum):
    """Whether a webhook is told anything."""

    ACTIVE = "active"
    DISABLED = "disabled"


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """An address that is told of events; its secret is never shown.

    Attributes:
        webhook: canonical UUIDv7 text.
        url: where deliveries are posted.
        signed: whether it has a secret, with which deliveries are signed.
    """

    webhook: str
    project: str
    name: str
    description: str
    url: str
    events: list[Event]
    status: Status
    signed: bool
    created_at: datetime
    updated_at: datetime
    created_by_name: str


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event on its way to one webhook, or what became of it.

    Attributes:
        delivery: what the receiver sees as `X-MLflow-Delivery-Id`; the same on every try.
        status: queued, running, done or failed.
        answer: status of the receiver's last answer, None while there was none.
    """

    delivery: str
    webhook: str
    event: Event
    status: str
    attempts: int
    created_at: datetime
    due_at: datetime
    answer: int | None
    error: str | None


class TestResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver answered to a test delivery."""

    success: bool
    status: int | None = None
    body: str | None = None
    error: str | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a delivery goes and what it is signed with; stays inside the process."""

    webhook: str
    url: str
    secret: str | None
