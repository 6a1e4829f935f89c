"""An explanation as an in-toto statement with the test-result predicate."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from everline.clock import rfc3339
from everline.reproduction.explaining.types import Explanation, Finding
from everline.reproduction.statements import test_result

_RESULTS = {Finding.EXPLAINED: "PASSED", Finding.NO_CHANGE: "PASSED", Finding.WITHIN_NOISE: "WARNED"}


def explanation_statement(
    found: Explanation, *, records: Mapping[str, str], actor: str, at: datetime
) -> dict[str, Any]:
    """State what caused the change of a metric.

    Args:
        records: the digest of what each run recorded, by uid: of both runs and of every mixture.
    """
    facts = msgspec.to_builtins(found)
    facts.pop("certificate")
    return test_result(
        [
            {"name": f"run:{uid}", "digest": {"sha256": digest.removeprefix("sha256:")}}
            for uid, digest in records.items()
        ],
        result=_RESULTS.get(found.finding, "FAILED"),
        configuration=[],
        passed=[found.finding.value] if found.finding in _RESULTS else [],
        failed=[] if found.finding in _RESULTS else [found.finding.value],
        facts={**facts, "by": actor, "at": rfc3339(at)},
    )
