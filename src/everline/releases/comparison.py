"""Champion and challenger on the same rows, recorded as evidence that a release can rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from everline.access.declare import act
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, TooLargeError
from everline.governance import evidence
from everline.models import comparison, service
from everline.models.slices import compare_slices
from everline.models.types import Comparison
from everline.releases.gate import current_champion

_OF_SLICE = ("by", "value", "n", "difference", "low", "high", "verdict")
_RECORDED = ("metric", "n", "champion_value", "challenger_value", "difference", "low", "high", "level", "method")


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
    evidence.attach(uow, subject=f"model-version:{found.uid}", kind="comparison", body=body, project=project)
    return result
