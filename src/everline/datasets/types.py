"""Values of datasets: versions, files, schema, profile, differences. Light: no numpy, no pyarrow."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class DatasetFile(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One file of a version; `path` is relative, with forward slashes."""

    path: str
    digest: str
    bytes: int


class TopValue(msgspec.Struct, frozen=True, kw_only=True):
    """A frequent value of a column, as JSON, and how often it occurs."""

    value: Any
    count: int


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column: name, canonical type, digest of all its rows, and its profile.

    Attributes:
        minimum, maximum: as JSON: numbers, or text for dates and times; None without values or for nested types.
        mean, deviation: of finite numbers and booleans; the deviation is that of the sample (n - 1).
        quantiles: of finite numbers, at 0, 0.05, …, 1, linearly interpolated.
        top: the most frequent values, at most 10, of columns that are no floating-point numbers.
        distinct: number of different values where `top` is counted.
    """

    name: str
    type: Any
    digest: str
    rows: int
    nulls: int
    nans: int = 0
    minimum: Any = None
    maximum: Any = None
    mean: float | None = None
    deviation: float | None = None
    quantiles: tuple[float, ...] = ()
    top: tuple[TopValue, ...] = ()
    distinct: int | None = None


class TableSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a table says: `digest` is logical, over every column and row, independent of who wrote the file.

    Attributes:
        profiled: whether the columns have their profiles; those of a large table come later than its identity.
    """

    digest: str
    rows: int
    columns: tuple[Column, ...]
    profiled: bool = True


class DatasetVersion(msgspec.Struct, frozen=True, kw_only=True):
    """An immutable snapshot. `digest` names its content; `files_digest` names the stored files, byte by byte.

    For a version that is one Parquet or Arrow file, `digest` is the table's logical digest; for everything else it is
    `files_digest`. `created` is True in the answer to the call that added it, and only there.

    Attributes:
        run, step: the run that made the version, and in which step, if whoever added it said so.
        tags: what people say about it; they may change.
    """

    uid: str
    dataset: str
    version: int
    digest: str
    files_digest: str
    table_digest: str | None
    labels: tuple[str, ...]
    files: int
    bytes: int
    rows: int | None
    created_at: datetime
    created_by: str
    run: str | None = None
    step: str | None = None
    tags: dict[str, str] = {}
    created: bool = False

    @property
    def label(self) -> str | None:
        """The first label, if there is one."""
        return self.labels[0] if self.labels else None


class DatasetVersionDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A version with its files and, for tables, its schema and profile."""

    version: DatasetVersion
    files: tuple[DatasetFile, ...]
    table: TableSummary | None


class DatasetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How files on this machine stand to a version of a dataset; paths are those of the version."""

    dataset: str
    version: int
    files: int
    unchanged: int
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether the files are those of the version."""
        return not (self.added or self.removed or self.changed)


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """A named series of versions; `latest` is its newest version."""

    uid: str
    name: str
    versions: int
    latest: DatasetVersion | None
    created_at: datetime
    tags: dict[str, str] = {}


class AddVersion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that adds a version: files that were uploaded as blobs before.

    Attributes:
        run, step: the run that made the files, and in which step.
    """

    files: list[DatasetFile]
    label: str | None = None
    run: str | None = None
    step: str | None = None


