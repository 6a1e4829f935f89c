"""REST face of webhooks."""

from __future__ import annotations

import msgspec

from everline.errors import EverlineError
from everline.ids import new_uid
from everline.loader import load
from everline.runs.filters import page_offset, page_token
from everline.server.http import Page, Request, Routes, begin, decode
from everline.webhooks import service
from everline.webhooks.bodies import body_of
from everline.webhooks.types import EXAMPLES, Delivery, Status, TestResult, Webhook

routes = Routes(tag="webhooks")


class CreateWebhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address that shall be told of events; a secret signs what it is sent."""

    name: str
    url: str
    events: list[str]
    description: str = ""
    secret: str = ""


class UpdateWebhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall be other; what is left out stays."""

    name: str | None = None
    url: str | None = None
    events: list[str] | None = None
    description: str | None = None
    secret: str | None = None
    status: Status | None = None


class TestWebhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which event to play; None means the webhook's first."""

    event: str | None = None


@routes.post("/webhooks", body=CreateWebhook, returns=Webhook, status=201)
def create(request: Request) -> Webhook:
    """Ask for an address to be told of events."""
    body = decode(CreateWebhook, request)
    with begin(request) as uow:
        return service.create(
            uow,
            request.project,
            body.name,
            url=body.url,
            events=body.events,
            description=body.description,
            secret=body.secret,
        )


@routes.get("/webhooks", returns=Page[Webhook])
def list_webhooks(request: Request) -> Page[Webhook]:
    """List the project's webhooks, the newest first."""
    offset, limit = page_offset(request.query("cursor", str, None)), request.limit
    with begin(request) as uow:
        found = service.list_webhooks(uow, request.project, limit=limit + 1, offset=offset)
    return Page(items=found[:limit], next=page_token(offset + limit) if len(found) > limit else None)


@routes.get("/webhooks/{webhook}", returns=Webhook)
def get(request: Request) -> Webhook:
    """Return a webhook; its secret is never shown."""
    with begin(request) as uow:
        return service.get(uow, request.path["webhook"])


@routes.patch("/webhooks/{webhook}", body=UpdateWebhook, returns=Webhook)
def update(request: Request) -> Webhook:
    """Change a webhook."""
    body = decode(UpdateWebhook, request)
    with begin(request) as uow:
        return service.change(uow, request.path["webhook"], **msgspec.structs.asdict(body))


@routes.delete("/webhooks/{webhook}")
def delete(request: Request) -> None:
    """Tell an address nothing any more."""
    with begin(request) as uow:
        service.delete(uow, request.path["webhook"])


@routes.post("/webhooks/{webhook}/test", body=TestWebhook, returns=TestResult)
def test(request: Request) -> TestResult:
    """Send an example of an event now, and say what the receiver answered."""
    return play(request, request.path["webhook"], event=decode(TestWebhook, request).event)


@routes.get("/webhooks/{webhook}/deliveries", returns=Page[Delivery])
def list_deliveries(request: Request) -> Page[Delivery]:
    """List the newest deliveries to a webhook, and what became of them."""
    with begin(request) as uow:
        return Page(items=service.list_deliveries(uow, request.path["webhook"], limit=request.limit))


def play(request: Request, webhook: str, *, event: str | None) -> TestResult:
    """Send an example of an event, outside of the transaction."""
    settings = request.app.settings
    with begin(request) as uow:
        target, chosen = service.prepare_test(uow, webhook, event=event)
        at = uow.clock.now()
    body = body_of(chosen, EXAMPLES[chosen], at=at, bytes_max=settings.webhook_payload_bytes_max)
    try:
        answer = load("everline.webhooks.sending").send(target, delivery=new_uid(), body=body, settings=settings)
    except EverlineError as error:
        return TestResult(success=False, error=f"Failed to test webhook: {error.message}")
    return TestResult(success=answer.status < 400, status=answer.status, body=answer.body)
