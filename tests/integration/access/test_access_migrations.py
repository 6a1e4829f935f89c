"""The history of migrations leads to exactly the tables that the code is written against."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from everline.migrations import history


def test_a_migrated_database_has_the_tables_of_the_code(app):
    with app.database.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, history.whole_metadata()) == []