class ChangeTags(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that sets tags, and removes those whose value is null."""

    tags: dict[str, str | None]


class BadFile(msgspec.Struct, frozen=True, kw_only=True):
    """A stored file that is not what its version says."""

    path: str
    digest: str
    reason: str


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The result of reading every stored byte of a version again."""

    dataset: str
    version: int
    digest: str
    verified: bool
    files: int
    bytes: int
    bad: tuple[BadFile, ...]


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A value, as JSON, and the share of rows that have it before and after: 0 to 1, of those that are not missing."""

    value: Any
    before: float
    after: float


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """The distributions of one column in two versions, side by side.

    Attributes:
        statistic: `ks`, the Kolmogorov-Smirnov statistic of numbers and times, or `tv`, the total variation distance.
        distance: 0 to 1.
        shares: for `ks` rows not above the value, by rising value; for `tv` rows of exactly the value, the most
            frequent first, at most 10.
        widest: for `ks` the value at which the gap between the two is `distance`.
        values: how many different values there are in both together.
    """

    statistic: str
    distance: float
    shares: tuple[Share, ...]
    values: int
    widest: Any = None


class ColumnDifference(msgspec.Struct, frozen=True, kw_only=True):
    """How one column differs between two versions.

    Attributes:
        change: `added`, `removed`, `retyped` or `changed`; unchanged columns are not listed.
        distance: 0 to 1; Kolmogorov-Smirnov statistic of numbers and times, total variation distance of others.
        statistic: `ks` or `tv`, naming `distance`.
        distribution: what `distance` was read off; None for nested columns, and where a side has no values.
    """

    name: str
    change: str
    type_before: Any = None
    type_after: Any = None
    missing_before: float | None = None
    missing_after: float | None = None
    mean_before: float | None = None
    mean_after: float | None = None
    distance: float | None = None
    statistic: str | None = None
    distribution: Distribution | None = None
    rows_changed: int | None = None


class CellChange(msgspec.Struct, frozen=True, kw_only=True):
    """A cell of a row that differs, as JSON; of a row that is on one side only the other value is None."""

    column: str
    before: Any
    after: Any


class RowExample(msgspec.Struct, frozen=True, kw_only=True):
    """A row that differs.

    Attributes:
        change: `added`, `removed` or `changed`.
        key: the values of the key columns.
        cells: of a changed row its changed cells; of another its cells in columns of both versions, at most 50.
    """

    change: str
    key: tuple[Any, ...]
    cells: tuple[CellChange, ...]


class RowDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Rows by key: only in the newer, only in the older, in both with another value.

    Attributes:
        examples: the first rows of each kind, added ones first.
    """

    key: tuple[str, ...]
    added: int
    removed: int
    changed: int
    unchanged: int
    examples: tuple[RowExample, ...] = ()


class DatasetDifference(msgspec.Struct, frozen=True, kw_only=True):
    """What changed from one version to another."""

    before: str
    after: str
    identical: bool
    rows_before: int | None
    rows_after: int | None
    files_added: tuple[str, ...]
    files_removed: tuple[str, ...]
    files_changed: tuple[str, ...]
    columns: tuple[ColumnDifference, ...]
    rows: RowDifference | None = None


class ColumnRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a contract promises of one column.

    Attributes:
        type: as `everline data show` prints it, such as `int64`.
        nullable: whether values may be missing.
        min, max: numbers, or dates and times as text, both ends allowed.
        values: the only values that there may be, besides missing ones.
    """

    type: str | None = None
    nullable: bool = True
    min: Any = None
    max: Any = None
    values: list[Any] | None = None


class Contract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a dataset promises to those who read it.

    Attributes:
        owner: who answers for it.
        key: columns that identify a row: never missing, and never twice the same.
        fresh_within: how old a version may be when it is read, such as `40d`.
        closed: whether there may be no columns but these.
    """

    owner: str
    description: str = ""
    columns: dict[str, ColumnRule] = {}
    key: list[str] = []
    fresh_within: str | None = None
    closed: bool = False


class KeptContract(msgspec.Struct, frozen=True, kw_only=True):
    """A contract as it is kept: numbered 1, 2, 3, … in its dataset, never changed."""

    dataset: str
    number: int
    digest: str
    contract: Contract
    created_at: datetime
    created_by: str
    created: bool = False


class Breach(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that a version does not keep.

    Attributes:
        column: None for a rule of the table or the version as a whole.
        rule: `column`, `type`, `nullable`, `min`, `max`, `values`, `closed`, `key`, `fresh_within` or `table`.
    """

    column: str | None = None
    rule: str
    asked: Any
    seen: Any

    def __str__(self) -> str:
        where = f"{self.column}: " if self.column else ""
        return f"{where}{self.rule} {self.asked} asked, {self.seen} seen"


class ContractCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a version keeps a contract."""

    dataset: str
    version: int
    contract: int
    owner: str
    holds: bool
    breaches: tuple[Breach, ...] = ()
