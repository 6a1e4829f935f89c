"""Champion and challenger on the same rows, recorded as evidence that a release can rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from everline.access.declare import act
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.clock import rfc3339
from everline.errors import ConflictError, TooLargeError
from everline.governance import evidence
from everline.models import comparison, service
from everline.models.slices import compare_slices
from everline.models.types import Comparison, TrackedVersion
from everline.releases.gate import current_champion
from everline.releases.types import Champion
from everline.reproduction import service as reproduction
from everline.reproduction.statements import test_result

_OF_SLICE = ("by", "value", "n", "difference", "low", "high", "verdict")
_RECORDED = (
    "metric",
    "n",
    "champion_value",
    "challenger_value",
    "difference",
    "low",
    "high",
    "level",
    "method",
    "verdict",
)


@act
def compare(
    uow: UnitOfWork,
    *,
    project: str,
    endpoint: str,
    model: str,
    version: int | str,
    outcome: Sequence[float],
    champion: Sequence[float],
    challenger: Sequence[float],
    metric: str = "log_loss",
    blocks: Sequence[str] | Sequence[int] | None = None,
    slices: Mapping[str, Sequence[str | None]] | None = None,
) -> Comparison:
    """Compare a version with what answers the endpoint now, and attach the result to it as evidence.

    Args:
        outcome: 0 or 1 per row.
        champion: the champion's probability per row, for the same rows.
        challenger: the version's probability per row.
        metric: `log_loss`, `error_rate` or `auc`.
        blocks: one label per row, such as the day; rows of one block are not independent.
        slices: by column, its value for each row; each slice is compared too, with intervals that hold together.

    Raises:
        ConflictError: nothing answers the endpoint, or the version itself does.
        TooLargeError: more than `comparison_rows_max` rows.
        InvalidInputError: a shape, range or count is wrong.
    """
    uow.require(Permission.EVIDENCE_WRITE, project)
    if len(outcome) > uow.settings.comparison_rows_max:
        raise TooLargeError(
            f"{len(outcome)} rows are more than {uow.settings.comparison_rows_max}.",
            hint="Compare on a sample.",
            field="outcome",
        )
    found = service.get_version(uow, project, model, version)
    standing = current_champion(uow, project, endpoint)
    if standing is None or standing.package == found.package:
        raise ConflictError(
            f"There is no champion behind {endpoint!r} to compare {model}/{found.version} with.",
            hint="The first release of an endpoint needs no comparison.",
            field="endpoint",
        )
    result = comparison.compare(outcome, champion, challenger, metric=metric, blocks=blocks)
    body = {name: getattr(result, name) for name in _RECORDED}
    body |= {"champion": standing.package, "challenger": found.package}
    if slices:
        parts = compare_slices(outcome, champion, challenger, slices=slices, metric=metric, blocks=blocks)
        body["slices"] = [{name: getattr(one, name) for name in _OF_SLICE} for one in parts]
        body["worse_slices"] = sum(one.verdict == "worse" for one in parts)
    body["certificate"], body["digest"] = _certified(uow, project, found, standing, endpoint=endpoint, body=body)
    evidence.attach(uow, subject=f"model-version:{found.uid}", kind="comparison", body=body, project=project)
    return result


def _certified(
    uow: UnitOfWork, project: str, found: TrackedVersion, standing: Champion, *, endpoint: str, body: dict[str, Any]
) -> tuple[str, str]:
    """Sign a comparison: the challenger, by its package, measured beside the champion's."""
    statement = test_result(
        [{"name": found.subject, "digest": {"sha256": (found.package or "").removeprefix("sha256:")}}],
        result="PASSED" if body["verdict"] != "worse" else "FAILED",
        configuration=[{"name": "champion", "digest": {"sha256": standing.package.removeprefix("sha256:")}}],
        passed=["compared"],
        failed=[],
        facts={**body, "endpoint": endpoint, "by": uow.actor.name, "at": rfc3339(uow.clock.now())},
    )
    return reproduction.sign(
        uow, project, statement, kind="comparison", subject=found.subject, verdict=str(body["verdict"])
    )
