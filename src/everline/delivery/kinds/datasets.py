"""Datasets: description, owner and tags, and the contract. Data are never removed by a file."""

from __future__ import annotations

import msgspec

from everline.access.types import Permission
from everline.datasets import contracts, service, tags
from everline.datasets.types import Contract
from everline.delivery.kinds.kind import Compared, Scope, Spec
from everline.errors import NotFoundError


class Datasets:
    """`[datasets.NAME]`."""

    section = "datasets"
    reads = Permission.DATA_READ
    writes = Permission.DATA_WRITE
    everywhere = False

    def compare(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> Compared:
        """Only tags that are declared, or were, are looked at: others belong to people."""
        wanted = dict.fromkeys((before or {}).get("tags", {})) | spec["tags"]
        target: Spec = {"tags": wanted}
        note = ""
        if "contract" in spec:
            target["contract"] = spec["contract"]
        elif before is not None and "contract" in before:
            note = "its contract stays in force: contracts are kept, and only replaced"
        try:
            found = service.get_dataset(scope.uow, scope.project, name)
        except NotFoundError:
            return Compared(target, None, note)
        real: Spec = {"tags": {key: found.tags.get(key) for key in wanted}}
        if "contract" in target:
            real["contract"] = self._contract(scope, name)
        return Compared(target, real, note)

    def put(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> None:
        """Create it empty, tag it, and set the contract."""
        service.create_dataset(scope.uow, scope.project, name)
        target, real, _ = self.compare(scope, name, spec, before)
        if real is not None and target["tags"] != real["tags"]:
            tags.tag_dataset(scope.uow, scope.project, name, target["tags"])
        if "contract" in spec:
            contract = msgspec.convert(spec["contract"], Contract)
            contracts.set_contract(scope.uow, scope.project, name, contract)

    def _contract(self, scope: Scope, name: str) -> Spec | None:
        try:
            found = contracts.get_contract(scope.uow, scope.project, name)
        except NotFoundError:
            return None
        kept: Spec = msgspec.json.decode(msgspec.json.encode(found.contract))
        return kept
