"""Metrics that say which logged model they are of: points of their run, kept beside the model as well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from everline.access.declare import stream
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import EverlineError, InvalidInputError
from everline.models.logged import rows
from everline.models.tables import logged_model_metric
from everline.models.types import ModelMetric
from everline.runs import rows as run_rows
from everline.runs import tracking
from everline.runs.limits import DATASET_DIGEST_CHARACTERS_MAX, DATASET_NAME_CHARACTERS_MAX, check_length
from everline.runs.types import Batch
from everline.storage.db import upsert


@stream
def log_many(uow: UnitOfWork, project: str, batches: Sequence[Batch]) -> list[EverlineError | None]:
    """Log batches of active runs together, as `runs.tracking.log_many` does, and what they say of logged models.

    Returns:
        For each batch None, or why it was refused: a batch that names an unknown logged model is refused whole.
    """
    uow.require(Permission.RUN_WRITE, project)
    measured = [_measured(batch) for batch in batches]
    if not any(measured):
        return tracking.log_many(uow, project, batches)
    known = rows.numbers(uow, project, sorted({str(one.model_id) for points in measured for one in points}))
    refusals = [_refusal(points, known) for points in measured]
    answers = iter(
        tracking.log_many(
            uow, project, [batch for batch, refused in zip(batches, refusals, strict=True) if refused is None]
        )
    )
    results = [next(answers) if refused is None else refused for refused in refusals]
    kept = [
        (batch.run, points)
        for batch, points, result in zip(batches, measured, results, strict=True)
        if result is None and points
    ]
    _put(uow, project, kept, known)
    return results


def _measured(batch: Batch) -> list[ModelMetric]:
    return [one for one in batch.metrics if isinstance(one, ModelMetric) and (one.model_id or one.dataset_name)]


def _refusal(points: Iterable[ModelMetric], known: dict[str, int]) -> EverlineError | None:
    for one in points:
        if bool(one.dataset_name) != bool(one.dataset_digest):
            return InvalidInputError(
                "Both dataset_name and dataset_digest must be provided if one is provided", field="dataset_digest"
            )
        try:
            check_length(one.dataset_name or "", limit=DATASET_NAME_CHARACTERS_MAX, field="dataset_name")
            check_length(one.dataset_digest or "", limit=DATASET_DIGEST_CHARACTERS_MAX, field="dataset_digest")
        except InvalidInputError as error:
            return error
        if one.model_id and one.model_id not in known:
            return rows.not_found(one.model_id)
    return None


def _put(
    uow: UnitOfWork, project: str, kept: Sequence[tuple[str, Sequence[ModelMetric]]], known: dict[str, int]
) -> None:
    """Add points; the same model, metric, step, time and run again is no new point."""
    named = [(run, one) for run, points in kept for one in points if one.model_id]
    if not named:
        return
    runs = run_rows.find_runs(uow, project, {run for run, _ in named})
    keys = tracking.key_numbers(uow, {one.key for _, one in named})
    values = []
    for run, one in named:
        number, key, at_ms, step, value, is_nan = tracking.point(runs[run]["id"], keys[one.key], one)
        values.append(
            {
                "logged_model": known[str(one.model_id)],
                "key": key,
                "step": step,
                "at_ms": at_ms,
                "run": number,
                "value": value,
                "is_nan": is_nan,
                "dataset_name": one.dataset_name or None,
                "dataset_digest": one.dataset_digest or None,
            }
        )
    upsert(uow.conn, logged_model_metric, values, keys=["logged_model", "key", "step", "at_ms", "run"])
