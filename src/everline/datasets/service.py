"""The law of datasets: versions are immutable, numbered from 1, and named once by their content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import ColumnElement, RowMapping, func, select, update

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.datasets import tables, tag_rows
from everline.datasets.manifest import check_files
from everline.datasets.types import (
    BadFile,
    ColumnDifference,
    Dataset,
    DatasetDifference,
    DatasetFile,
    DatasetVersion,
    DatasetVersionDetail,
    RowDifference,
    TableSummary,
    Verification,
)
from everline.errors import ConflictError, IntegrityError, InvalidInputError, NotFoundError
from everline.ids import check_name, new_uid
from everline.jobs import queue
from everline.loader import late
from everline.storage.db import upsert

if TYPE_CHECKING:
    from everline.datasets import comparing, diff, inspection
else:  # they stand on Arrow, which most requests never need
    comparing, diff = late("everline.datasets.comparing"), late("everline.datasets.diff")
    inspection = late("everline.datasets.inspection")

KEY_COLUMNS_MAX = 16
_Row = Mapping[str, Any] | RowMapping
_DATASET_OF_TAG, _VERSION_OF_TAG = tables.dataset_tag.c.dataset, tables.version_tag.c.version


class _Manifest(msgspec.Struct):
    files: tuple[DatasetFile, ...]


@read
def check_addition(
    uow: UnitOfWork, project: str, name: str, *, files: Sequence[DatasetFile], label: str | None = None
) -> None:
    """Refuse an addition before its files are read: bad names or paths, blobs that were not uploaded.

    Raises:
        InvalidInputError: a name, label or path cannot be used, or a size is not the blob's.
        NotFoundError: a file's blob is not there.
    """
    uow.require(Permission.DATA_WRITE, project)
    check_name(name, field="dataset")
    if label is not None:
        check_label(label)
    check_files(files)
    sizes = uow.blobs.sizes([file.digest for file in files])
    for file in files:
        size = sizes.get(file.digest)
        if size is None:
            raise NotFoundError(
                f"The content of {file.path!r} ({file.digest}) was not uploaded.",
                hint="Put each file under /api/v1/blobs/ first, then add the version.",
                field="files.digest",
            )
        if size != file.bytes:
            raise InvalidInputError(f"{file.path!r} has {size} bytes, not {file.bytes}.", field="files.bytes")


@act
def add_version(
    uow: UnitOfWork,
    project: str,
    name: str,
    *,
    found: inspection.Inspection,
    label: str | None = None,
    run: str | None = None,
    step: str | None = None,
) -> DatasetVersion:
    """Add a version, or return the one that has this content already; a new label then joins it.

    Args:
        found: what the server found out about the uploaded files.
        label: a name for the version, unique in the dataset; not a number and not `latest`.
        run, step: who made the files; the caller knows that there is such a run. A version that is there keeps its own.

    Raises:
        ConflictError: the label names another version.
    """
    uow.require(Permission.DATA_WRITE, project)
    check_name(name, field="dataset")
    series = _ensure_dataset(uow, project, name)
    number = uow.conn.execute(
        select(func.max(tables.version.c.number)).where(tables.version.c.dataset == series["uid"])
    ).scalar()
    existing = _version_where(uow, series, tables.version.c.digest == found.digest)
    if existing is None:
        existing = _insert_version(uow, series, found, number=(number or 0) + 1, made_by=(run, step))
        created = True
    else:
        created = False
        uow.unchanged()
    if label is not None:
        _put_label(uow, series, existing, check_label(label))
    version = _values(uow, series, [existing])[0]
    if created:
        uow.record(
            "dataset.add",
            subject=f"dataset-version:{version.uid}",
            project=project,
            dataset=name,
            version=version.version,
            digest=version.digest,
            files_digest=version.files_digest,
            label=label,
            run=run,
            step=step,
        )
        if found.table is not None and not found.table.profiled:
            payload = {"dataset": name, "version": version.version}
            queue.enqueue(uow, "dataset.profile", payload, project=project, key=f"dataset.profile:{version.uid}")
    return msgspec.structs.replace(version, created=created)


@act
def create_dataset(uow: UnitOfWork, project: str, name: str) -> Dataset:
    """Create a dataset without a version, so that it is described before its data come; again is no change."""
    uow.require(Permission.DATA_WRITE, project)
    check_name(name, field="dataset")
    row = {"uid": new_uid(), "project": project, "name": name, "created_at": uow.clock.now()}
    if upsert(uow.conn, tables.dataset, [row], keys=["project", "name"]) > 0:
        uow.record("dataset.create", subject=f"dataset:{row['uid']}", project=project, dataset=name)
    else:
        uow.unchanged()
    return get_dataset(uow, project, name)


@read
def unprofiled_files(
    uow: UnitOfWork, project: str, name: str, version: str | None = None
) -> tuple[DatasetFile, ...] | None:
    """The files of a version whose profile was left for later and did not come yet; else None."""
    uow.require(Permission.DATA_READ, project)
    series = find_dataset(uow, project, name)
    detail = detail_of(uow, series, find_version(uow, series, version))
    return None if detail.table is None or detail.table.profiled else detail.files


@act
def keep_profile(uow: UnitOfWork, project: str, name: str, version: str | None, *, table: TableSummary) -> None:
    """Keep the profile of a version that was added without.

    Raises:
        IntegrityError: it is the profile of another table.
    """
    uow.require(Permission.DATA_WRITE, project)
    series = find_dataset(uow, project, name)
    row = find_version(uow, series, version)
    if table.digest != row["table_digest"]:
        raise IntegrityError(f"The profile of {name}@{row['number']} is that of another table.")
    digest = uow.blobs.put_bytes(msgspec.json.encode(table))
    if digest == row["profile_digest"]:
        uow.unchanged()
        return
    uow.conn.execute(update(tables.version).where(tables.version.c.uid == row["uid"]).values(profile_digest=digest))
    uow.record(
        "dataset.profile",
        subject=f"dataset-version:{row['uid']}",
        project=project,
        dataset=name,
        version=row["number"],
        profile_digest=digest,
    )


@read
def list_datasets(
    uow: UnitOfWork, project: str, *, limit: int, cursor: str | None = None, tagged: Sequence[str] = ()
) -> list[Dataset]:
    """Datasets by name, those after `cursor`, each with its newest version.

    Args:
        tagged: only those that have all of these tags: `key=value`, or `key` with any value.
    """
    uow.require(Permission.DATA_READ, project)
    query = select(tables.dataset).where(tables.dataset.c.project == project)
    query = query.where(*tag_rows.tagged(tables.dataset_tag, _DATASET_OF_TAG, tables.dataset.c.uid, tagged))
    if cursor is not None:
        query = query.where(tables.dataset.c.name > cursor)
    rows = uow.conn.execute(query.order_by(tables.dataset.c.name).limit(limit)).mappings().all()
    return [_dataset(uow, row) for row in rows]


@read
def get_dataset(uow: UnitOfWork, project: str, name: str) -> Dataset:
    """One dataset with its newest version."""
    uow.require(Permission.DATA_READ, project)
    return _dataset(uow, find_dataset(uow, project, name))


@read
def list_versions(
    uow: UnitOfWork, project: str, name: str, *, limit: int, before: int | None = None, tagged: Sequence[str] = ()
) -> list[DatasetVersion]:
    """Versions of a dataset, newest first, those with a number below `before` and, as in `list_datasets`, with tags."""
    uow.require(Permission.DATA_READ, project)
    series = find_dataset(uow, project, name)
    query = select(tables.version).where(tables.version.c.dataset == series["uid"])
    query = query.where(*tag_rows.tagged(tables.version_tag, _VERSION_OF_TAG, tables.version.c.uid, tagged))
    if before is not None:
        query = query.where(tables.version.c.number < before)
    rows = uow.conn.execute(query.order_by(tables.version.c.number.desc()).limit(limit)).mappings().all()
    return _values(uow, series, rows)


@read
def get_version(uow: UnitOfWork, project: str, name: str, version: str | None = None) -> DatasetVersionDetail:
    """One version with its files, schema and profile.

    Args:
        version: a number, a label, a digest, or None or `latest` for the newest.

    Raises:
        NotFoundError: no such dataset or version.
        IntegrityError: the kept manifest or profile was altered.
    """
    uow.require(Permission.DATA_READ, project)
    series = find_dataset(uow, project, name)
    return detail_of(uow, series, find_version(uow, series, version))


@read
def version_number(uow: UnitOfWork, project: str, name: str, version: str | None = None) -> int:
    """The number behind what names a version, as in `get_version`, without reading its manifest.

    Raises:
        NotFoundError: no such dataset or version.
    """
    uow.require(Permission.DATA_READ, project)
    return int(find_version(uow, find_dataset(uow, project, name), version)["number"])


@read
def verify_version(uow: UnitOfWork, project: str, name: str, version: str | None = None) -> Verification:
    """Read every stored byte of a version again and compare it with the digests."""
    uow.require(Permission.DATA_READ, project)
    series = find_dataset(uow, project, name)
    row = find_version(uow, series, version)
    bad: list[BadFile] = []
    files: tuple[DatasetFile, ...] = ()
    try:
        files = _files(uow, row)
    except (IntegrityError, NotFoundError) as error:
        bad.append(BadFile(path="(the manifest)", digest=row["files_digest"], reason=error.message))
    reasons = dict(uow.blobs.damaged([file.digest for file in files]))
    bad += [
        BadFile(path=file.path, digest=file.digest, reason=reasons[file.digest])
        for file in files
        if file.digest in reasons
    ]
    return Verification(
        dataset=name,
        version=row["number"],
        digest=row["digest"],
        verified=not bad,
        files=len(files),
        bytes=sum(file.bytes for file in files),
        bad=tuple(bad),
    )


@read
def compare_versions(
    uow: UnitOfWork, project: str, name: str, *, before: str, after: str, key: Sequence[str] = (), examples: int = 5
) -> DatasetDifference:
    """What changed from one version to another: files, columns with distributions, and rows if a key is given.

    Args:
        key: columns that identify a row.
        examples: rows to show of those that were added, removed and changed, each 0 to 100.

    Raises:
        NotFoundError: no such dataset or version.
        InvalidInputError: the key does not fit, or was given for versions that are no tables.
    """
    uow.require(Permission.DATA_READ, project)
    if len(key) > KEY_COLUMNS_MAX:
        raise InvalidInputError(f"A key has at most {KEY_COLUMNS_MAX} columns.", field="key")
    series = find_dataset(uow, project, name)
    old = profiled(uow, detail_of(uow, series, find_version(uow, series, before)))
    new = profiled(uow, detail_of(uow, series, find_version(uow, series, after)))
    added, removed, changed = diff.compare_files(old.files, new.files)
    columns: tuple[ColumnDifference, ...] = ()
    rows: RowDifference | None = None
    if old.table is not None and new.table is not None:
        columns, rows = comparing.compare_tables(uow.blobs, old, new, key=key, examples=examples)
    elif key:
        raise InvalidInputError("Rows can be compared by key only between tables.", field="key")
    return DatasetDifference(
        before=f"{name}@{old.version.version}",
        after=f"{name}@{new.version.version}",
        identical=old.version.digest == new.version.digest,
        rows_before=old.version.rows,
        rows_after=new.version.rows,
        files_added=added,
        files_removed=removed,
        files_changed=changed,
        columns=columns,
        rows=rows,
    )


def check_label(label: str) -> str:
    """Return `label` if it can name a version: a name that is neither a number, a digest nor `latest`."""
    check_name(label, field="label")
    if label.isdigit() or label == "latest":
        raise InvalidInputError(
            f"The label {label!r} would be taken for a version number or the newest version.",
            hint="Use a label such as 2013-06 or v3-clean.",
            field="label",
        )
    return label


def _ensure_dataset(uow: UnitOfWork, project: str, name: str) -> _Row:
    row = {"uid": new_uid(), "project": project, "name": name, "created_at": uow.clock.now()}
    upsert(uow.conn, tables.dataset, [row], keys=["project", "name"])
    # The lock makes concurrent additions queue, so that numbers have no gaps and content is kept once.
    query = select(tables.dataset).where(tables.dataset.c.project == project, tables.dataset.c.name == name)
    return uow.conn.execute(query.with_for_update()).mappings().one()


def _insert_version(
    uow: UnitOfWork,
    series: _Row,
    found: inspection.Inspection,
    *,
    number: int,
    made_by: tuple[str | None, str | None],
) -> _Row:
    row = {
        "uid": new_uid(),
        "dataset": series["uid"],
        "number": number,
        "digest": found.digest,
        "files_digest": found.files_digest,
        "table_digest": None if found.table is None else found.table.digest,
        "profile_digest": found.profile_digest,
        "files": len(found.files),
        "bytes": sum(file.bytes for file in found.files),
        "rows": None if found.table is None else found.table.rows,
        "created_at": uow.clock.now(),
        "created_by": uow.actor.name,
        "run": made_by[0],
        "step": made_by[1],
    }
    uow.conn.execute(tables.version.insert().values(row))
    return row


def _put_label(uow: UnitOfWork, series: _Row, version: _Row, label: str) -> None:
    row = {"dataset": series["uid"], "label": label, "version": version["uid"]}
    inserted = upsert(uow.conn, tables.label, [row], keys=["dataset", "label"])
    holder = uow.conn.execute(
        select(tables.version.c.uid, tables.version.c.number)
        .join(tables.label, tables.label.c.version == tables.version.c.uid)
        .where(tables.label.c.dataset == series["uid"], tables.label.c.label == label)
    ).one()
    if holder.uid != version["uid"]:
        raise ConflictError(
            f"The label {label!r} names version {holder.number} of {series['name']}, whose content is another.",
            hint="Labels never move. Choose another label.",
            field="label",
        )
    if inserted:
        uow.record(
            "dataset.label",
            subject=f"dataset-version:{version['uid']}",
            project=series["project"],
            dataset=series["name"],
            version=version["number"],
            label=label,
        )


def find_dataset(uow: UnitOfWork, project: str, name: str) -> _Row:
    """The row of a dataset, or NotFoundError; asks for no permission."""
    check_name(name, field="dataset")
    query = select(tables.dataset).where(tables.dataset.c.project == project, tables.dataset.c.name == name)
    row = uow.conn.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(
            f"There is no dataset {name!r}.",
            hint="`everline data list` shows what there is; `everline data add` adds one.",
            field="dataset",
        )
    return row


def find_version(uow: UnitOfWork, series: _Row, version: str | None) -> _Row:
    """The row of a version by number, label, digest, or None for the newest; asks for no permission."""
    column = tables.version.c
    if version is None or version == "latest":
        row = _version_where(uow, series, column.number > 0)
    elif version.isascii() and version.isdigit() and len(version) < 10:
        row = _version_where(uow, series, column.number == int(version))
    elif version.startswith("sha256:"):
        row = _version_where(uow, series, column.digest == version)
    else:
        labelled = select(tables.label.c.version).where(
            tables.label.c.dataset == series["uid"], tables.label.c.label == version
        )
        row = _version_where(uow, series, column.uid.in_(labelled))
    if row is None:
        raise NotFoundError(
            f"The dataset {series['name']} has no version {version[:80] if version else 'yet'!r}.",
            hint=f"`everline data list {series['name']}` shows its versions.",
            field="version",
        )
    return row


def _version_where(uow: UnitOfWork, series: _Row, condition: ColumnElement[bool]) -> _Row | None:
    query = select(tables.version).where(tables.version.c.dataset == series["uid"], condition)
    return uow.conn.execute(query.order_by(tables.version.c.number.desc()).limit(1)).mappings().first()


def _dataset(uow: UnitOfWork, row: _Row) -> Dataset:
    newest = _version_where(uow, row, tables.version.c.number > 0)
    return Dataset(
        uid=row["uid"],
        name=row["name"],
        versions=0 if newest is None else newest["number"],
        latest=None if newest is None else _values(uow, row, [newest])[0],
        created_at=row["created_at"],
        tags=tag_rows.load(uow, tables.dataset_tag, _DATASET_OF_TAG, [row["uid"]])[row["uid"]],
    )


def version_of(uow: UnitOfWork, series: _Row, row: _Row) -> DatasetVersion:
    """A version as its row says; asks for no permission."""
    return _values(uow, series, [row])[0]


def _values(uow: UnitOfWork, series: _Row, rows: Sequence[_Row]) -> list[DatasetVersion]:
    labels: dict[str, list[str]] = {row["uid"]: [] for row in rows}
    query = select(tables.label).where(tables.label.c.version.in_(labels)).order_by(tables.label.c.label)
    for found in uow.conn.execute(query).mappings():
        labels[found["version"]].append(found["label"])
    tags = tag_rows.load(uow, tables.version_tag, _VERSION_OF_TAG, labels)
    same = (
        "uid", "digest", "files_digest", "table_digest", "files", "bytes", "rows", "created_at", "created_by", "run",
        "step",
    )  # fmt: skip
    return [
        DatasetVersion(
            dataset=series["name"],
            version=row["number"],
            labels=tuple(labels[row["uid"]]),
            tags=tags[row["uid"]],
            **{name: row[name] for name in same},
        )
        for row in rows
    ]


def detail_of(uow: UnitOfWork, series: _Row, row: _Row) -> DatasetVersionDetail:
    """A version with its files and profile; asks for no permission."""
    table = None
    if row["profile_digest"] is not None:
        table = msgspec.json.decode(uow.blobs.get_bytes(row["profile_digest"]), type=TableSummary)
    return DatasetVersionDetail(version=_values(uow, series, [row])[0], files=_files(uow, row), table=table)


def profiled(uow: UnitOfWork, detail: DatasetVersionDetail) -> DatasetVersionDetail:
    """A version with its profile, read here and now if it was left for later and did not come yet."""
    if detail.table is None or detail.table.profiled:
        return detail
    return msgspec.structs.replace(detail, table=inspection.profile_files(uow.blobs, detail.files))


def _files(uow: UnitOfWork, row: _Row) -> tuple[DatasetFile, ...]:
    return msgspec.json.decode(uow.blobs.get_bytes(row["files_digest"]), type=_Manifest).files
