"""Which files are tables, by their names. Light: no pyarrow.

suffix                            read as    identity of a single file
.parquet .pq                      Parquet    the table's logical digest
.arrow .ipc .feather              Arrow IPC  the table's logical digest
.csv .csv.gz .tsv .tsv.gz         CSV        its bytes: types are guessed, so only bytes are certain
anything else                     no table   its bytes
"""

from __future__ import annotations

from collections.abc import Sequence

_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "tsv",
    ".tsv.gz": "tsv",
}
SELF_DESCRIBING = frozenset({"parquet", "arrow"})
TABLE_FILES_MAX = 1_000


def format_of(path: str) -> str | None:
    """The table format that a file name announces, or None.

    Example:
        >>> format_of("2013/flights.csv.gz"), format_of("notes.txt")
        ('csv', None)
    """
    name = path.lower()
    return next((kind for suffix, kind in _FORMATS.items() if name.endswith(suffix)), None)


def table_format(names: Sequence[str]) -> str | None:
    """The format in which files are one table: all of one table format, at most 1,000; else None."""
    kinds = {format_of(name) for name in names} if len(names) <= TABLE_FILES_MAX else set()
    return kinds.pop() if len(kinds) == 1 else None


def is_table_file(names: Sequence[str]) -> bool:
    """Whether files are one Parquet or Arrow file, whose identity is what the table says."""
    return len(names) == 1 and format_of(names[0]) in SELF_DESCRIBING
