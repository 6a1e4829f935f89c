"""MLflow's face of webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from everline.errors import InvalidInputError
from everline.runs.filters import page_offset, page_token
from everline.runs.types import to_ms
from everline.server.http import Request, begin
from everline.server.mlflow_compat.wire import Fields, ProtocolError, answer, new_routes, project_of, without_nothing
from everline.server.rest.webhooks import play
from everline.webhooks import service
from everline.webhooks.types import Event, Status, Webhook

PER_PAGE_MAX = 1_000
_ENTITIES = {
    1: "REGISTERED_MODEL", 2: "MODEL_VERSION", 3: "MODEL_VERSION_TAG", 4: "MODEL_VERSION_ALIAS", 5: "PROMPT",
    6: "PROMPT_VERSION", 7: "PROMPT_TAG", 8: "PROMPT_VERSION_TAG", 9: "PROMPT_ALIAS", 10: "BUDGET_POLICY",
}  # fmt: skip
_ACTIONS = {1: "CREATED", 2: "UPDATED", 3: "DELETED", 4: "SET", 5: "EXCEEDED"}
_STATUSES = {1: "ACTIVE", 2: "DISABLED"}
_ELSEWHERE = ("PROMPT", "BUDGET_POLICY")

routes = new_routes()


@routes.post("/mlflow/webhooks")
def create_webhook(request: Request) -> Response:
    """Ask for an address to be told of events."""
    fields = Fields.of(request)
    name, url = fields.required("name"), fields.required("url")
    events = _events(fields)
    if not events:
        raise fields.missing("events")
    with begin(request) as uow:
        made = service.create(
            uow,
            project_of(request),
            name,
            url=url,
            events=events,
            description=fields.text("description"),
            secret=fields.text("secret"),
            status=_status(fields) or Status.ACTIVE,
        )
    return answer({"webhook": webhook_message(made)})


@routes.get("/mlflow/webhooks")
def list_webhooks(request: Request) -> Response:
    """List webhooks; a page and the token of the next one."""
    fields = Fields.of(request)
    limit, offset = fields.integer("max_results", 100) or 100, page_offset(fields.text("page_token"))
    if not 1 <= limit <= PER_PAGE_MAX:
        raise InvalidInputError(f"max_results must be between 1 and {PER_PAGE_MAX}.", field="max_results")
    with begin(request) as uow:
        found = service.list_webhooks(uow, project_of(request), limit=limit + 1, offset=offset)
    messages = [webhook_message(one) for one in found[:limit]]
    return answer({"webhooks": messages, "next_page_token": page_token(offset + limit) if found[limit:] else None})


@routes.get("/mlflow/webhooks/{webhook_id}")
def get_webhook(request: Request) -> Response:
    """Return a webhook; its secret is never shown."""
    with begin(request) as uow:
        return answer({"webhook": webhook_message(service.get(uow, request.path["webhook_id"]))})


@routes.patch("/mlflow/webhooks/{webhook_id}")
def update_webhook(request: Request) -> Response:
    """Change what is given."""
    fields = Fields.of(request)
    with begin(request) as uow:
        changed = service.change(
            uow,
            request.path["webhook_id"],
            name=fields.text("name") or None,
            url=fields.text("url") or None,
            events=_events(fields) or None,
            description=fields.text("description") if fields.has("description") else None,
            secret=fields.text("secret") if fields.has("secret") else None,
            status=_status(fields),
        )
    return answer({"webhook": webhook_message(changed)})


@routes.delete("/mlflow/webhooks/{webhook_id}")
def delete_webhook(request: Request) -> Response:
    """Tell an address nothing any more."""
    with begin(request) as uow:
        service.delete(uow, request.path["webhook_id"])
    return answer({})


@routes.post("/mlflow/webhooks/{webhook_id}/test")
def test_webhook(request: Request) -> Response:
    """Send an example of an event now, and say what the receiver answered."""
    asked = Fields.of(request).message("event")
    done = play(request, request.path["webhook_id"], event=None if asked is None else _event(asked))
    result = {
        "success": done.success,
        "response_status": done.status,
        "response_body": done.body,
        "error_message": done.error,
    }
    return answer({"result": without_nothing(result)})


def webhook_message(value: Webhook) -> dict[str, Any]:
    """`mlflow.Webhook`."""
    return without_nothing({
        "webhook_id": value.webhook,
        "name": value.name,
        "description": value.description or None,
        "url": value.url,
        "events": [_event_message(event) for event in value.events],
        "status": value.status.name,
        "creation_timestamp": to_ms(value.created_at),
        "last_updated_timestamp": to_ms(value.updated_at),
    })  # fmt: skip


def _event_message(event: Event) -> dict[str, str]:
    entity, _, action = event.value.upper().partition(".")
    return {"entity": entity, "action": action}


def _events(fields: Fields) -> Sequence[str]:
    return [_event(message) for message in fields.messages("events")]


def _event(message: Fields) -> str:
    names = {name: name for name in (*_ENTITIES.values(), *_ACTIONS.values())}
    entity = message.choice("entity", names, numbers=_ENTITIES, default="")
    action = message.choice("action", names, numbers=_ACTIONS, default="")
    if entity.startswith(_ELSEWHERE):
        raise ProtocolError(
            f"Events of {entity.lower()} are not supported by this server, which has no prompts and no budgets.",
            error_code="NOT_IMPLEMENTED",
            status=501,
        )
    event = f"{entity}.{action}".lower()
    if event not in {known.value for known in Event}:
        valid = sorted(known.value.split(".")[1] for known in Event if known.value.startswith(f"{entity.lower()}."))
        raise InvalidInputError(
            f"Invalid action '{action.lower()}' for entity '{entity.lower()}'. Valid actions are: {valid}",
            field="events",
        )
    return event


def _status(fields: Fields) -> Status | None:
    choices = {"ACTIVE": Status.ACTIVE, "DISABLED": Status.DISABLED}
    found: Status | None = fields.choice("status", choices, numbers=_STATUSES, default=None)
    return found
