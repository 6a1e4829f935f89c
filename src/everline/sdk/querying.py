"""`el.predictions`: an endpoint's log as a DuckDB relation, from wherever `el.connect()` leads."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from everline.sdk.client import connect

if TYPE_CHECKING:
    import duckdb


def predictions(
    endpoint: str,
    *,
    project: str = "default",
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 1_000_000,
    shadow: bool = False,
) -> duckdb.DuckDBPyRelation:
    """The newest predictions of an endpoint with their outcomes, to filter, group and join with DuckDB.

    Args:
        since, until: by when they were answered, from the first up to, without, the second.
        shadow: what shadows said instead.

    Raises:
        MissingExtraError: DuckDB is not installed; `pip install 'everline[duckdb]'`.
    """
    with connect(project=project) as client:
        found: duckdb.DuckDBPyRelation = client.predictions.relation(
            endpoint, since=since, until=until, limit=limit, shadow=shadow
        )
        return found
