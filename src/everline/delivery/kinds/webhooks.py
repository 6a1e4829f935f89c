"""Webhooks: who is told. Secrets come from the environment, and are compared by fingerprint."""

from __future__ import annotations

from typing import Any

from everline.access.types import Permission
from everline.delivery.kinds.kind import Compared, Hidden, Scope, Spec
from everline.errors import ConflictError
from everline.webhooks import service
from everline.webhooks.types import Status, Webhook


class Webhooks:
    """`[webhooks.NAME]`."""

    section = "webhooks"
    reads = Permission.WEBHOOK_READ
    writes = Permission.WEBHOOK_WRITE
    everywhere = False
    removable = True

    def compare(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> Compared:
        """A variable that was not sent is taken to be what it was."""
        found = self._find(scope, name)
        url, secret = self._url(scope, spec, found), self._secret(scope, name, spec, found)
        target = {
            "url": url, "events": spec["events"], "description": spec["description"], "active": spec["active"],
            "secret": secret,
        }  # fmt: skip
        if found is None:
            return Compared(target, None)
        real: Spec = {
            "url": Hidden("another address", found.url) if isinstance(url, Hidden) else found.url,
            "events": [event.value for event in found.events],
            "description": found.description,
            "active": found.status is Status.ACTIVE,
            "secret": Hidden("another secret", self._kept(scope, name)) if found.signed else None,
        }
        return Compared(target, real)

    def put(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> None:
        """Create it or change what differs; keeps the fingerprint of the secret beside the declaration."""
        found = self._find(scope, name)
        target, real, _ = self.compare(scope, name, spec, before)
        url = scope.variable(spec["url_env"]) if "url_env" in spec else spec["url"]
        asked: dict[str, Any] = {"url": url, "events": spec["events"], "description": spec["description"]}
        status = Status.ACTIVE if spec["active"] else Status.DISABLED
        if real is None or real["secret"] != target["secret"]:
            asked["secret"] = scope.variable(spec["secret_env"]) if "secret_env" in spec else ""
            scope.fingerprints[f"webhooks.{name}"] = scope.fingerprint(f"webhooks.{name}", asked["secret"])
        if found is None:
            service.create(scope.uow, scope.project, name, status=status, **asked)
        else:
            service.change(scope.uow, found.webhook, status=status, **asked)

    def remove(self, scope: Scope, name: str, before: Spec) -> None:
        """Tell it nothing any more."""
        found = self._find(scope, name)
        if found is not None:
            service.delete(scope.uow, found.webhook)

    def _url(self, scope: Scope, spec: Spec, found: Webhook | None) -> Any:
        if "url" in spec:
            return spec["url"]
        known = scope.environment.get(spec["url_env"])
        return Hidden(f"${spec['url_env']}", known or (found.url if found else ""))

    def _secret(self, scope: Scope, name: str, spec: Spec, found: Webhook | None) -> Any:
        if "secret_env" not in spec:
            return None
        known, kept = scope.environment.get(spec["secret_env"]), self._kept(scope, name)
        value = scope.fingerprint(f"webhooks.{name}", known) if known else kept
        return Hidden(f"${spec['secret_env']}", value)

    def _kept(self, scope: Scope, name: str) -> str:
        return scope.fingerprints.get(f"webhooks.{name}", "")

    def _find(self, scope: Scope, name: str) -> Webhook | None:
        found = [one for one in service.list_webhooks(scope.uow, scope.project, limit=1_000) if one.name == name]
        if len(found) > 1:
            raise ConflictError(
                f"{len(found)} webhooks are named {name!r}, and a file speaks of one.",
                hint="Delete or rename the others: `everline webhooks list`.",
            )
        return found[0] if found else None
