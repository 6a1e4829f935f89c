"""Pipelines under names: address, directory and parameters, to be run or referred to by name."""

from __future__ import annotations

import msgspec

from everline.access.types import Permission
from everline.delivery import pipelines
from everline.delivery.kinds.kind import Compared, Scope, Spec
from everline.delivery.types import Pipeline
from everline.errors import NotFoundError


class Pipelines:
    """`[pipelines.NAME]`."""

    section = "pipelines"
    reads = Permission.PIPELINE_READ
    writes = Permission.PIPELINE_WRITE
    everywhere = False

    def compare(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> Compared:
        """As it is kept under the name."""
        try:
            found = pipelines.get_pipeline(scope.uow, name, project=scope.project)
        except NotFoundError:
            return Compared(spec, None)
        return Compared(spec, {key: value for key, value in msgspec.to_builtins(found).items() if key != "name"})

    def put(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> None:
        """Keep it."""
        pipelines.put_pipeline(scope.uow, msgspec.convert(spec | {"name": name}, Pipeline), project=scope.project)

    def remove(self, scope: Scope, name: str, before: Spec) -> None:
        """Forget its name; its runs stay."""
        pipelines.delete_pipeline(scope.uow, name, project=scope.project)
