"""The law of certificates: the server compares what was recorded, and signs only what it found out itself.

A client rebuilds a run and records the rebuild as a run of its own; whether the two agree is decided here, from both
records. A replay of a prediction is done by the client; here its claims are held against the prediction log before
they are signed.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import select

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.canonical import canonical_digest, canonical_json
from everline.datasets import service as datasets
from everline.errors import EverlineError, IntegrityError, InvalidInputError, NotFoundError
from everline.governance import evidence
from everline.governance.signing import dsse_sign, server_key
from everline.ids import new_uid
from everline.models.tables import model_version
from everline.pipelines import serialisers
from everline.pipelines import service as pipelines
from everline.pipelines.types import REPRODUCES_TAG, ValueRef
from everline.reproduction import bands, results, scripts, tables
from everline.reproduction.comparison import Rebuild, Recorded, judge, run_differences
from everline.reproduction.sources import read_source
from everline.reproduction.statements import PAYLOAD_TYPE, replay_statement, reproduction_statement
from everline.reproduction.tolerance import largest_difference
from everline.reproduction.types import (
    ARGUMENTS_TAG,
    REPEATS_MAX,
    REPEATS_MIN,
    REPLAY_LEVELS,
    Cause,
    Certificate,
    CertificateDetail,
    FirstDifference,
    Preparation,
    Replay,
    Reproduction,
    Verdict,
)
from everline.runs import service as runs
from everline.runs.capture import RunRecord, verify_snapshot
from everline.runs.types import RunStatus, TrackedRun
from everline.runs.undeclared import read_tag
from everline.serving import predictions

REBUILDS_MAX = 8
RESULT_BYTES_MAX = 1 << 30


@read
def prepare(uow: UnitOfWork, project: str, run: str) -> Preparation:
    """Look whether a run can be rebuilt: its record is there, and every byte that it names is what it was.

    Raises:
        NotFoundError: there is no such run.
    """
    uow.require(Permission.RUN_READ, project)
    found = runs.get_run(uow, project, run)
    if found.record is None:
        source = read_source(uow, project, found)
        if isinstance(source, FirstDifference):
            return Preparation(run=run, record=None, record_digest=None, problem=source)
        return Preparation(run=run, record=None, record_digest=None, source=source)
    try:
        raw = runs.get_record(uow, project, run)
    except IntegrityError as error:
        problem = FirstDifference(step=None, cause=Cause.RECORD, detail=error.message)
        return Preparation(run=run, record=None, record_digest=None, problem=problem)
    digest = canonical_digest(raw)
    try:
        record = msgspec.convert(raw, RunRecord)
    except msgspec.ValidationError as error:
        problem = FirstDifference(step=None, cause=Cause.RECORD, detail=f"the record cannot be read: {error}")
        return Preparation(run=run, record=raw, record_digest=digest, problem=problem)
    has_steps = bool(pipelines.list_steps(uow, project, run))
    missing = _problem(uow, project, record)
    return Preparation(run=run, record=raw, record_digest=digest, problem=missing, has_steps=has_steps)


@read
def compare(
    uow: UnitOfWork,
    project: str,
    run: str,
    *,
    rebuilds: Sequence[str] = (),
    failure: str | None = None,
    cause: Cause = Cause.RECORD,
    repeats: Sequence[str] = (),
) -> Reproduction:
    """Compare a run with its rebuilds, from what was recorded of each.

    Args:
        rebuilds: runs that carry the tag `everline.reproduces` with this run's uid.
        repeats: more of those, with other seeds: for bands where the results of the first rebuild differ.
        failure, cause: what went wrong on the way, and what it was about, if no rebuild could be recorded.

    Raises:
        NotFoundError: there is no such run or rebuild.
        InvalidInputError: a rebuild is a rebuild of something else.
    """
    uow.require(Permission.RUN_READ, project)
    if len(rebuilds) > REBUILDS_MAX:
        raise InvalidInputError(f"At most {REBUILDS_MAX} rebuilds are compared.", field="rebuilds")
    if repeats and not REPEATS_MIN <= len(set(repeats)) == len(repeats) <= REPEATS_MAX:
        raise InvalidInputError(
            f"A band comes from {REPEATS_MIN} to {REPEATS_MAX} different repeats, not {len(repeats)}.",
            field="repeats",
        )
    prepared = prepare(uow, project, run)
    subjects = subjects_of(uow, run)
    if prepared.problem is not None:
        return _unverifiable(prepared, subjects)
    original = runs.get_run(uow, project, run)
    if not prepared.has_steps:
        report = _compare_script(uow, project, original, prepared, rebuilds=rebuilds, failure=failure, cause=cause)
        report = _judged_by_bands(uow, project, original, report, repeats)
        return msgspec.structs.replace(report, subjects=subjects)
    recorded = Recorded(
        run=run,
        finished=original.status is RunStatus.FINISHED,
        record=msgspec.convert(prepared.record, RunRecord),
        record_digest=prepared.record_digest or "",
        steps=tuple(pipelines.list_steps(uow, project, run)),
        undeclared=read_tag(original.tags),
    )
    if not recorded.finished:
        # The record is whole, so L0 is earned; without recorded results there is nothing to hold a rebuild against.
        return _without_results(prepared, subjects, "the run did not finish, so there is no result")
    found = [_rebuild(uow, project, item, of=run) for item in rebuilds]
    report = judge(recorded, found, failure=failure, cause=cause, measure=lambda old, new: _measure(uow, old, new))
    report = _judged_by_bands(uow, project, original, report, repeats)
    return msgspec.structs.replace(report, subjects=subjects)


@act
def certify(uow: UnitOfWork, project: str, report: Reproduction) -> Reproduction:
    """Sign what a comparison found, and attach it as evidence to the run and to the model versions made by it."""
    uow.require(Permission.EVIDENCE_WRITE, project)
    statement = reproduction_statement(report, actor=uow.actor.name, at=uow.clock.now())
    uid, digest = sign(
        uow,
        project,
        statement,
        kind="reproduction",
        subject=f"run:{report.run}",
        level=report.level,
        verdict=report.verdict.value,
    )
    if report.level is not None:
        body = {"level": report.level, "verdict": report.verdict.value, "certificate": uid, "digest": digest}
        for subject in report.subjects:
            evidence.attach(uow, subject=subject, kind="reproduction", body=body, project=project)
    return msgspec.structs.replace(report, certificate=uid)


@act
def certify_replay(uow: UnitOfWork, project: str, replay: Replay) -> Replay:
    """Hold a replay against the prediction log, then sign it.

    Raises:
        NotFoundError: there is no such prediction.
        InvalidInputError: the replay claims a level or verdict that its own values do not bear out.
        IntegrityError: it speaks of other outputs, or of another package, than were logged.
    """
    uow.require(Permission.EVIDENCE_WRITE, project)
    logged = predictions.get_prediction(uow, replay.prediction, project=project)
    if replay.package != logged.package or replay.release != logged.release:
        raise IntegrityError(
            "The replay speaks of another package or release than the prediction log.", field="package"
        )
    if canonical_json(replay.logged) != canonical_json(logged.outputs):
        raise IntegrityError("The replay speaks of other outputs than the prediction log.", field="logged")
    equal = canonical_json(replay.replayed) == canonical_json(replay.logged)
    if replay.level is not None and replay.level not in REPLAY_LEVELS[:4]:
        raise InvalidInputError(f"{replay.level!r} is no level that a replay can earn here.", field="level")
    if (replay.level == "P3") != (replay.verdict is Verdict.IDENTICAL) or (replay.level == "P3" and not equal):
        raise InvalidInputError("The level is not what the replayed outputs show.", field="level")
    statement = replay_statement(replay, actor=uow.actor.name, at=uow.clock.now())
    subject = f"prediction:{replay.prediction}"
    uid, digest = sign(
        uow,
        project,
        statement,
        kind="replay",
        subject=subject,
        level=replay.level,
        verdict=replay.verdict.value,
    )
    body = {"level": replay.level, "verdict": replay.verdict.value, "certificate": uid, "digest": digest}
    evidence.attach(uow, subject=subject, kind="replay", body=body, project=project)
    return msgspec.structs.replace(replay, certificate=uid)


@read
def list_certificates(
    uow: UnitOfWork, project: str, *, subject: str | None = None, limit: int, before: str | None = None
) -> list[Certificate]:
    """Certificates, newest first; those of one subject such as `run:…` or `prediction:…` if it is given."""
    uow.require(Permission.EVIDENCE_READ, project)
    table = tables.certificate
    query = select(table).where(table.c.project == project)
    if subject is not None:
        query = query.where(table.c.subject == subject)
    if before is not None:
        query = query.where(table.c.uid < before)
    rows = uow.conn.execute(query.order_by(table.c.uid.desc()).limit(limit)).mappings()
    return [msgspec.convert({k: row[k] for k in Certificate.__struct_fields__}, Certificate) for row in rows]


@read
def get_certificate(uow: UnitOfWork, project: str, uid: str) -> CertificateDetail:
    """One certificate with its signed envelope."""
    uow.require(Permission.EVIDENCE_READ, project)
    table = tables.certificate
    row = uow.conn.execute(select(table).where(table.c.uid == uid, table.c.project == project)).mappings().first()
    if row is None:
        raise NotFoundError(f"There is no certificate {uid[:80]!r}.", field="certificate")
    envelope = msgspec.json.decode(uow.blobs.get_bytes(row["digest"]))
    payload = msgspec.json.decode(base64.b64decode(envelope["payload"]))
    certificate = msgspec.convert({k: row[k] for k in Certificate.__struct_fields__}, Certificate)
    return CertificateDetail(certificate=certificate, envelope=envelope, statement=payload)


def _as_json(value: Any) -> bytes:
    """Canonical bytes of a value as it looks on the wire, where a NaN is null and a time is text."""
    return canonical_json(msgspec.json.decode(msgspec.json.encode(value)))


def _problem(uow: UnitOfWork, project: str, record: RunRecord) -> FirstDifference | None:
    """The first thing that the record names and that is missing, altered or was never recorded."""
    code = record.code
    if code.omitted:
        return _found(Cause.CODE, f"source files were left out of the record: {'; '.join(code.omitted[:3])}")
    if not record.environment.distributions:
        return _found(Cause.ENVIRONMENT, "no installed distribution was recorded")
    try:
        verify_snapshot(code)
    except EverlineError as error:
        return _found(Cause.CODE, error.message)
    for file in code.files:
        try:
            uow.blobs.get_bytes(file.digest)
        except EverlineError as error:
            return _found(Cause.CODE, f"{file.path}: {error.message}")
    for use in record.data:
        try:
            checked = datasets.verify_version(uow, project, use.name, use.digest)
        except EverlineError as error:
            return _found(Cause.DATA, f"{use.name}@{use.version}: {error.message}")
        if checked.bad:
            bad = checked.bad[0]
            return _found(Cause.DATA, f"{use.name}@{use.version}, {bad.path}: {bad.reason}")
    return None


def _judged_by_bands(
    uow: UnitOfWork, project: str, original: TrackedRun, report: Reproduction, repeats: Sequence[str]
) -> Reproduction:
    """A report whose results differ, with the bands of the repeats."""
    if not repeats or not report.rebuilds or any(check.level == "L4" and check.earned for check in report.checks):
        return report
    found = []
    for uid in repeats:
        again = _rebuilt_run(uow, project, uid, of=original.run)
        _require_repeat(uow, project, original, again)
        found.append(_numbers(uow, project, again))
    return bands.with_bands(report, bands.bands(_numbers(uow, project, original), found), repeats)


def _require_repeat(uow: UnitOfWork, project: str, original: TrackedRun, again: TrackedRun) -> None:
    """A repeat has ended, and differs from the run in nothing but its seed and its environment."""
    before, after = _record_of(uow, project, original.run), _record_of(uow, project, again.run)
    wrong = {} if before is None or after is None else run_differences(before, after, ())
    wrong |= scripts.logged_differences(original.params, again.params)
    changed = wrong.keys() - {Cause.SEED}
    if again.status is not RunStatus.FINISHED or changed:
        detail = "it did not finish" if not changed else "; ".join(wrong[cause] for cause in sorted(changed))
        raise InvalidInputError(f"Run {again.run} is no repeat of run {original.run}: {detail}.", field="repeats")


def _numbers(uow: UnitOfWork, project: str, run: TrackedRun) -> dict[str, float]:
    """The numbers of a run's results: those of its steps, else the last values of its metrics."""
    found: dict[str, float] = {}
    for step in pipelines.list_steps(uow, project, run.run):
        for index, output in enumerate(step.outputs):
            if output.kind == "json" and step.key is not None:
                value = serialisers.json_of(output, uow.blobs.get_bytes)
                name = step.name if len(step.outputs) == 1 else f"{step.name}.{index}"
                found |= dict(bands.numbers(value, name))
    if found:
        return found
    return {f"metric {one.key}": one.value for one in run.latest if not one.key.startswith(results.SYSTEM)}


