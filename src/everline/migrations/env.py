"""Alembic's entry: it is always given an open connection, inside a transaction."""

from __future__ import annotations

from alembic import context

from everline.migrations.history import whole_metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=whole_metadata(),
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
