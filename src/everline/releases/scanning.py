"""Looks into the files of a package when it is to be released, and leaves what it finds as `scan` evidence.

What it finds: pickles, also in archives (loading one runs whatever its author put in there); programs and native
libraries; arrays of Python objects, which are pickles too. It reads beginnings and tables of contents, runs nothing.
A clean scan says that none of these are there, not that a model is good.

Rules that hold here:
1. A version is scanned once: its files never change.
2. What a stranger's scanner found, attached as newer `scan` evidence, counts before ours.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from everline.access.unit_of_work import UnitOfWork
from everline.governance import evidence
from everline.models.isolated.pickles import pickled_files
from everline.models.package import parse_manifest

SCANNER = "everline 1"
FINDINGS_MAX = 100
_PROGRAMS = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xfe\xed\xfa\xcf", b"\xca\xfe\xba\xbe", b"#!")
_NUMPY, _HEADER_BYTES = b"\x93NUMPY", 256


def ensure_scanned(uow: UnitOfWork, row: Row[Any]) -> None:
    """Leave `scan` evidence about a release's version, unless there is some."""
    subject = f"model-version:{row.model_version}"
    if evidence.list_evidence(uow, subject=subject, project=row.project, kind="scan", limit=1):
        return
    manifest = parse_manifest(uow.blobs.get_bytes(row.package))
    with tempfile.TemporaryDirectory(prefix="everline-scan-") as name:
        folder = Path(name)
        for entry in manifest.files:
            target = folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            kept = uow.blobs.file(entry.digest)
            if kept is None:
                uow.blobs.fetch(entry.digest, target)
            else:
                target.symlink_to(kept.absolute())
        findings = find(folder, [entry.path for entry in manifest.files])
    body = {
        "clean": not findings,
        "scanner": SCANNER,
        "findings": findings[:FINDINGS_MAX],
        "formats": sorted({Path(entry.path).suffix or entry.path for entry in manifest.files}),
    }
    evidence.attach(uow, subject=subject, kind="scan", body=body, project=row.project)


def find(folder: Path, paths: Sequence[str]) -> list[str]:
    """What in these files of a folder runs, or is run by being loaded; one sentence each."""
    found = [f"{path}: holds a pickle" for path in pickled_files(folder)]
    for path in paths:
        with (folder / path).open("rb") as file:
            head = file.read(_HEADER_BYTES)
        if head.startswith(_PROGRAMS):
            found.append(f"{path}: is a program or native library")
        if head.startswith(_NUMPY) and b"'|O'" in head:
            found.append(f"{path}: holds Python objects")
    return sorted(found)