def _compare_script(
    uow: UnitOfWork,
    project: str,
    original: TrackedRun,
    prepared: Preparation,
    *,
    rebuilds: Sequence[str],
    failure: str | None,
    cause: Cause,
) -> Reproduction:
    """Compare a run without steps by its metrics, files and models."""
    record = None if prepared.record is None else msgspec.convert(prepared.record, RunRecord)
    made = results.gather(uow, project, original)
    finished = original.status is RunStatus.FINISHED
    if not finished or not made or len(made.files) > results.FILES_MAX:
        detail = "logged no metric, file or model" if finished else "did not finish"
        if finished and made:
            return _without_results(prepared, (), f"the run has over {results.FILES_MAX:,} files: too many to compare")
        return _without_results(prepared, (), f"the run {detail}, so there is no result to compare with")
    recorded = scripts.Made(
        run=original.run, finished=True, record=record, results=made, undeclared=read_tag(original.tags)
    )
    found = []
    for item in rebuilds:
        again = _rebuilt_run(uow, project, item, of=original.run)
        found.append(
            scripts.Made(
                run=item,
                finished=again.status is RunStatus.FINISHED,
                record=_record_of(uow, project, item),
                results=results.gather(uow, project, again),
                given=ARGUMENTS_TAG in again.tags,
                undeclared=read_tag(again.tags),
            )
        )
    return scripts.judge(
        recorded, found, source=prepared.source, record_digest=prepared.record_digest, failure=failure, cause=cause
    )


