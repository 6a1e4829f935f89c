"""The law of bundles: the server puts together what it knows of a subject, proves each event, and signs the whole."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from everline import __version__
from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.bundles import archive
from everline.bundles.types import SERVING_README, Contents, Dependencies, Facts, Kind, Needed, Proofs
from everline.canonical import canonical_json
from everline.clock import rfc3339
from everline.datasets import service as datasets
from everline.errors import InvalidInputError, NotFoundError
from everline.governance import audit, evidence, rotation
from everline.governance.signing import dsse_sign, server_key
from everline.governance.types import AuditEvent
from everline.ids import check_uid, digest_bytes
from everline.models import service as models
from everline.models.package import MANIFEST_FILE, parse_manifest
from everline.models.requirements import REQUIREMENTS_FILE, installed_closure, parse_requirements
from everline.models.types import ModelVersion
from everline.pipelines import service as pipelines
from everline.releases import service as releases
from everline.reproduction import service as reproduction
from everline.reproduction.statements import PAYLOAD_TYPE, test_result
from everline.runs import service as runs
from everline.runs.capture import RunRecord
from everline.serving import desired as desired_state
from everline.serving import predictions

SERVING_ROOTS = (
    "click",
    "cryptography",
    "httptools",
    "httpx",
    "msgspec",
    "numpy",
    "prometheus-client",
    "pyyaml",
    "rfc8785",
    "uvicorn",
    "uvloop",
)
"""What the data plane imports to serve a bundle; models bring their own."""
EVENTS_MAX = 500
CERTIFICATES_MAX = 100
RELEASES_MAX = 1_000


@read
def export(
    uow: UnitOfWork, project: str, subject: str, target: Path, *, data: bool = True, endpoint: str | None = None
) -> Contents:
    """Write a bundle about a prediction, model version or run, or one that serves a model version.

    Args:
        subject: `prediction:UID`, `model-version:UID`, `run:UID`, or `serving:UID` of a model version.
        target: a file that is written over.
        data: whether the dataset versions of a run go with it; without them it is verified, and not run again.
        endpoint: to serve: where the version answers; None where that is one endpoint only.

    Raises:
        NotFoundError: there is no such thing.
        ConflictError: to serve: no release of the version is live.
        InvalidInputError: the subject is of another kind.
    """
    uow.require(Permission.AUDIT_READ, project)
    kind, _, uid = subject.partition(":")
    makers = {"prediction": _prediction, "model-version": _model, "run": _run, "serving": _serving}
    if kind not in makers:
        raise InvalidInputError(
            f"There is no bundle about {subject[:80]!r}.",
            hint="Give prediction:UID, model-version:UID, run:UID or serving:UID.",
            field="subject",
        )
    with archive.Writer(target) as writer:
        contents = makers[kind](_Making(uow, project, writer, data=data, endpoint=endpoint), uid)
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

    def __init__(
        self, uow: UnitOfWork, project: str, writer: archive.Writer, *, data: bool, endpoint: str | None
    ) -> None:
        self.uow, self.project, self.writer, self.data, self.endpoint = uow, project, writer, data, endpoint
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


def _serving(making: _Making, uid: str) -> Contents:
    uow = making.uow
    version = models.get_version_by_uid(uow, uid)
    if version.project != making.project:
        raise NotFoundError(f"There is no model version {uid[:80]} in project {making.project!r}.", field="subject")
    desired = desired_state.desired_alone(uow, project=making.project, model_version=uid, endpoint=making.endpoint)
    making.add_package(version)
    making.writer.add(archive.SERVING, canonical_json(msgspec.to_builtins(desired)))
    release = desired.revisions[0].release
    making.subjects.append(f"release:{release}")
    record, run = _record_of(making, version.run)
    making.writer.add(archive.DEPENDENCIES, canonical_json(msgspec.to_builtins(_needed(uow, version, record))))
    making.writer.add(archive.KEY, f"{server_key(uow.settings).verify_key.text}\n".encode())
    making.writer.add(archive.README_FILE, SERVING_README.encode())
    facts = Facts(
        version=msgspec.to_builtins(version),
        evidence=making.evidence_of(version),
        release=msgspec.to_builtins(releases.get(uow, release)),
        run=run,
    )
    return making.finish(Kind.SERVING, version.subject, facts, package=version.package, record=record)


def _needed(uow: UnitOfWork, version: ModelVersion, record: str | None) -> Dependencies:
    """What serving a version needs, in the versions of the environment that made it where that was recorded."""
    manifest = parse_manifest(uow.blobs.get_bytes(version.package or ""))
    listed = next((file.digest for file in manifest.files if file.path == REQUIREMENTS_FILE), None)
    model = parse_requirements(uow.blobs.get_bytes(listed).decode()) if listed else {}
    recorded = None
    if record is not None:
        recorded = msgspec.json.decode(uow.blobs.get_bytes(record), type=RunRecord).environment
    known = {one.name: one for one in recorded.distributions} if recorded else {}
    found = []
    for name, pinned in sorted((installed_closure(*SERVING_ROOTS) | model).items()):
        was = known.get(name)
        # The package's own pins were read where it was built; what only the data plane needs, the run knows best.
        chosen = pinned if name in model or was is None else was.version
        digest = was.digest if was is not None and was.version == chosen else None
        found.append(Needed(name=name, version=chosen, digest=digest, model=name in model))
    return Dependencies(
        python=recorded.python if recorded else platform.python_version(),
        implementation=recorded.implementation if recorded else platform.python_implementation(),
        environment=recorded.digest if recorded else None,
        everline=__version__,
        distributions=tuple(found),
    )


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
    return found + rotation.statements(uow)


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
