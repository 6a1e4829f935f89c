"""The dataset versions of one run of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from everline.errors import InvalidInputError
from everline.loader import load
from everline.pipelines.graph import DatasetRef
from everline.pipelines.types import DatasetUse
from everline.sdk.client import Client


class Datasets:
    """The dataset versions of one run: resolved once, so that every step reads the same."""

    def __init__(self, client: Client, overrides: Mapping[str, Sequence[str | int]], *, contracts: bool = True) -> None:
        # A rebuild reads what was read, whatever has been promised since: its contracts are not held again.
        self._client, self._overrides, self._contracts = client, overrides, contracts
        self._resolved: dict[DatasetRef, tuple[DatasetUse, ...]] = {}
        self._versions: dict[str, list[Any]] = {}

    def resolve(self, ref: DatasetRef) -> tuple[DatasetUse, ...]:
        """The versions that a reference means.

        Raises:
            NotFoundError: there is no such dataset.
            InvalidInputError: there is no such version.
            ContractBrokenError: one of them does not keep the contract that the pipeline declares.
        """
        if ref not in self._resolved:
            asked = tuple(self._overrides.get(ref.name, ref.versions))
            known = sorted(self._known(ref.name), key=lambda version: version.version)
            if not known:
                raise InvalidInputError(
                    f"Dataset {ref.name!r} has no version yet.", hint="Add one with `everline data add`."
                )
            found = [version for item in asked for version in _matching(item, known, ref.name)] if asked else known[-1:]
            for version in found if self._contracts else ():
                self._client.datasets.require(ref.name, version.version, contract=ref.contract)
            self._resolved[ref] = tuple(
                DatasetUse(name=ref.name, version=v.version, digest=v.digest, label=v.labels[0] if v.labels else None)
                for v in found
            )
        return self._resolved[ref]

    def uses(self) -> list[DatasetUse]:
        """Every version that was resolved."""
        found = {(use.name, use.version): use for uses in self._resolved.values() for use in uses}
        return [use for _, use in sorted(found.items())]

    def inputs(self) -> tuple[Any, ...]:
        """For the record of the run."""
        kind = load("everline.runs.capture").DataInput
        return tuple(kind(name=u.name, version=u.version, digest=u.digest, label=u.label) for u in self.uses())

    def run_inputs(self) -> list[Any]:
        """For the run's list of inputs."""
        kind = load("everline.runs.types").RunInput
        return [
            kind(name=use.name, digest=use.digest, version=use.version, context="training", source_type="everline")
            for use in self.uses()
        ]

    def _known(self, name: str) -> list[Any]:
        if name not in self._versions:
            self._versions[name] = list(self._client.datasets.versions(name))
        return self._versions[name]


def _matching(item: str | int, known: Sequence[Any], name: str) -> list[Any]:
    if isinstance(item, str) and ".." in item:
        first, _, last = item.partition("..")
        found = [v for v in known if v.labels and first <= v.labels[0] <= last]
    elif isinstance(item, str) and item.startswith("sha256:"):
        found = [v for v in known if v.digest == item][:1]
    else:
        found = [v for v in known if str(item) in v.labels] or [v for v in known if str(v.version) == str(item)]
        found = found[-1:]
    if not found:
        labels = ", ".join(v.labels[0] if v.labels else str(v.version) for v in known[-12:])
        raise InvalidInputError(
            f"Dataset {name!r} has no version {item!r}.", hint=f"The newest are {labels}; see `everline data list`.",
            field="version",
        )  # fmt: skip
    return found