def _without_results(prepared: Preparation, subjects: tuple[str, ...], detail: str) -> Reproduction:
    problem = FirstDifference(step=None, cause=Cause.RECORD, detail=detail)
    level = "L0" if prepared.record is not None else None
    return _unverifiable(msgspec.structs.replace(prepared, problem=problem), subjects, level=level)


def _found(cause: Cause, detail: str) -> FirstDifference:
    return FirstDifference(step=None, cause=cause, detail=detail)


def _unverifiable(prepared: Preparation, subjects: tuple[str, ...], *, level: str | None = None) -> Reproduction:
    problem = prepared.problem
    return Reproduction(
        run=prepared.run,
        level=level,
        verdict=Verdict.UNVERIFIABLE,
        first_difference=problem,
        reason=problem.detail if problem else "there is no record",
        record_digest=prepared.record_digest,
        subjects=subjects,
    )


def _rebuild(uow: UnitOfWork, project: str, run: str, *, of: str) -> Rebuild:
    found = _rebuilt_run(uow, project, run, of=of)
    steps = tuple(pipelines.list_steps(uow, project, run))
    record = _record_of(uow, project, run)
    return Rebuild(
        run=run, finished=found.status is RunStatus.FINISHED, record=record, steps=steps,
        undeclared=read_tag(found.tags),
    )  # fmt: skip


