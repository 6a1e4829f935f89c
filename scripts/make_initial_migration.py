"""Write the single initial migration anew from the metadata; only until the first release exists."""

from __future__ import annotations

import tempfile
from pathlib import Path

from alembic import command

from everline.config import Settings
from everline.migrations import history
from everline.storage.db import Database

VERSIONS = Path(history.__file__).parent / "versions"


def main() -> None:
    for old in VERSIONS.glob("0001*.py"):
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Settings(home=Path(folder)))
        with database.begin() as connection:
            config = history.configuration(connection)
            command.revision(config, message="the first tables", autogenerate=True, rev_id="0001")
        database.close()
    written = next(VERSIONS.glob("0001*.py"))
    written.rename(VERSIONS / "0001_first_tables.py")
    print(f"wrote {VERSIONS.name}/0001_first_tables.py")


if __name__ == "__main__":
    main()
