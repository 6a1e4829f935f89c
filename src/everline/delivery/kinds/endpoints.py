"""Endpoints: who may ask, guard, log, rollout plan. They are never removed by a file: programs call them."""

from __future__ import annotations

import msgspec

from everline.access.types import Permission
from everline.delivery.kinds.kind import Compared, Scope, Spec
from everline.errors import NotFoundError
from everline.releases import plans
from everline.releases.types import Plan
from everline.serving import options, service
from everline.serving.types import ChangeEndpoint, Guard


class Endpoints:
    """`[endpoints.NAME]`."""

    section = "endpoints"
    reads = Permission.ENDPOINT_READ
    writes = Permission.ENDPOINT_WRITE
    everywhere = False

    def compare(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> Compared:
        """Guard and rollout plan; who answers is the business of releases."""
        wanted = _plan(spec)
        spec = spec | {"rollout": msgspec.to_builtins(wanted)}
        try:
            found = service.get_endpoint(scope.uow, name, project=scope.project)
        except NotFoundError:
            return Compared(spec, None)
        plan = plans.get_plan(scope.uow, name, project=scope.project)
        known = {key: msgspec.to_builtins(getattr(found, key)) for key in ("guard", "access", "log", "durability")}
        return Compared(spec, known | {"rollout": msgspec.to_builtins(plan)})

    def put(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> None:
        """Create it without traffic, or change it."""
        change = msgspec.convert({key: spec[key] for key in ChangeEndpoint.__struct_fields__}, ChangeEndpoint)
        try:
            service.get_endpoint(scope.uow, name, project=scope.project)
        except NotFoundError:
            service.create_endpoint(scope.uow, name, project=scope.project, guard=Guard(spec["guard"]))
        options.change_endpoint(scope.uow, name, change, project=scope.project)
        plans.set_plan(scope.uow, name, _plan(spec), project=scope.project)


def _plan(spec: Spec) -> Plan | None:
    """The plan as it is kept: of one with steps, the first one's share is the canary's."""
    return None if spec["rollout"] is None else plans.check_plan(msgspec.convert(spec["rollout"], Plan))