def _rebuilt_run(uow: UnitOfWork, project: str, run: str, *, of: str) -> TrackedRun:
    found = runs.get_run(uow, project, run)
    if found.tags.get(REPRODUCES_TAG) != of or run == of:
        raise InvalidInputError(f"Run {run} is no rebuild of run {of}.", field="rebuilds")
    return found


def _record_of(uow: UnitOfWork, project: str, run: str) -> RunRecord | None:
    try:
        return msgspec.convert(runs.get_record(uow, project, run), RunRecord)
    except (NotFoundError, IntegrityError, msgspec.ValidationError):
        return None


def subjects_of(uow: UnitOfWork, run: str) -> tuple[str, ...]:
    """A run and the model versions that it made, as evidence names them; asks for no permission."""
    query = select(model_version.c.uid).where(model_version.c.run == run).order_by(model_version.c.uid)
    return (f"run:{run}", *(f"model-version:{uid}" for uid in uow.conn.execute(query).scalars()))


def _measure(uow: UnitOfWork, before: ValueRef, after: ValueRef) -> float | None:
    if sum(file.bytes for ref in (before, after) for file in ref.files) > RESULT_BYTES_MAX:
        return None
    try:
        old, new = (
            {file.path: serialisers.bytes_of(file, uow.blobs.get_bytes) for file in ref.files}
            for ref in (before, after)
        )
        return largest_difference(before.kind, old, new)
    except (EverlineError, ValueError, KeyError):
        return None


def sign(
    uow: UnitOfWork,
    project: str,
    statement: dict[str, Any],
    *,
    kind: str,
    subject: str,
    level: str | None = None,
    verdict: str,
) -> tuple[str, str]:
    """Sign a statement with the server's key and keep it; asks for no permission.

    Returns:
        The certificate's uid, and the digest of its envelope.
    """
    envelope = dsse_sign(server_key(uow.settings), PAYLOAD_TYPE, canonical_json(statement))
    digest = uow.blobs.put_bytes(canonical_json(envelope))
    row = {
        "uid": new_uid(),
        "project": project,
        "kind": kind,
        "subject": subject,
        "level": level,
        "verdict": verdict,
        "digest": digest,
        "created_at": uow.clock.now(),
        "created_by": uow.actor.name,
    }
    uow.conn.execute(tables.certificate.insert().values(row))
    uow.record(
        f"{kind}.certify",
        subject=subject,
        project=project,
        certificate=row["uid"],
        digest=digest,
        level=level,
        verdict=verdict,
    )
    return str(row["uid"]), digest
