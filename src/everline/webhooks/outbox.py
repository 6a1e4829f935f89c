"""From what happened to deliveries: read off the audit events of a transaction, enqueued inside of it.

The registry knows nothing of webhooks. It records what it did; here, at the end of the same transaction, whoever asked
to be told gets a job. Both are committed or neither, so that nothing is announced that did not happen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from everline.access.unit_of_work import Event as Recorded
from everline.access.unit_of_work import UnitOfWork
from everline.ids import new_uid
from everline.jobs import queue
from everline.loader import late
from everline.storage.db import select_rows
from everline.webhooks.types import Event, Status

QUEUE = "webhooks"
KIND = "webhook.deliver"

if TYPE_CHECKING:
    from everline.models import rows as model_rows
    from everline.models.types import TrackedVersion
    from everline.webhooks import bodies
else:  # every change comes by here, and few are of the registry
    model_rows, bodies = late("everline.models.rows"), late("everline.webhooks.bodies")

_EVENTS = {
    "model.create": Event.MODEL_CREATED,
    "model.register": Event.VERSION_CREATED,
    "model.tag": Event.TAG_SET,
    "model.untag": Event.TAG_DELETED,
    "model.alias": Event.ALIAS_CREATED,
    "model.unalias": Event.ALIAS_DELETED,
}


# A fixed statement: it is asked at the end of every change of the registry.
_SUBSCRIBED = "SELECT uid, events FROM webhook WHERE project = ? AND status = ? AND NOT deleted ORDER BY uid"


def announce(uow: UnitOfWork) -> None:
    """Enqueue a delivery of each event of this transaction to each webhook that asked for it."""
    known = [(recorded, event) for recorded in uow.events if (event := _event_of(recorded)) is not None]
    if not known:
        return
    told = {project: _subscribed(uow, project) for project in {recorded.project for recorded, _ in known}}
    for recorded, event in known:
        receivers = [uid for uid, wanted in told[recorded.project] if event.value in wanted]
        if receivers:
            data = _data(uow, recorded, event)
            limit = uow.settings.webhook_payload_bytes_max
            body = bodies.body_of(event, data, at=uow.clock.now(), bytes_max=limit)
            for uid in receivers:
                enqueue(uow, uid, event=event, body=body, project=recorded.project)


def enqueue(uow: UnitOfWork, webhook_uid: str, *, event: Event, body: str, project: str) -> None:
    """Leave one delivery to be made after this transaction."""
    payload = {"webhook": webhook_uid, "event": event.value, "body": body}
    queue.enqueue(uow, KIND, payload, project=project, queue=QUEUE, key=f"{key_prefix(webhook_uid)}{new_uid()}")


def key_prefix(webhook_uid: str) -> str:
    """How the keys of the jobs of one webhook begin."""
    return f"webhook:{webhook_uid}:"


def _event_of(recorded: Recorded) -> Event | None:
    event = _EVENTS.get(recorded.action)
    if event in (Event.TAG_SET, Event.TAG_DELETED) and not recorded.subject.startswith("model-version:"):
        return None  # MLflow tells of tags of versions only
    return event


def _subscribed(uow: UnitOfWork, project: str) -> list[tuple[str, list[str]]]:
    """The active webhooks of a project, each with the events that it asked for."""
    found = select_rows(uow.conn, _SUBSCRIBED, (project, Status.ACTIVE.value))
    return [(uid, msgspec.json.decode(events)) for uid, events in found]


def _data(uow: UnitOfWork, recorded: Recorded, event: Event) -> dict[str, Any]:
    """MLflow's payload of an event."""
    uid, told = recorded.subject.partition(":")[2], recorded.data
    if event is Event.MODEL_CREATED:
        (model,) = model_rows.load_models(uow.conn, [model_rows.find_model_by_uid(uow, uid)])
        return {"name": model.name, "tags": model.tags, "description": model.description}
    if event is Event.ALIAS_CREATED:
        return {"name": told["model"], "alias": told["alias"], "version": str(told["version"])}
    if event is Event.ALIAS_DELETED:
        return {"name": told["model"], "alias": told["alias"]}
    (version,) = model_rows.load_versions(uow.conn, [model_rows.find_version_by_uid(uow, uid)])
    if event is Event.VERSION_CREATED:
        return _created(version)
    about = {"name": version.model, "version": str(version.version), "key": told["key"]}
    return about | {"value": version.tags.get(told["key"], "")} if event is Event.TAG_SET else about


def _created(version: TrackedVersion) -> dict[str, Any]:
    return {
        "name": version.model,
        "version": str(version.version),
        "source": version.source or version.package,
        "run_id": version.run,
        "tags": version.tags,
        "description": version.description or None,
    }
