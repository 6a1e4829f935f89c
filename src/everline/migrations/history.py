"""Running Alembic inside a transaction of ours; loaded only when there is something to migrate."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData

from everline.access import tables as _access
from everline.datasets import tables as _datasets
from everline.delivery import tables as _delivery
from everline.governance import tables as _governance
from everline.jobs import tables as _jobs
from everline.models import tables as _models
from everline.monitoring import tables as _monitoring
from everline.pipelines import tables as _pipelines
from everline.pipelines.schedules import tables as _schedules
from everline.releases import tables as _releases
from everline.reproduction import tables as _reproduction
from everline.runs import tables as _runs
from everline.serving import tables as _serving
from everline.storage import tables as _storage
from everline.storage.schema import metadata
from everline.webhooks import tables as _webhooks

SLICES = (
    _storage, _access, _jobs, _governance, _datasets, _runs, _models, _pipelines, _schedules, _reproduction, _serving,
    _monitoring, _releases, _webhooks, _delivery,
)  # fmt: skip
"""Every module of tables, so that the metadata is whole when it is compared with the history."""


def configuration(connection: Connection) -> Config:
    """Alembic's settings for one open connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def migrate(connection: Connection) -> None:
    """Run what is missing, inside the caller's transaction."""
    command.upgrade(configuration(connection), "head")


def whole_metadata() -> MetaData:
    """The metadata with every slice's tables."""
    return metadata
