"""Webhooks: who is told. Secrets come from the environment, and are compared by fingerprint."""

from __future__ import annotations

from typing import Any

from everline.access.types import Permission
from everline.delivery.kinds.kind import Compared, Hidden, Scope, Spec
from everline.errors import ConflictError
from everline.webhooks import service
from everline.webhooks.sealing import fingerprint
from everline.webhooks.types import Status, Webhook


class Webhooks:
    """`[webhooks.NAME]`."""

    section = "webhooks"
    reads = Permission.WEBHOOK_READ
    writes = Permission.WEBHOOK_WRITE
    everywhere = False

    def compare(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> Compared:
        """A variable that was not sent is taken to hold what it held when the file was applied last."""
        found = self._find(scope, name)
        target = {
            "url": self._hidden(scope, name, spec, "url") or spec["url"], "events": spec["events"],
            "description": spec["description"], "active": spec["active"],
            "secret": self._hidden(scope, name, spec, "secret"),
        }  # fmt: skip
        if found is None:
            return Compared(target, None)
        secret = service.secret_fingerprint(scope.uow, found.webhook)
        real: Spec = {
            "url": Hidden("another address", self._of(scope, found.url)) if "url_env" in spec else found.url,
            "events": [event.value for event in found.events],
            "description": found.description,
            "active": found.status is Status.ACTIVE,
            "secret": Hidden("another secret", secret) if secret else None,
        }
        for field, value in real.items():
            wanted = target[field]
            if isinstance(wanted, Hidden) and not wanted.value:  # neither sent nor ever applied: as it is
                target[field] = Hidden(wanted.shown, value.value if value else "")
        return Compared(target, real)

    def put(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> None:
        """Create it or change what differs; fingerprints of what came from the environment are kept."""
        found = self._find(scope, name)
        target, real, _ = self.compare(scope, name, spec, before)
        asked: dict[str, Any] = {"events": spec["events"], "description": spec["description"]}
        if real is None or real["url"] != target["url"]:
            asked["url"] = scope.variable(spec["url_env"]) if "url_env" in spec else spec["url"]
        if real is None or real["secret"] != target["secret"]:
            asked["secret"] = scope.variable(spec["secret_env"]) if "secret_env" in spec else ""
        status = Status.ACTIVE if spec["active"] else Status.DISABLED
        if found is None:
            service.create(scope.uow, scope.project, name, status=status, **asked)
        else:
            service.change(scope.uow, found.webhook, status=status, **asked)
        kept = scope.fingerprints.get(f"webhooks.{name}", {})
        named = [field for field in ("url", "secret") if f"{field}_env" in spec and field in asked]
        new = {field: self._of(scope, asked[field]) for field in named}
        scope.fingerprints[f"webhooks.{name}"] = kept | new

    def remove(self, scope: Scope, name: str, before: Spec) -> None:
        """Tell it nothing any more."""
        found = self._find(scope, name)
        if found is not None:
            service.delete(scope.uow, found.webhook)

    def _hidden(self, scope: Scope, name: str, spec: Spec, field: str) -> Hidden | None:
        """What the environment holds, else what it held; None if the file names no variable for it."""
        variable = spec.get(f"{field}_env")
        if variable is None:
            return None
        known = scope.environment.get(variable)
        kept = scope.fingerprints.get(f"webhooks.{name}", {}).get(field, "")
        return Hidden(f"${variable}", self._of(scope, known) if known else kept)

    def _of(self, scope: Scope, value: str) -> str:
        return fingerprint(scope.uow.settings, value)

    def _find(self, scope: Scope, name: str) -> Webhook | None:
        found = [one for one in service.list_webhooks(scope.uow, scope.project, limit=1_000) if one.name == name]
        if len(found) > 1:
            raise ConflictError(
                f"{len(found)} webhooks are named {name!r}, and a file speaks of one.",
                hint="Delete or rename the others: `everline webhooks list`.",
            )
        return found[0] if found else None
