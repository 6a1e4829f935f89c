"""Whether files of a package are pickles: loading one runs whatever its author put in there."""

from __future__ import annotations

import zipfile
from pathlib import Path

_PROTOCOLS = frozenset(bytes([0x80, protocol]) for protocol in range(2, 6))
_SUFFIXES = frozenset({".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".pt", ".pth"})


def pickled_files(directory: Path) -> list[str]:
    """The files below a directory that are pickles, or hold one, by content and by name; sorted."""
    return sorted(
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file() and _is_pickle(path)
    )


def _is_pickle(path: Path) -> bool:
    if path.suffix.lower() in _SUFFIXES:
        return True
    with path.open("rb") as file:
        if file.read(2) in _PROTOCOLS:
            return True
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(Path(name).suffix in _SUFFIXES for name in archive.namelist())
