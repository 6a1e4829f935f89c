"""The law of bundles: the server puts together what it knows of a subject, proves each event, and signs the whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.bundles import archive
from everline.bundles.types import Contents, Facts, Kind, Proofs
from everline.canonical import canonical_json
from everline.clock import rfc3339
from everline.datasets import service as datasets
from everline.errors import InvalidInputError, NotFoundError
from everline.governance import audit, evidence
from everline.governance.signing import dsse_sign, server_key
from everline.governance.types import AuditEvent
from everline.ids import check_uid, digest_bytes
from everline.models import service as models
from everline.models.package import MANIFEST_FILE, parse_manifest
from everline.models.types import ModelVersion
from everline.pipelines import service as pipelines
from everline.releases import service as releases
from everline.reproduction import service as reproduction
from everline.reproduction.statements import PAYLOAD_TYPE, test_result
from everline.runs import service as runs
from everline.runs.capture import RunRecord
from everline.serving import predictions

EVENTS_MAX = 500
CERTIFICATES_MAX = 100
RELEASES_MAX = 1_000


@read
def export(uow: UnitOfWork, project: str, subject: str, target: Path, *, data: bool = True) -> Contents:
    """Write a bundle about a prediction, model version or run.

    Args:
        subject: `prediction:UID`, `model-version:UID` or `run:UID`.
        target: a file that is written over.
        data: whether the dataset versions of a run go with it; without them it is verified, and not run again.

    Raises:
        NotFoundError: there is no such thing.
        InvalidInputError: the subject is of another kind.
    """
    uow.require(Permission.AUDIT_READ, project)
    kind, _, uid = subject.partition(":")
    makers = {"prediction": _prediction, "model-version": _model, "run": _run}
    if kind not in makers:
        raise InvalidInputError(
            f"There is no bundle about {subject[:80]!r}.",
            hint="Give prediction:UID, model-version:UID or run:UID.",
            field="subject",
        )
    with archive.Writer(target) as writer:
        contents = makers[kind](_Making(uow, project, writer, data=data), uid)
        contents = msgspec.structs.replace(contents, files=tuple(sorted(writer.files, key=lambda one: one.path)))
        writer.finish(contents, sign=_signed(uow, contents))
    return contents


@act
def note_export(uow: UnitOfWork, project: str, contents: Contents) -> None:
    """Leave in the audit log that somebody is about to take a bundle away."""
    uow.require(Permission.AUDIT_READ, project)
    uow.record(
        "bundle.export",
        subject=contents.subject,
        project=project,
        contents=digest_bytes(archive.contents_bytes(contents)),
        files=len(contents.files),
    )


class _Making:
    """A bundle that is being put together."""

    def __init__(self, uow: UnitOfWork, project: str, writer: archive.Writer, *, data: bool) -> None:
        self.uow, self.project, self.writer, self.data = uow, project, writer, data
        self.subjects: list[str] = []
        self.left_out: list[str] = []
        self._blobs: set[str] = set()

    def add_blob(self, digest: str) -> None:
        """Add the bytes of a digest once."""
        if digest not in self._blobs:
            self._blobs.add(digest)
            self.writer.add_stream(archive.blob_path(digest), digest, self.uow.blobs.stream(digest))

    def add_package(self, version: ModelVersion) -> None:
        """Add a model package with its signature."""
        if version.package is None or version.signature is None:
            raise InvalidInputError(
                f"{version.model}/{version.version} has no signed package.",
                hint="Versions that Everline packaged can be exported; `everline models package` makes one.",
                field="subject",
            )
        manifest = self.uow.blobs.get_bytes(version.package)
        self.writer.add(f"package/{MANIFEST_FILE}", manifest)
        for file in parse_manifest(manifest).files:
            self.writer.add_stream(f"package/{file.path}", file.digest, self.uow.blobs.stream(file.digest))
        self.writer.add(archive.SIGNATURE, self.uow.blobs.get_bytes(version.signature))

    def evidence_of(self, version: ModelVersion) -> tuple[dict[str, Any], ...]:
        """What is known about a version."""
        self.subjects.append(version.subject)
        found = evidence.list_evidence(self.uow, subject=version.subject, project=self.project)
        return tuple(msgspec.to_builtins(one) for one in found)

    def finish(self, kind: Kind, subject: str, facts: Facts, **more: Any) -> Contents:
        """Add facts, proofs and certificates; the table of contents without its files."""
        self.writer.add(archive.FACTS, msgspec.json.encode(facts))
        subjects = list(dict.fromkeys([subject, *self.subjects]))
        self.writer.add(archive.PROOFS, msgspec.json.encode(_proofs(self.uow, self.project, subjects)))
        self.writer.add(archive.CERTIFICATES, msgspec.json.encode(_certificates(self.uow, self.project, subjects)))
        return Contents(
            kind=kind,
            subject=subject,
            project=self.project,
            created_at=rfc3339(self.uow.clock.now()),
            created_by=self.uow.actor.name,
            left_out=tuple(self.left_out),
            **more,
        )


def _prediction(making: _Making, uid: str) -> Contents:
    uow, project = making.uow, making.project
    logged = predictions.get_prediction(uow, check_uid(uid, field="subject"), project=project)
    version = models.get_version(uow, project, logged.model, logged.version)
    making.add_package(version)
    making.subjects += [f"prediction-segment:{logged.segment}", f"release:{logged.release}"]
    facts = Facts(
        prediction=msgspec.to_builtins(logged),
        version=msgspec.to_builtins(version),
        evidence=making.evidence_of(version),
        release=msgspec.to_builtins(releases.get(uow, logged.release)),
    )
    making.left_out.append("the log segment, which holds other predictions: its digest is in the audit log")
    return making.finish(Kind.PREDICTION, f"prediction:{uid}", facts, package=version.package)


def _model(making: _Making, uid: str) -> Contents:
    uow = making.uow
    version = models.get_version_by_uid(uow, uid)
    if version.project != making.project:
        raise NotFoundError(f"There is no model version {uid[:80]} in project {making.project!r}.", field="subject")
    making.add_package(version)
    released = releases.list_releases(uow, project=making.project, limit=RELEASES_MAX)
    mine = [one for one in released if one.model_version == version.uid]
    making.subjects += [f"release:{one.uid}" for one in mine]
    record, run = _record_of(making, version.run)
    facts = Facts(
        version=msgspec.to_builtins(version),
        evidence=making.evidence_of(version),
        release=msgspec.to_builtins(releases.get(uow, mine[0].uid)) if mine else None,
        run=run,
    )
    return making.finish(Kind.MODEL, version.subject, facts, package=version.package, record=record)


def _run(making: _Making, uid: str) -> Contents:
    uow, project = making.uow, making.project
    record, run = _record_of(making, uid)
    if record is None:
        raise InvalidInputError(
            f"Run {uid} recorded no code and environment, so a bundle of it would prove nothing.",
            hint="Runs of pipelines and of `everline.run()` have a record.",
            field="subject",
        )
    parsed = msgspec.json.decode(uow.blobs.get_bytes(record), type=RunRecord)
    for file in parsed.code.files:
        making.add_blob(file.digest)
    versions = []
    for use in parsed.data:
        detail = datasets.get_version(uow, project, use.name, str(use.version))
        versions.append(msgspec.to_builtins(detail))
        if making.data:
            for one in detail.files:
                making.add_blob(one.digest)
    if parsed.data and not making.data:
        making.left_out.append("the data: their digests are in the record")
    facts = Facts(run=run, steps=tuple(pipelines.list_steps(uow, project, uid)), data=tuple(versions))
    return making.finish(Kind.RUN, f"run:{uid}", facts, record=record)


def _record_of(making: _Making, run: str | None) -> tuple[str | None, dict[str, Any] | None]:
    """Add a run's record; its digest and the run, None without."""
    if run is None:
        return None, None
    found = runs.get_run(making.uow, making.project, run)
    if found.record is not None:
        making.writer.add(archive.RECORD, making.uow.blobs.get_bytes(found.record))
    making.subjects.append(f"run:{run}")
    return found.record, msgspec.to_builtins(found)


