"""Webhooks: who is told of what, and what became of telling them.

Rules that hold here:
1. A webhook's address may hold a token and its secret signs: who manages webhooks needs `webhook.write`, which only
   admins hold, and secrets are never returned.
2. A delivery is a job: it outlives whoever was about to make it, and is tried again until it is taken or given up.
3. Nothing is sent inside a transaction: a receiver that hangs holds nobody's lock.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, insert, select, update

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, InvalidInputError, NotFoundError
from everline.ids import new_uid
from everline.jobs import queue
from everline.jobs.types import Job
from everline.runs.limits import check_length
from everline.webhooks.addresses import check_url
from everline.webhooks.outbox import key_prefix
from everline.webhooks.sealing import fingerprint, seal, unseal
from everline.webhooks.tables import webhook
from everline.webhooks.types import Delivery, Event, Status, Target, Webhook

DESCRIPTION_CHARACTERS_MAX = 1_000
SECRET_CHARACTERS_MAX = 1_000
PER_PROJECT_MAX = 100
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@act
def create(
    uow: UnitOfWork,
    project: str,
    name: str,
    *,
    url: str,
    events: Sequence[str],
    description: str = "",
    secret: str = "",
    status: Status = Status.ACTIVE,
) -> Webhook:
    """Ask for an address to be told of events.

    Args:
        secret: signs deliveries; empty leaves them unsigned.

    Raises:
        InvalidInputError: the address may not be told, or a name or event is wrong.
        ConflictError: the project has as many webhooks as one may have.
    """
    uow.require(Permission.WEBHOOK_WRITE, project)
    kept = select(webhook.c.uid).where(webhook.c.project == project, webhook.c.deleted.is_(False))
    if len(uow.conn.execute(kept).all()) >= PER_PROJECT_MAX:
        raise ConflictError(f"The project has {PER_PROJECT_MAX} webhooks already.", hint="Delete one first.")
    uid, now = new_uid(), uow.clock.now()
    row = {
        "uid": uid, "project": project, "name": _check_name(name), "status": Status(status).value,
        "url": check_url(url, private=uow.settings.webhook_private), "events": _check_events(events),
        "description": check_length(description, limit=DESCRIPTION_CHARACTERS_MAX, field="description"),
        "secret": _sealed(uow, uid, secret), "created_at": now, "updated_at": now, "deleted": False,
        "created_by": uow.actor.uid, "created_by_name": uow.actor.name,
    }  # fmt: skip
    uow.conn.execute(insert(webhook).values(**row))
    _record(uow, "webhook.create", row)
    return _value(_find(uow, uid))


@read
def get(uow: UnitOfWork, uid: str) -> Webhook:
    """Return a webhook."""
    return _value(_require(uow, uid, Permission.WEBHOOK_READ))


@read
def list_webhooks(uow: UnitOfWork, project: str, *, limit: int = 100, offset: int = 0) -> list[Webhook]:
    """The project's webhooks, the newest first; `limit` is 1 to 1,000."""
    uow.require(Permission.WEBHOOK_READ, project)
    query = select(webhook).where(webhook.c.project == project, webhook.c.deleted.is_(False))
    page = query.order_by(webhook.c.uid.desc()).offset(offset).limit(limit)
    return [_value(row) for row in uow.conn.execute(page)]


@act
def change(
    uow: UnitOfWork,
    uid: str,
    *,
    name: str | None = None,
    url: str | None = None,
    events: Sequence[str] | None = None,
    description: str | None = None,
    secret: str | None = None,
    status: Status | None = None,
) -> Webhook:
    """Change what is given; an empty secret leaves deliveries unsigned from now on."""
    row = _require(uow, uid, Permission.WEBHOOK_WRITE)
    changes: dict[str, Any] = {"updated_at": uow.clock.now()}
    if name is not None:
        changes["name"] = _check_name(name)
    if url is not None:
        changes["url"] = check_url(url, private=uow.settings.webhook_private)
    if events is not None:
        changes["events"] = _check_events(events)
    if description is not None:
        changes["description"] = check_length(description, limit=DESCRIPTION_CHARACTERS_MAX, field="description")
    if secret is not None:
        changes["secret"] = _sealed(uow, uid, secret)
    if status is not None:
        changes["status"] = Status(status).value
    uow.conn.execute(update(webhook).where(webhook.c.uid == uid).values(**changes))
    _record(uow, "webhook.update", row._asdict() | changes, changed=sorted(changes))
    return _value(_find(uow, uid))


@act
def delete(uow: UnitOfWork, uid: str) -> None:
    """Tell an address nothing any more; deliveries that still wait are dropped."""
    row = _require(uow, uid, Permission.WEBHOOK_WRITE)
    uow.conn.execute(update(webhook).where(webhook.c.uid == uid).values(deleted=True, secret=None))
    _record(uow, "webhook.delete", row._asdict())


