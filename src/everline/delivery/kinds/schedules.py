"""Schedules: what sets a pipeline going, and with which parameters. What they ran stays."""

from __future__ import annotations

import msgspec

from everline.access.types import Permission
from everline.delivery.kinds.kind import Compared, Scope, Spec
from everline.errors import NotFoundError
from everline.pipelines.schedules import service
from everline.pipelines.schedules.types import ScheduleSpec


class Schedules:
    """`[schedules.NAME]`."""

    section = "schedules"
    reads = Permission.PIPELINE_READ
    writes = Permission.PIPELINE_WRITE
    everywhere = False

    def compare(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> Compared:
        """As it is kept, without what came of it.

        Raises:
            InvalidInputError: something of it could not be carried out, such as an hour that there is none of.
        """
        wanted = msgspec.convert(spec, ScheduleSpec)
        service.check(wanted, now=scope.uow.clock.now())
        try:
            found = service.get_schedule(scope.uow, scope.project, name)
        except NotFoundError:
            return Compared(_plain(wanted), None)
        return Compared(_plain(wanted), _plain(found.spec()))

    def put(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> None:
        """Create it, or make it as said; a changed trigger counts from now."""
        service.put_schedule(scope.uow, scope.project, msgspec.convert(spec, ScheduleSpec))

    def remove(self, scope: Scope, name: str, before: Spec) -> None:
        """Start nothing more by it."""
        reason = f"{scope.path} declares it no longer"
        service.delete_schedule(scope.uow, scope.project, name, reason=reason)


def _plain(value: ScheduleSpec) -> Spec:
    decoded: Spec = msgspec.json.decode(msgspec.json.encode(value))
    decoded.pop("name")
    return decoded
