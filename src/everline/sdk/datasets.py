"""Datasets through the client."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from everline.datasets.formats import table_format
from everline.datasets.manifest import files_digest
from everline.datasets.types import (
    AddVersion,
    ChangeTags,
    Contract,
    ContractCheck,
    Dataset,
    DatasetDifference,
    DatasetStatus,
    DatasetVersion,
    DatasetVersionDetail,
    KeptContract,
    Verification,
)
from everline.errors import ContractBrokenError, InvalidInputError
from everline.ids import check_name
from everline.loader import late
from everline.models.types import DatasetLineage
from everline.sdk.checkout import place_files
from everline.sdk.client import Client
from everline.sdk.folders import Looked, Sender, Watch, compare, seen_folder, version_key
from everline.sdk.seen import Folder, SeenVersion
from everline.storage.types import Collection

if TYPE_CHECKING:
    import pyarrow as pa

    from everline.datasets import arrow, reading, writing
    from everline.datasets import digest as digests
else:  # they stand on Arrow, which a look at files never needs
    arrow, digests = late("everline.datasets.arrow"), late("everline.datasets.digest")
    reading, writing = late("everline.datasets.reading"), late("everline.datasets.writing")

VERSIONS_MAX = 100_000
Version = str | int | None
Declared = int | bool | None
_BREACHES_TOLD = 10
Versions = list[DatasetVersion]
Paths = list[Path]


class DatasetsApi:
    """Datasets and their immutable versions.

    A version is meant by its number, a label, its digest, or None for the newest.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def add(
        self,
        name: str,
        data: Any,
        *,
        label: str | None = None,
        run: str | None = None,
        step: str | None = None,
        watch: Watch = lambda path, done, total: None,
    ) -> DatasetVersion:
        """Snapshot files, folders or a table as a version; the same content again returns the version that has it.

        Args:
            data: a path, several paths, or a pandas, polars or pyarrow table.
            label: a name for the version, unique in the dataset, such as `2013-06`.
            run, step: the run that made the data, and in which step: the version then names where it comes from.
            watch: is told each file that was sent, with the bytes done and in total.

        Raises:
            InvalidInputError: nothing at a path, or a file is not the table that its name announces.
            ConflictError: the label names another version.
        """
        check_name(name, field="dataset")
        paths = [data] if isinstance(data, str | os.PathLike) else data
        if not isinstance(paths, list | tuple):
            return self.add_table(name, data, label=label, run=run, step=step)
        looked = Looked(self._client, paths)
        files = Sender(self._client, looked, watch=watch).send()
        body = AddVersion(files=files, label=label, run=run, step=step)
        version = self._client.call("POST", f"/datasets/{quote(name)}/versions", body=body, returns=DatasetVersion)
        looked.remember_version(name, version=version.version, files_digest=files_digest(body.files))
        looked.save()
        return version

    def status(self, name: str, paths: Any, version: Version = None) -> DatasetStatus:
        """How files of this machine stand to a version; a file that did not change since it was hashed is not read.

        Args:
            paths: a path or several, as they were added, or the folder that a version was checked out into.
            version: None means the version that these paths were last added or checked out as from here, which
                asks no server if nothing changed; if there is none such, the newest.
        """
        check_name(name, field="dataset")
        looked = Looked(self._client, [paths] if isinstance(paths, str | os.PathLike) else paths)
        files = looked.files()
        looked.save()
        seen = looked.version(name) if version is None else None
        if seen is not None and seen.files_digest == files_digest(files):
            return DatasetStatus(dataset=name, version=seen.version, files=len(files), unchanged=len(files))
        detail = self._detail(name, version if seen is None else seen.version)
        added, removed, changed = compare(detail.files, files)
        return DatasetStatus(
            dataset=name,
            version=detail.version.version,
            files=len(files),
            unchanged=len(files) - len(added) - len(changed),
            added=added,
            removed=removed,
            changed=changed,
        )

    def add_table(
        self, name: str, table: Any, *, label: str | None = None, run: str | None = None, step: str | None = None
    ) -> DatasetVersion:
        """Snapshot a pandas, polars or pyarrow table, kept as Parquet; its digest is `el.digest(table)`."""
        check_name(name, field="dataset")
        with tempfile.TemporaryDirectory(prefix="everline-") as folder:
            path = Path(folder) / f"{name}.parquet"
            writing.write_table(arrow.canonical_table(digests.to_arrow(table)), path)
            return self.add(name, path, label=label, run=run, step=step)

    def list(self, *, limit: int = 1000, tagged: Sequence[str] = ()) -> list[Dataset]:
        """Datasets by name, each with its newest version; those that have all of some tags: `key=value`, or `key`."""
        return self._client.list_all("/datasets", kind=Dataset, query={"tag": [*tagged]}, limit=limit)

    def get(self, name: str) -> Dataset:
        """One dataset with its newest version and its tags."""
        return self._client.call("GET", f"/datasets/{_segment(name)}", returns=Dataset)

    def versions(self, name: str, *, limit: int = 1000, tagged: Sequence[str] = ()) -> Versions:
        """The versions of a dataset, newest first; those that have all of some tags."""
        path = f"/datasets/{_segment(name)}/versions"
        limit = min(limit, VERSIONS_MAX)
        return self._client.list_all(path, kind=DatasetVersion, query={"tag": [*tagged]}, limit=limit)

    def tag(self, name: str, tags: Mapping[str, str | None]) -> Dataset:
        """Set tags of a dataset; None removes one. Unlike labels they may change, and say nothing about content."""
        body = ChangeTags(tags=dict(tags))
        return self._client.call("PATCH", f"/datasets/{_segment(name)}/tags", body=body, returns=Dataset)

    def tag_version(self, name: str, version: Version, tags: Mapping[str, str | None]) -> DatasetVersion:
        """Set tags of a version; None removes one."""
        body = ChangeTags(tags=dict(tags))
        return self._client.call("PATCH", _path(name, version) + "/tags", body=body, returns=DatasetVersion)

    def lineage(self, name: str, version: Version = None) -> DatasetLineage:
        """The run that made a version, the runs that read it, and the model versions that these made."""
        return self._client.call("GET", _path(name, version) + "/lineage", returns=DatasetLineage)

    def version(self, name: str, version: Version = None) -> DatasetVersion:
        """One version without its files and profile."""
        return self._detail(name, version).version

    def show(self, name: str, version: Version = None) -> DatasetVersionDetail:
        """One version with its files, schema and profile, which is worked out if a large table was added without."""
        detail = self._detail(name, version)
        if detail.table is None or detail.table.profiled:
            return detail
        path = _path(name, detail.version.version) + "/profile"
        return self._client.call("PUT", path, returns=DatasetVersionDetail)

    def verify(self, name: str, version: Version = None) -> Verification:
        """Have every stored byte of a version read again and compared with its digest."""
        return self._client.call("GET", _path(name, version) + "/verification", returns=Verification)

    def diff(
        self, name: str, before: Version, after: Version = None, *, key: Sequence[str] = (), rows: int = 5
    ) -> DatasetDifference:
        """What changed between two versions; with `key` also which rows, with up to `rows` examples of each kind."""
        query = {"before": _text(before), "after": _text(after), "key": ",".join(key) or None, "rows": rows}
        path = f"/datasets/{_segment(name)}/difference"
        return self._client.call("GET", path, query=query, returns=DatasetDifference)

    def table(self, name: str, version: Version = None, *, contract: Declared = None) -> pa.Table:
        """The rows of a version, in the canonical types that its digest speaks of, one chunk a column.

        Args:
            contract: the contract that the reader relies on: its number, or True for the newest.

        Raises:
            InvalidInputError: the version is not a table.
            IntegrityError: stored bytes were altered.
            ContractBrokenError: the version does not keep the contract; nothing was read.
        """
        detail = self._detail(name, version)
        # By its number: the newest may be another one by now.
        self.require(name, detail.version.version, contract=contract)
        return self.read(detail)

    def set_contract(self, name: str, contract: Contract | Mapping[str, Any]) -> KeptContract:
        """Keep a contract as the newest of a dataset; see `everline.datasets.types.Contract` for what it may say.

        Raises:
            InvalidInputError: it cannot be meant.
        """
        _refuse_unfinite(contract if isinstance(contract, Mapping) else msgspec.to_builtins(contract))
        return self._client.call("PUT", f"/datasets/{_segment(name)}/contract", body=contract, returns=KeptContract)

    def contract(self, name: str, number: int | None = None) -> KeptContract:
        """A contract of a dataset, the newest if no number is given."""
        path = f"/datasets/{_segment(name)}/contract"
        return self._client.call("GET", path, query={"number": number}, returns=KeptContract)

    def check(self, name: str, version: Version = None, *, number: int | None = None) -> ContractCheck:
        """Hold a version against a contract of its dataset, the newest if no number is given."""
        path = _path(name, version) + "/contract"
        return self._client.call("GET", path, query={"number": number}, returns=ContractCheck)

    def require(self, name: str, version: Version = None, *, contract: Declared) -> None:
        """Refuse a version that does not keep the contract that its reader declares; none refuses nothing.

        Raises:
            ContractBrokenError: with each rule that is broken, and what was seen.
        """
        if contract is None or contract is False:
            return
        checked = self.check(name, version, number=None if contract is True else contract)
        if not checked.holds:
            told = "; ".join(str(breach) for breach in checked.breaches[:_BREACHES_TOLD])
            further = len(checked.breaches) - _BREACHES_TOLD
            raise ContractBrokenError(
                f"{name}@{checked.version} breaks contract {checked.contract}: {told}"
                f"{f'; and {further} more' if further > 0 else ''}.",
                hint=f"Read a version that keeps it, or ask its owner, {checked.owner}.",
                field="contract",
            )

    def read(self, detail: DatasetVersionDetail) -> pa.Table:
        """The rows of a version that was fetched before; see `table`."""
        kind = table_format([file.path for file in detail.files])
        if kind is None:
            raise InvalidInputError(
                f"Version {detail.version.version} of {detail.version.dataset} is not a table.",
                hint="Use `checkout` to get its files.",
            )
        return arrow.canonical_table(
            reading.read_table([self._client.blobs.path(file.digest) for file in detail.files], kind)
        )

    def checkout(
        self,
        name: str,
        target: str | os.PathLike[str],
        version: Version = None,
        *,
        contract: Declared = None,
        force: bool = False,
    ) -> Paths:
        """Write the files of a version below `target`; hard links to the verified cache where possible.

        Args:
            contract: as in `table`.
            force: replace files that are there with other content.

        Raises:
            ContractBrokenError: the version does not keep the contract; nothing was written.
            ConflictError: a file with other content is in the way; nothing was written.
            IntegrityError: stored bytes were altered.
        """
        detail = self._detail(name, version)
        self.require(name, detail.version.version, contract=contract)
        root = Path(target)
        folder = Folder(seen_folder(self._client), str(root))
        place_files(self._client, detail.files, root, folder=folder, force=force)
        seen = SeenVersion(detail.version.version, detail.version.files_digest)
        folder.remember_version(version_key(self._client, name, [root]), seen)
        folder.save()
        return [root / file.path for file in detail.files]

    def collect_garbage(self, *, dry_run: bool = False) -> Collection:
        """Find bytes of the store that nothing refers to, and remove those that were found longer ago than the grace.

        Args:
            dry_run: only look.

        Raises:
            ForbiddenError: the actor is no admin of the whole server.
        """
        return self._client.call("POST", "/blobs/collection", query={"dry_run": dry_run}, returns=Collection)

    def _detail(self, name: str, version: Version) -> DatasetVersionDetail:
        """One version with its files, and with its profile only if that is there."""
        return self._client.call("GET", _path(name, version), returns=DatasetVersionDetail)


def _refuse_unfinite(value: Any) -> None:
    """JSON has no infinity and no NaN: sent, such a limit would silently be none."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInputError(f"{value} is no limit that a contract can have.", hint="Leave the limit out.")
    if isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            _refuse_unfinite(part)


def _text(version: Version) -> str:
    return "latest" if version is None else str(version)


def _segment(text: str) -> str:
    return quote(check_name(text, field="dataset"), safe="")


def _path(name: str, version: Version) -> str:
    text = _text(version)
    if "/" in text or text in ("", ".", ".."):
        raise InvalidInputError(f"{text[:80]!r} is no version.", hint="Give a number or a label.", field="version")
    return f"/datasets/{_segment(name)}/versions/{quote(text, safe=':')}"
