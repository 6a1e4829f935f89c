"""Artifacts that come in parts: begun, sent in any order and as often as it takes, then put together or dropped.

Parts lie beside the blobs, where nothing shows them; the artifact appears when all is there and verified. Whoever
begins an upload gets a secret that allows its parts to be sent and nothing else, since MLflow's clients send parts
without their credentials. What nobody finished is collected after `upload_keep_s`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, insert, select, update

from everline.access.declare import act, read, stream
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError, NotFoundError
from everline.ids import digest_bytes, new_uid
from everline.runs import artifacts
from everline.runs.limits import check_artifact_path
from everline.runs.tables import artifact_upload
from everline.runs.types import ArtifactUpload, to_ms

PARTS_MAX = 10_000
_UPLOADS_PER_COLLECTION = 1_000

Row = Mapping[Any, Any]


@stream
def begin_upload(uow: UnitOfWork, project: str, path: str, *, parts: int) -> ArtifactUpload:
    """Announce a file that comes in parts.

    Args:
        path: its full proxy path.
        parts: how many, 1 to 10,000.

    Raises:
        InvalidInputError: the path is unsafe or no file can be there, or the number of parts is out of its limits.
    """
    uow.require(Permission.RUN_WRITE, project)
    if not 1 <= parts <= PARTS_MAX:
        raise InvalidInputError(f"An upload has 1 to {PARTS_MAX} parts, not {parts}.", field="num_parts")
    path = check_artifact_path(path)
    artifacts.check_place(uow, project, path)
    uid, secret = new_uid(), secrets.token_urlsafe(32)
    row = {
        "uid": uid, "project": project, "path": path, "secret": digest_bytes(secret.encode()), "parts": parts,
        "at_ms": to_ms(uow.clock.now()),
    }  # fmt: skip
    uow.conn.execute(insert(artifact_upload).values(**row))
    return ArtifactUpload(upload=uid, secret=secret, parts=parts)


@read
def check_part(uow: UnitOfWork, uid: str, *, number: int, secret: str) -> None:
    """Let a part pass that was announced and comes with the upload's secret.

    Raises:
        NotFoundError: no such upload is under way, or the secret is not its own: neither is told apart.
        InvalidInputError: there is no part of this number.
    """
    uow.checks += 1  # the secret is the permission: who has it was allowed to begin the upload
    row = _row(uow, uid)
    fits = row is not None and secrets.compare_digest(row["secret"], digest_bytes(secret.encode()))
    if row is None or not fits or row["digest"] is not None:
        raise _no_such(uid)
    if not 1 <= number <= row["parts"]:
        raise InvalidInputError(f"The upload has parts 1 to {row['parts']}, not {number}.", field="part_number")


@read
def find_upload(uow: UnitOfWork, project: str, uid: str, *, path: str) -> str | None:
    """Ask whether an upload can be completed: the digest if it was completed already, else None.

    Raises:
        NotFoundError: there is no such upload of this path.
    """
    uow.require(Permission.RUN_WRITE, project)
    digest: str | None = _require(uow, project, uid, path)["digest"]
    return digest


@stream
def complete_upload(uow: UnitOfWork, project: str, uid: str, *, path: str, digest: str) -> None:
    """Name the blob that the parts were put together to; completing again changes nothing."""
    uow.require(Permission.RUN_WRITE, project)
    row = _require(uow, project, uid, path)
    artifacts.put_file(uow, project, row["path"], digest=digest)
    uow.conn.execute(update(artifact_upload).where(artifact_upload.c.uid == uid).values(digest=digest))


@act
def abort_upload(uow: UnitOfWork, project: str, uid: str, *, path: str) -> None:
    """Forget an upload and its parts; one that was completed stays what it is."""
    uow.require(Permission.RUN_WRITE, project)
    row = _require(uow, project, uid, path)
    uow.conn.execute(delete(artifact_upload).where(artifact_upload.c.uid == uid))
    uow.blobs.drop_parts(uid)
    uow.record("artifact.abort", subject=f"artifact:{row['path'][:200]}", project=project, upload=uid)


def collect(uow: UnitOfWork) -> dict[str, Any]:
    """Forget uploads that nobody finished in time, and their parts; the work of a job."""
    oldest = to_ms(uow.clock.now()) - uow.settings.upload_keep_s * 1000
    statement = select(artifact_upload.c.uid).where(artifact_upload.c.at_ms < oldest)
    found = list(uow.conn.execute(statement.limit(_UPLOADS_PER_COLLECTION)).scalars())
    for uid in found:
        uow.blobs.drop_parts(uid)
        uow.conn.execute(delete(artifact_upload).where(artifact_upload.c.uid == uid))
    return {"collected": len(found)}


def check_order(parts: Sequence[tuple[int, str]]) -> None:
    """Refuse a list of parts that is empty or not in ascending order."""
    numbers = [number for number, _ in parts]
    if not numbers:
        raise InvalidInputError("Missing value for required parameter 'parts'.", field="parts")
    if numbers != sorted(set(numbers)):
        raise InvalidInputError("The parts must be listed once each, in ascending order.", field="parts")


def _row(uow: UnitOfWork, uid: str) -> Row | None:
    return uow.conn.execute(select(artifact_upload).where(artifact_upload.c.uid == uid)).mappings().first()


def _require(uow: UnitOfWork, project: str, uid: str, path: str) -> Row:
    row = _row(uow, uid)
    if row is None or row["project"] != project or row["path"] != check_artifact_path(path):
        raise _no_such(uid)
    return row


def _no_such(uid: str) -> NotFoundError:
    return NotFoundError(
        f"There is no upload {uid[:80]!r} of this file under way.", hint="Begin another one.", field="upload_id"
    )