@act
def prepare_test(uow: UnitOfWork, uid: str, *, event: str | None = None) -> tuple[Target, Event]:
    """Where a test delivery goes, and of which event; it is sent outside of the transaction.

    Args:
        event: None means the webhook's first.
    """
    row = _require(uow, uid, Permission.WEBHOOK_WRITE)
    chosen = Event(_check_events([event])[0] if event else row.events[0])
    _record(uow, "webhook.test", row._asdict())
    return _target(uow, row), chosen


@read
def secret_fingerprint(uow: UnitOfWork, uid: str) -> str:
    """What tells a webhook's secret from others, so that a declared one can be compared; empty if it has none.

    Raises:
        IntegrityError: the server has another key than the one that it was sealed under.
    """
    row = _require(uow, uid, Permission.WEBHOOK_READ)
    target = _target(uow, row)
    return "" if target.secret is None else fingerprint(uow.settings, target.secret)


@read
def list_deliveries(uow: UnitOfWork, uid: str, *, limit: int = 100) -> list[Delivery]:
    """The newest deliveries to a webhook; `limit` is 1 to 1,000."""
    row = _require(uow, uid, Permission.WEBHOOK_READ)
    return [_delivery(job) for job in queue.keyed(uow, key_prefix(row.uid), limit=limit)]


def target_of(uow: UnitOfWork, job: Job) -> Target | None:
    """Where a delivery goes; None if its webhook was deleted or disabled since. Asks for no permission."""
    row = uow.conn.execute(select(webhook).where(webhook.c.uid == job.payload["webhook"])).first()
    if row is None or row.deleted or row.status != Status.ACTIVE.value:
        return None
    return _target(uow, row)


def _target(uow: UnitOfWork, row: Row[Any]) -> Target:
    secret = None if row.secret is None else unseal(uow.settings, row.secret, webhook=row.uid)
    return Target(webhook=row.uid, url=row.url, secret=secret)


def _require(uow: UnitOfWork, uid: str, permission: Permission) -> Row[Any]:
    row: Row[Any] | None = _find(uow, uid) if len(uid) <= 36 and "\0" not in uid else None
    if row is None or row.deleted or not uow.actor.roles_in(row.project):
        uow.checks += 1
        raise NotFoundError(
            f"Webhook with ID {uid[:80]} not found.", hint="`everline webhooks list` shows them.", field="webhook"
        )
    uow.require(permission, row.project)
    return row


def _find(uow: UnitOfWork, uid: str) -> Any:
    return uow.conn.execute(select(webhook).where(webhook.c.uid == uid)).first()


def _sealed(uow: UnitOfWork, uid: str, secret: str) -> str | None:
    check_length(secret, limit=SECRET_CHARACTERS_MAX, field="secret")
    return seal(uow.settings, secret, webhook=uid) if secret else None


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"Webhook name '{name[:80]}' is invalid. It must start and end with a letter or digit, be less than 63 "
            "characters long, and contain only letters, digits, dots (.), underscores (_), and hyphens (-).",
            field="name",
        )
    return name


def _check_events(events: Sequence[str]) -> list[str]:
    known = [event.value for event in Event]
    for event in events:
        if event not in known:
            raise InvalidInputError(
                f"There is no event {str(event)[:80]!r}.", hint=f"Known are {', '.join(known)}.", field="events"
            )
    if not events:
        raise InvalidInputError(
            "Webhook events must be a non-empty list.", hint=f"Known are {', '.join(known)}.", field="events"
        )
    return list(dict.fromkeys(str(event) for event in events))


def _record(uow: UnitOfWork, action: str, row: dict[str, Any], **data: Any) -> None:
    """Record what is public of a webhook: of its address only the host, since paths hold tokens."""
    host = row["url"].split("://", 1)[-1].split("/", 1)[0].split("?", 1)[0][:256]
    uow.record(
        action, subject=f"webhook:{row['uid']}", project=row["project"], name=row["name"], host=host,
        events=row["events"], status=row["status"], **data,
    )  # fmt: skip


def _value(row: Row[Any]) -> Webhook:
    return Webhook(
        webhook=row.uid,
        project=row.project,
        name=row.name,
        description=row.description,
        url=row.url,
        events=[Event(event) for event in row.events],
        status=Status(row.status),
        signed=row.secret is not None,
        created_at=row.created_at,
        updated_at=row.updated_at,
        created_by_name=row.created_by_name,
    )


def _delivery(job: Job) -> Delivery:
    return Delivery(
        delivery=job.uid,
        webhook=job.payload["webhook"],
        event=Event(job.payload["event"]),
        status=job.status,
        attempts=job.attempts,
        created_at=job.created_at,
        due_at=job.due_at,
        answer=(job.result or {}).get("status"),
        error=job.error,
    )
