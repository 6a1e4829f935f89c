"""Monitors: everything about them but what they have found."""

from __future__ import annotations

import msgspec

from everline.access.types import Permission
from everline.delivery.kinds.kind import Compared, Scope, Spec
from everline.errors import NotFoundError
from everline.monitoring import service
from everline.monitoring.types import CreateMonitor, Monitor


class Monitors:
    """`[monitors.NAME]`."""

    section = "monitors"
    reads = Permission.MONITOR_READ
    writes = Permission.MONITOR_WRITE
    everywhere = False

    def compare(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> Compared:
        """With what the declaration leaves open filled in as the monitor has it."""
        body = msgspec.convert(spec, CreateMonitor)
        current = self._find(scope, name)
        try:
            body = service.settled(scope.uow, body, project=scope.project, current=current)
        except NotFoundError:
            if current is not None:
                raise
            # its dataset may be declared in the same file; creating it will say so if it has no version
        target = _plain(body)
        if current is None:
            return Compared(target, None)
        real = _plain(current)
        changed = {key for key in target if target[key] != real.get(key)}
        note = "" if changed <= service.CHANGE_IN_PLACE else "is replaced: its evidence begins anew, its past stays"
        return Compared(target, {key: real.get(key) for key in target}, note)

    def put(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> None:
        """Create it, change it in place, or replace it where its evidence would be about something else."""
        body = msgspec.convert(spec, CreateMonitor)
        if self._find(scope, name) is None:
            service.create_monitor(scope.uow, body, project=scope.project)
        else:
            service.change_monitor(scope.uow, body, project=scope.project)

    def remove(self, scope: Scope, name: str, before: Spec) -> None:
        """Stop watching; windows and incidents stay."""
        service.delete_monitor(scope.uow, name, project=scope.project, reason=f"{scope.path} declares it no longer")

    def _find(self, scope: Scope, name: str) -> Monitor | None:
        try:
            return service.get_monitor(scope.uow, name, project=scope.project)
        except NotFoundError:
            return None


def _plain(value: object) -> Spec:
    decoded: Spec = msgspec.json.decode(msgspec.json.encode(value))
    decoded.pop("name")
    return decoded
