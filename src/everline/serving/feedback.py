"""True outcomes of predictions: late, out of order, more than once; each kept under its prediction's id."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.canonical import canonical_digest
from everline.clock import rfc3339
from everline.errors import InvalidInputError, TooLargeError
from everline.governance import audit
from everline.ids import check_uid
from everline.serving import tables
from everline.serving.predictions import known_ids
from everline.serving.service import get_endpoint
from everline.serving.types import FeedbackReceipt, Outcome
from everline.storage.db import upsert

_IDS_PER_QUERY = 500


@act
def log_feedback(uow: UnitOfWork, items: Sequence[Outcome], *, project: str, endpoint: str) -> FeedbackReceipt:
    """Keep the true outcomes of predictions; sending a batch again changes nothing.

    A later, different outcome of one prediction replaces the earlier one and both are counted. An outcome of
    a prediction that is not logged here yet is kept and joins when its segment arrives.

    Args:
        items: 1 to `feedback_per_call_max`; of two for one prediction the last counts.

    Raises:
        InvalidInputError: an id is no identifier, or an outcome is not a finite number.
        TooLargeError: too many items.
    """
    uow.require(Permission.FEEDBACK_WRITE, project)
    get_endpoint(uow, endpoint, project=project)
    wanted = _check(uow, items)
    known = _known(uow, project, endpoint, list(wanted))
    new = [uid for uid in wanted if uid not in known]
    changed = [uid for uid in wanted if uid in known and not _same(known[uid].outcome, wanted[uid].outcome)]
    now = uow.clock.now()
    rows = [
        {
            "project": project,
            "endpoint": endpoint,
            "prediction": uid,
            "outcome": wanted[uid].outcome,
            "event_time": wanted[uid].event_time,
            "at": now,
            "replaced": known[uid].replaced + 1 if uid in known else 0,
        }
        for uid in (*new, *changed)
    ]
    keys, update = ["project", "endpoint", "prediction"], ["outcome", "event_time", "at", "replaced"]
    upsert(uow.conn, tables.feedback, rows, keys=keys, update=update)
    matched = known_ids(uow, project, endpoint, list(wanted))
    receipt = FeedbackReceipt(
        received=len(items),
        stored=len(new),
        replaced=len(changed),
        unchanged=len(items) - len(new) - len(changed),
        unmatched_yet=len(wanted) - len(matched),
    )
    if not rows:
        uow.unchanged()
        return receipt
    content = [[row["prediction"], row["outcome"]] for row in sorted(rows, key=lambda row: str(row["prediction"]))]
    audit.record(
        uow, "feedback.log", subject=f"endpoint:{endpoint}", project=project, stored=len(new), replaced=len(changed),
        unmatched_yet=receipt.unmatched_yet, content=canonical_digest(content), at=rfc3339(now),
    )  # fmt: skip
    return receipt


@read
def count_feedback(uow: UnitOfWork, endpoint: str, *, project: str) -> int:
    """How many predictions of the endpoint have an outcome."""
    uow.require(Permission.PREDICTION_READ, project)
    column = tables.feedback.c
    query = select(func.count()).where(column.project == project, column.endpoint == endpoint)
    return int(uow.conn.execute(query).scalar_one())


def _check(uow: UnitOfWork, items: Sequence[Outcome]) -> dict[str, Outcome]:
    limit = uow.settings.feedback_per_call_max
    if not items:
        raise InvalidInputError("There is no outcome in this feedback.", hint="Send at least one item.", field="items")
    if len(items) > limit:
        raise TooLargeError(
            f"{len(items)} outcomes are more than {limit}.", hint="Send them in batches.", field="items"
        )
    for place, item in enumerate(items):
        if not math.isfinite(item.outcome):
            raise InvalidInputError(
                f"The outcome of {item.prediction} is not a finite number.",
                hint="Leave out predictions whose outcome is unknown.",
                field=f"items[{place}].outcome",
            )
        if item.event_time is not None and item.event_time.tzinfo is None:
            raise InvalidInputError(
                f"The event time of {item.prediction} has no time zone.",
                hint="Write it like 2013-06-01T05:00:00Z.",
                field=f"items[{place}].event_time",
            )
    return {check_uid(item.prediction, field=f"items[{place}].prediction"): item for place, item in enumerate(items)}


def _known(uow: UnitOfWork, project: str, endpoint: str, uids: list[str]) -> dict[str, Any]:
    column = tables.feedback.c
    found: dict[str, Any] = {}
    for start in range(0, len(uids), _IDS_PER_QUERY):
        query = select(column.prediction, column.outcome, column.replaced).where(
            column.project == project,
            column.endpoint == endpoint,
            column.prediction.in_(uids[start : start + _IDS_PER_QUERY]),
        )
        found |= {row.prediction: row for row in uow.conn.execute(query)}
    return found


def _same(first: float | bool, second: float | bool) -> bool:
    return type(first) is type(second) and first == second