def _proofs(uow: UnitOfWork, project: str, subjects: Iterable[str]) -> Proofs:
    """The newest events about some subjects, each proved, in the order of the log."""
    events: dict[int, AuditEvent] = {}
    for subject in subjects:
        for event in audit.list_events(uow, project=project, subject=subject, limit=EVENTS_MAX):
            events[event.index] = event
    return Proofs(proofs=tuple(audit.prove(uow, index) for index in sorted(events)))


def _certificates(uow: UnitOfWork, project: str, subjects: Sequence[str]) -> list[dict[str, Any]]:
    found = []
    for subject in subjects:
        for one in reproduction.list_certificates(uow, project, subject=subject, limit=CERTIFICATES_MAX):
            found.append(reproduction.get_certificate(uow, project, one.uid).envelope)
    return found


def _signed(uow: UnitOfWork, contents: Contents) -> dict[str, Any]:
    """The server's word for the table of contents, and through it for every file."""
    digest = digest_bytes(archive.contents_bytes(contents)).removeprefix("sha256:")
    package = (
        [{"name": "package", "digest": {"sha256": contents.package.removeprefix("sha256:")}}]
        if contents.package
        else []
    )
    statement = test_result(
        [{"name": contents.subject, "digest": {"sha256": digest}}],
        result="PASSED",
        configuration=package,
        passed=["recorded", "traced"],
        failed=[],
        facts={"kind": contents.kind.value, "by": contents.created_by, "at": contents.created_at},
    )
    return dsse_sign(server_key(uow.settings), PAYLOAD_TYPE, canonical_json(statement))
