"""Webhooks through the client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from everline.sdk.client import Client
from everline.webhooks.types import Delivery, TestResult, Webhook


class WebhooksApi:
    """Addresses that are told what happens in the registry."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, name: str, *, url: str, events: Sequence[str], description: str = "", secret: str = "") -> Webhook:
        """Ask for an address to be told of events, such as `model_version_alias.created`.

        Args:
            secret: signs deliveries; it is never shown again.
        """
        body = {"name": name, "url": url, "events": list(events), "description": description, "secret": secret}
        made: Webhook = self._client.call("POST", "/webhooks", body=body, returns=Webhook)
        return made

    def list(self, *, limit: int = 1_000) -> list[Webhook]:
        """The project's webhooks, the newest first."""
        return self._client.list_all("/webhooks", kind=Webhook, limit=limit)

    def get(self, webhook: str) -> Webhook:
        """Return a webhook."""
        found: Webhook = self._client.call("GET", f"/webhooks/{webhook}", returns=Webhook)
        return found

    def update(self, webhook: str, **changes: Any) -> Webhook:
        """Change `name`, `url`, `events`, `description`, `secret` or `status` (active, disabled)."""
        changed: Webhook = self._client.call("PATCH", f"/webhooks/{webhook}", body=changes, returns=Webhook)
        return changed

    def delete(self, webhook: str) -> None:
        """Tell an address nothing any more."""
        self._client.call("DELETE", f"/webhooks/{webhook}")

    def test(self, webhook: str, *, event: str | None = None) -> TestResult:
        """Send an example of an event now, and return what the receiver answered."""
        body = {"event": event}
        done: TestResult = self._client.call("POST", f"/webhooks/{webhook}/test", body=body, returns=TestResult)
        return done

    def deliveries(self, webhook: str, *, limit: int = 100) -> tuple[Delivery, ...]:
        """The newest deliveries to a webhook, and what became of them."""
        return tuple(self._client.list_all(f"/webhooks/{webhook}/deliveries", kind=Delivery, limit=limit))
