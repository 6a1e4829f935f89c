"""Checks a bundle offline, with the public key alone: no server, no home, no account."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from everline.bundles import archive
from everline.bundles.archive import Reader
from everline.bundles.types import BundleReport, Facts, Finding, Kind, Proofs
from everline.errors import EverlineError, IntegrityError, InvalidInputError
from everline.governance import rotations
from everline.governance.bundle import verify_proof
from everline.governance.signing import VerifyKey, dsse_verify
from everline.governance.types import AuditEvent
from everline.ids import digest_bytes
from everline.models.package import open_package
from everline.models.signing import verify_package_signature
from everline.pipelines.types import StepStatus
from everline.reproduction.statements import PAYLOAD_TYPE
from everline.runs.capture import RunRecord, verify_snapshot
from everline.serving.dataplane.loading import verify_release
from everline.serving.types import DesiredEndpoint


@contextmanager
def opened(path: Path, *, within: Path | None = None) -> Iterator[Reader]:
    """A bundle, unpacked into a folder that is gone afterwards.

    Args:
        within: where that folder is made; None for the system's folder of temporary files, which may be memory.

    Raises:
        InvalidInputError: the file cannot be read as a bundle.
        IntegrityError: a file in it is not what its table of contents says.
    """
    with tempfile.TemporaryDirectory(prefix="everline-bundle-", dir=within) as name:
        yield Reader(path, Path(name))


def verify(reader: Reader, key: VerifyKey) -> BundleReport:
    """Check everything in an unpacked bundle.

    Args:
        key: the public key, from a source that you trust.
    """
    checks = _Checks(reader, key)
    checks.run("signature", checks.signature)
    checks.run("proofs", checks.events)
    if reader.contents.package is not None:
        checks.run("package", checks.package)
    if reader.contents.record is not None:
        checks.run("record", checks.record)
    if reader.contents.kind is Kind.SERVING:
        checks.run("release", checks.release)
    if reader.contents.kind is Kind.PREDICTION:
        checks.run("prediction", checks.prediction)
    if reader.contents.kind is Kind.RUN:
        checks.run("steps", checks.steps)
        checks.run("data", checks.data)
    checks.run("certificates", checks.certificates)
    return BundleReport(
        kind=reader.contents.kind,
        subject=reader.contents.subject,
        verified=all(one.passed for one in checks.findings),
        findings=tuple(checks.findings),
        key=key.text,
        facts=checks.facts_or_none(),
    )


def _led_to(reader: Reader, key: VerifyKey) -> list[VerifyKey]:
    """The trusted key, and those that it leads to along the rotations in the bundle, which both keys signed."""
    try:
        return rotations.expand([key], reader.read(archive.CERTIFICATES, list[dict[str, Any]]) or [])
    except EverlineError:
        return [key]  # what is wrong with the file is said by its own check


class _Checks:
    """One check a method: it returns what it found, or raises why it is not so."""

    def __init__(self, reader: Reader, key: VerifyKey) -> None:
        self._reader, self._key = reader, key
        self._keys = _led_to(reader, key)
        self._events: list[AuditEvent] = []
        self.findings: list[Finding] = []

    def run(self, name: str, check: Callable[[], str]) -> bool:
        """Run a check, and note how it ended."""
        try:
            self.findings.append(Finding(name=name, passed=True, detail=check()))
        except EverlineError as error:
            self.findings.append(Finding(name=name, passed=False, detail=error.message))
        return self.findings[-1].passed

    def signature(self) -> str:
        """The table of contents is signed, and so is every file."""
        raw = self._reader.statement_raw
        if raw is None:
            raise IntegrityError("The bundle is not signed.")
        statement = self._statement(raw)
        digest = digest_bytes(self._reader.contents_raw).removeprefix("sha256:")
        wanted = {"name": self._reader.contents.subject, "digest": {"sha256": digest}}
        if statement.get("subject") != [wanted]:
            raise IntegrityError("The bundle's signature was made for another table of contents.")
        return f"signed by {self._key.name}: {len(self._reader.contents.files)} files, each with its digest"

    def events(self) -> str:
        """Each event is in the signed log."""
        proofs = self._reader.read(archive.PROOFS, Proofs)
        if proofs is None or not proofs.proofs:
            raise IntegrityError("The bundle proves no event of the audit log.")
        self._events = [verify_proof(proof, self._keys) for proof in proofs.proofs]
        return f"{len(self._events)} events are in the signed log of {max(proof.size for proof in proofs.proofs)}"

    def package(self) -> str:
        """The package is whole, signed, and the one that was registered."""
        package = open_package(self._reader.folder / "package", digest=self._reader.contents.package)
        envelope = self._reader.read(archive.SIGNATURE, dict[str, Any])
        if envelope is None:
            raise IntegrityError("The bundle has no signature of the package.")
        verify_package_signature(package.manifest_bytes, envelope, self._keys)
        version = self._facts().version or {}
        if version.get("package") != package.digest:
            raise IntegrityError(f"The version's package is {version.get('package')}, and this is {package.digest}.")
        if not self._said("model.register", f"model-version:{version.get('uid')}"):
            raise IntegrityError("No event in the bundle says that this version was registered.")
        return f"{len(package.manifest.files)} files of {version.get('model')}/{version.get('version')}, signed"

    def record(self) -> str:
        """The record of the run is the one that the log speaks of, and its code is whole."""
        raw = (self._reader.folder / archive.RECORD).read_bytes()
        digest = digest_bytes(raw)
        if digest != self._reader.contents.record:
            raise IntegrityError(f"The run's record is {digest}, not {self._reader.contents.record}.")
        run = (self._facts().run or {}).get("run")
        told = self._said("run.record", f"run:{run}")
        if not any(event.data.get("record") == digest for event in told):
            raise IntegrityError("No event in the bundle says that the run has this record.")
        record = self._run_record()
        verify_snapshot(record.code)
        if self._reader.contents.kind is Kind.RUN:
            for file in record.code.files:
                self._reader.blob(file.digest)
        return f"{len(record.code.files)} source files, {len(record.environment.distributions)} distributions"

    def prediction(self) -> str:
        """The logged row belongs to the package and the release, and its segment is in the log."""
        row, release = self._facts().prediction or {}, self._facts().release or {}
        if f"prediction:{row.get('prediction')}" != self._reader.contents.subject:
            raise IntegrityError("The row in the bundle is another prediction.")
        if row.get("package") != self._reader.contents.package:
            raise IntegrityError(f"The row was given by {row.get('package')}, which is not the package in the bundle.")
        if row.get("release") != release.get("uid") or release.get("package") != row.get("package"):
            raise IntegrityError("The release in the bundle did not bring this package.")
        if not self._said("prediction.segment", f"prediction-segment:{row.get('segment')}"):
            raise IntegrityError("No event in the bundle says that the log segment of this row was kept.")
        moves = [event.action for event in self._events if event.subject == f"release:{release.get('uid')}"]
        if not moves:
            raise IntegrityError("No event in the bundle speaks of the release.")
        return f"answered at {row.get('at')} by release {release.get('uid')}: {', '.join(dict.fromkeys(moves))}"

    def release(self) -> str:
        """The endpoint's only revision is this package, and a signed release decision let it there."""
        endpoint = self._reader.read(archive.SERVING, DesiredEndpoint)
        if endpoint is None or len(endpoint.revisions) != 1:
            raise IntegrityError(f"The bundle does not say in {archive.SERVING} what is to be served.")
        (revision,) = endpoint.revisions
        if revision.package != self._reader.contents.package:
            raise IntegrityError(f"What is to be served is {revision.package}, which is not the package in the bundle.")
        verify_release(endpoint, revision, key=self._keys)
        moves = [event.action for event in self._events if event.subject == f"release:{revision.release}"]
        if not moves:
            raise IntegrityError("No event in the bundle speaks of the release.")
        told = ", ".join(dict.fromkeys(moves))
        return f"{revision.model}/{revision.version} was let onto {endpoint.endpoint} by {revision.release}: {told}"

    def steps(self) -> str:
        """What each step gave is what the log says that it gave."""
        told: dict[str, list[str]] = {}
        for event in self._said("pipeline.steps", self._reader.contents.subject):
            told |= {one["step"]: one["outputs"] for one in event.data.get("steps", [])}
        steps = self._facts().steps
        for step in steps:
            if step.status not in (StepStatus.SUCCEEDED, StepStatus.CACHED):
                continue
            if told.get(step.name) != [ref.digest for ref in step.outputs]:
                raise IntegrityError(f"What step {step.name!r} gave is not what the log says.")
        return f"{len(steps)} steps gave what the log says" if steps else "the run has no steps"

    def data(self) -> str:
        """The dataset versions are those of the record, and their files are here unless they were left out."""
        record = self._run_record()
        kept = {(one["version"]["dataset"], one["version"]["version"]): one for one in self._facts().data}
        files = 0
        for use in record.data:
            found = kept.get((use.name, use.version))
            if found is None or found["version"]["digest"] != use.digest:
                raise IntegrityError(f"The bundle does not have {use.name}@{use.version} as it was recorded.")
            if not any("data" in one for one in self._reader.contents.left_out):
                for one in found["files"]:
                    self._reader.blob(one["digest"])
                    files += 1
        return f"{len(record.data)} dataset versions, {files} files" if record.data else "the run read no dataset"

    def certificates(self) -> str:
        """Each certificate is signed."""
        envelopes = self._reader.read(archive.CERTIFICATES, list[dict[str, Any]]) or []
        for envelope in envelopes:
            dsse_verify(envelope, self._keys, payload_type=PAYLOAD_TYPE)
        return f"{len(envelopes)} signed"

    def _statement(self, raw: bytes) -> dict[str, Any]:
        try:
            payload = dsse_verify(msgspec.json.decode(raw), self._keys, payload_type=PAYLOAD_TYPE)
            statement: dict[str, Any] = msgspec.json.decode(payload, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise IntegrityError(f"The bundle's signature cannot be read: {error}.") from error
        return statement

    def _facts(self) -> Facts:
        found = self._reader.read(archive.FACTS, Facts)
        if found is None:
            raise IntegrityError(f"The bundle has no {archive.FACTS}.")
        return found

    def facts_or_none(self) -> Facts | None:
        """What the bundle says of its subject, if it can be read."""
        try:
            return self._facts()
        except IntegrityError:
            return None

    def _said(self, action: str, subject: str) -> list[AuditEvent]:
        return [event for event in self._events if (event.action, event.subject) == (action, subject)]

    def _run_record(self) -> RunRecord:
        found = self._reader.read(archive.RECORD, RunRecord)
        if found is None:
            raise IntegrityError("The bundle has no record of the run.")
        return found


def require(reader: Reader, key: VerifyKey, kind: Kind) -> BundleReport:
    """Check a bundle of a kind, and refuse one that is not what it says.

    Raises:
        InvalidInputError: it is of another kind.
        IntegrityError: a check failed.
    """
    if reader.contents.kind is not kind:
        raise InvalidInputError(
            f"The bundle is about a {reader.contents.kind}, not a {kind}.",
            hint="`everline verify FILE --key KEY` says what it holds.",
            field="bundle",
        )
    report = verify(reader, key)
    wrong = next((one for one in report.findings if not one.passed), None)
    if wrong is not None:
        raise IntegrityError(f"The bundle does not hold ({wrong.name}): {wrong.detail}")
    return report
