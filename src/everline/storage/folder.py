"""Folders that everything else needs."""

from __future__ import annotations

from pathlib import Path

from everline.errors import InvalidInputError


def make_folder(folder: Path) -> None:
    """Make a folder that everything else needs, or say which one cannot be had and why."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(
            f"The folder {folder} cannot be used: {error.strerror or error}.",
            hint="Name another with --home or EVERLINE_HOME, or mend its permissions.",
            field="home",
        ) from error
