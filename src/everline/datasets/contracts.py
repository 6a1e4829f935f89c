"""The law of contracts: numbered, kept, never changed; checked against any version at any time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import RowMapping, insert, select

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.datasets import contract as law
from everline.datasets import service, tables
from everline.datasets.formats import table_format
from everline.datasets.types import Breach, Contract, ContractCheck, DatasetVersionDetail, KeptContract
from everline.errors import NotFoundError
from everline.loader import late

if TYPE_CHECKING:
    import pyarrow as pa

    from everline.datasets import inspection, reading
else:  # they stand on Arrow, which most requests never need
    inspection, reading = late("everline.datasets.inspection"), late("everline.datasets.reading")
    pa = late("pyarrow")


class _Known:
    """What versions break of contracts: neither changes, and a key may need all rows of a table."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[Breach]] = {}

    def get(self, pair: tuple[str, str], find: Callable[[], list[Breach]]) -> list[Breach]:
        """What was found before, or is found now."""
        found = self._found.get(pair)
        if found is None:
            found = find()
            while len(self._found) >= _PAIRS_MAX:
                self._found.pop(next(iter(self._found)), None)
            self._found[pair] = found
        return found


_PAIRS_MAX = 10_000
_known = _Known()


@act
def set_contract(uow: UnitOfWork, project: str, name: str, contract: Contract) -> KeptContract:
    """Keep a contract as the newest of a dataset; the newest again is no change.

    Raises:
        NotFoundError: there is no such dataset.
        InvalidInputError: the contract cannot be meant.
    """
    uow.require(Permission.DATA_WRITE, project)
    law.check_contract(contract)
    series = service.find_dataset(uow, project, name)
    # Whoever sets another contract at the same time waits here, so that each gets a number of its own.
    uow.conn.execute(select(tables.dataset.c.uid).where(tables.dataset.c.uid == series["uid"]).with_for_update())
    newest = _row(uow, series, None)
    digest = law.digest_of(contract)
    if newest is not None and newest["digest"] == digest:
        uow.unchanged()
        return _kept(name, newest)
    row = {
        "dataset": series["uid"],
        "number": 1 if newest is None else newest["number"] + 1,
        "digest": digest,
        "body": msgspec.to_builtins(contract),
        "created_at": uow.clock.now(),
        "created_by": uow.actor.name,
    }
    uow.conn.execute(insert(tables.contract).values(**row))
    uow.record(
        "dataset.contract", subject=f"dataset:{series['uid']}", project=project, dataset=name,
        number=row["number"], digest=digest, owner=contract.owner,
    )  # fmt: skip
    return msgspec.structs.replace(_kept(name, row), created=True)


@read
def get_contract(uow: UnitOfWork, project: str, name: str, *, number: int | None = None) -> KeptContract:
    """A contract of a dataset, the newest if no number is given.

    Raises:
        NotFoundError: there is no such dataset or contract.
    """
    uow.require(Permission.DATA_READ, project)
    return _find(uow, service.find_dataset(uow, project, name), number)


@read
def check_version(
    uow: UnitOfWork, project: str, name: str, version: str | None = None, *, number: int | None = None
) -> ContractCheck:
    """Hold a version against a contract, the newest if no number is given.

    Raises:
        NotFoundError: there is no such dataset, version or contract.
    """
    uow.require(Permission.DATA_READ, project)
    series = service.find_dataset(uow, project, name)
    kept = _find(uow, series, number)
    detail = service.detail_of(uow, series, service.find_version(uow, series, version))

    def columns(names: Sequence[str]) -> pa.Table:
        return _columns(uow, detail, names)

    def breaches() -> Any:
        return law.breaches(kept.contract, service.profiled(uow, detail), read=columns)

    found = law.stale(kept.contract, detail.version.created_at, now=uow.clock.now())
    found += _known.get(
        (detail.version.uid, kept.digest),
        lambda: law.breaches(kept.contract, service.profiled(uow, detail), read=columns),
    )
    return ContractCheck(
        dataset=name,
        version=detail.version.version,
        contract=kept.number,
        owner=kept.contract.owner,
        holds=not found,
        breaches=tuple(found),
    )


def _columns(uow: UnitOfWork, detail: DatasetVersionDetail, names: Sequence[str]) -> pa.Table:
    kind = table_format([file.path for file in detail.files]) or ""
    with inspection.local_files(uow.blobs, detail.files) as paths:
        columns = reading.open_columns(paths, kind)
        return pa.table({name: columns.column(columns.names.index(name)) for name in names})


def _find(uow: UnitOfWork, series: Mapping[str, Any] | RowMapping, number: int | None) -> KeptContract:
    row = _row(uow, series, number)
    if row is None:
        which = "no contract" if number is None else f"no contract {number}"
        raise NotFoundError(
            f"The dataset {series['name']} has {which}.",
            hint=f"`everline data contract {series['name']} --set FILE.toml` sets one.",
            field="contract",
        )
    return _kept(series["name"], row)


def _row(uow: UnitOfWork, series: Mapping[str, Any] | RowMapping, number: int | None) -> Mapping[str, Any] | None:
    table = tables.contract
    query = select(table).where(table.c.dataset == series["uid"]).order_by(table.c.number.desc()).limit(1)
    if number is not None:
        query = query.where(table.c.number == number)
    row = uow.conn.execute(query).mappings().first()
    return None if row is None else dict(row)


def _kept(name: str, row: Mapping[str, Any]) -> KeptContract:
    return KeptContract(
        dataset=name,
        number=row["number"],
        digest=row["digest"],
        contract=msgspec.convert(row["body"], Contract),
        created_at=row["created_at"],
        created_by=row["created_by"],
    )
