"""Certificates as in-toto statements with the test-result predicate, to be wrapped in DSSE envelopes.

Source: in-toto attestation framework, Statement v1 and predicate test-result v0.1.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from everline.canonical import canonical_digest
from everline.clock import rfc3339
from everline.reproduction.types import REPLAY_LEVELS, Replay, Reproduction, Verdict

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
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
        "notRecorded": list(report.not_recorded),
        "steps": [_plain(step) for step in report.steps],
        "reason": report.reason,
        "by": actor,
        "at": rfc3339(at),
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
