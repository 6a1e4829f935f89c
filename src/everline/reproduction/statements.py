"""Certificates as in-toto statements with the test-result predicate, to be wrapped in DSSE envelopes.

Source: in-toto attestation framework, Statement v1 and predicate test-result v0.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from everline.canonical import canonical_digest
from everline.clock import rfc3339
from everline.errors import IntegrityError, InvalidInputError
from everline.governance.signing import VerifyKey, dsse_verify
from everline.reproduction.types import REPLAY_LEVELS, Replay, Reproduction, Verdict

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
CERTIFICATE_BYTES_MAX = 64 << 20
_RESULTS = {
    Verdict.IDENTICAL: "PASSED",
    Verdict.EQUIVALENT: "WARNED",
    Verdict.DIVERGED: "FAILED",
    Verdict.UNVERIFIABLE: "FAILED",
}


def reproduction_statement(report: Reproduction, *, actor: str, at: datetime) -> dict[str, Any]:
    """State how far the rebuild of a run came: each level is a test, passed or failed.

    The subject is the run, by the digest of its record, with every step output that was compared.
    """
    record = (report.record_digest or canonical_digest({"run": report.run})).removeprefix("sha256:")
    subject = [{"name": f"run:{report.run}", "digest": {"sha256": record}}]
    for step in report.steps:
        for index, digest in enumerate(step.recorded):
            name = f"run:{report.run}/{step.name}" + (f".{index}" if len(step.recorded) > 1 else "")
            subject.append({"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}})
    facts = {
        "level": report.level,
        "verdict": report.verdict.value,
        "firstDifference": _plain(report.first_difference),
        "environment": list(report.environment),
        "hardware": list(report.hardware),
        "rebuilds": list(report.rebuilds),
        "repeats": list(report.repeats),
        "bands": [_plain(band) for band in report.bands],
        "undeclared": list(report.undeclared),
        "notRecorded": list(report.not_recorded),
        "steps": [_plain(step) for step in report.steps],
        "reason": report.reason,
        "by": actor,
        "at": rfc3339(at),
        "levels": [_plain(check) for check in report.checks],
    }
    return test_result(
        subject,
        result=_RESULTS[report.verdict],
        configuration=[{"name": "record", "digest": {"sha256": record}}],
        passed=[check.level for check in report.checks if check.earned],
        failed=[check.level for check in report.checks if not check.earned],
        facts=facts,
    )


def replay_statement(replay: Replay, *, actor: str, at: datetime) -> dict[str, Any]:
    """State how far the replay of a prediction came.

    The subject is the prediction, by the digest of its logged outputs; the configuration is the package.
    """
    logged = canonical_digest(replay.logged).removeprefix("sha256:")
    package = (replay.package or "").removeprefix("sha256:")
    reached = REPLAY_LEVELS.index(replay.level) if replay.level else -1
    facts = {
        "level": replay.level,
        "verdict": replay.verdict.value,
        "firstDifference": _plain(replay.first_difference),
        "release": replay.release,
        "revision": replay.revision,
        "endpoint": replay.endpoint,
        "replayed": replay.replayed,
        "reason": replay.reason,
        "by": actor,
        "at": rfc3339(at),
    }
    return test_result(
        [{"name": f"prediction:{replay.prediction}", "digest": {"sha256": logged}}],
        result=_RESULTS[replay.verdict],
        configuration=[{"name": "package", "digest": {"sha256": package}}] if package else [],
        passed=list(REPLAY_LEVELS[: reached + 1]),
        failed=list(REPLAY_LEVELS[reached + 1 : 4]),
        facts=facts,
    )


def read_certificate(path: Path, key: VerifyKey) -> dict[str, Any]:
    """The statement in a certificate's file, once `key` is shown to have signed it; asks no server.

    Args:
        path: a DSSE envelope, or what `GET /api/v1/certificates/UID` answers, as JSON.

    Raises:
        InvalidInputError: no such file, or no certificate in it.
        IntegrityError: not signed by `key`, or changed since.
    """
    try:
        if path.stat().st_size > CERTIFICATE_BYTES_MAX:
            raise InvalidInputError(f"The file {path} is too long for a certificate.", field="certificate")
        found = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"The file {path} is no certificate: {error}.",
            hint="Its page in the console has it for download, and `GET /api/v1/certificates/UID` answers with it.",
            field="certificate",
        ) from error
    envelope = found.get("envelope", found) if isinstance(found, dict) else None
    if not isinstance(envelope, Mapping):
        raise IntegrityError("The signed statement is not a whole DSSE envelope.")
    statement = msgspec.json.decode(dsse_verify(envelope, key, payload_type=PAYLOAD_TYPE))
    if statement.get("_type") != STATEMENT_TYPE or statement.get("predicateType") != PREDICATE_TYPE:
        raise IntegrityError("It is signed, but no statement about a rebuild or replay.")
    return dict(statement)


def test_result(
    subject: list[dict[str, Any]],
    *,
    result: str,
    configuration: list[dict[str, Any]],
    passed: list[str],
    failed: list[str],
    facts: dict[str, Any],
) -> dict[str, Any]:
    """An in-toto statement with the test-result predicate; `facts` are what it says beyond the standard."""
    predicate = {
        "result": result,
        "configuration": configuration,
        "passedTests": passed,
        "failedTests": failed,
        "everline": facts,
    }
    return {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": PREDICATE_TYPE, "predicate": predicate}


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)
