"""Streams of metrics: what `everline.run()` sends, many points at once, each taken exactly once.

A stream is what one process logs to one run. Its batches are numbered from 1; the highest number that was
taken is kept beside the run in the same transaction as the points, so that a batch that is sent again after a
lost answer is told from a new one. Unlike a batch of `runs.tracking`, a stream is not all or nothing: its sender is
not there any more when a rule is broken, so that what breaks one is named in the answer and the rest is kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

from sqlalchemy import select, update

from everline.access.declare import stream
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError, TooLargeError
from everline.runs import limits, rows, tracking
from everline.runs.columns import Refusal, Series, StreamAnswer, StreamBatch
from everline.runs.tables import run_stream
from everline.storage.db import upsert

_STREAM = re.compile("[0-9a-f]{32}")


@stream
def append(uow: UnitOfWork, project: str, uid: str, *, stream: str, batches: Sequence[StreamBatch]) -> StreamAnswer:
    """Take the next batches of a stream.

    Args:
        stream: 32 hexadecimal digits that the writer made up.
        batches: in ascending order of their numbers; those that were taken before are passed over.

    Raises:
        InvalidInputError: the run is deleted, the numbers do not ascend from 1, or columns are broken; nothing is kept.
        TooLargeError: more than `stream_rows_max` points.
    """
    row = rows.writable_run(uow, project, uid)
    _check_order(stream, batches)
    total = sum(part.rows for batch in batches for part in batch.series)
    if total > uow.settings.stream_rows_max:
        raise TooLargeError(
            f"{total} points came at once; at most {uow.settings.stream_rows_max} are allowed.",
            hint="Send them in several requests.",
        )
    taken = _taken(uow, row["id"], stream)
    fresh = [batch for batch in batches if batch.sequence > taken]
    if not fresh:
        return StreamAnswer(acknowledged=taken, points=0)
    refused: list[Refusal] = []
    points = _put_series(uow, row["id"], fresh, refused)
    for batch in fresh:
        _put_rest(uow, project, uid, batch, refused)
    last = fresh[-1].sequence
    mine = (run_stream.c.run == row["id"], run_stream.c.stream == stream)
    uow.conn.execute(update(run_stream).where(*mine).values(sequence=last))
    return StreamAnswer(acknowledged=last, points=points, refused=refused)


def _check_order(stream: str, batches: Sequence[StreamBatch]) -> None:
    if not _STREAM.fullmatch(stream):
        raise InvalidInputError("A stream is named by 32 hexadecimal digits in lower case.", field="stream")
    before = 0
    for batch in batches:
        if not before < batch.sequence <= limits.LONG_MAX:
            raise InvalidInputError(
                f"Batch {batch.sequence} follows batch {before}: numbers ascend from 1.", field="sequence"
            )
        before = batch.sequence


def _taken(uow: UnitOfWork, number: int, stream: str) -> int:
    """The last batch that was taken; the row is locked, so that the same batch sent twice at once waits for itself."""
    upsert(uow.conn, run_stream, [{"run": number, "stream": stream, "sequence": 0}], keys=["run", "stream"])
    mine = (run_stream.c.run == number, run_stream.c.stream == stream)
    found: int = uow.conn.execute(select(run_stream.c.sequence).where(*mine).with_for_update()).scalar_one()
    return found


def _put_series(uow: UnitOfWork, number: int, batches: Sequence[StreamBatch], refused: list[Refusal]) -> int:
    """Add the points of all batches in two statements; return how many came."""
    good: list[tuple[Series, Any]] = []
    for batch in batches:
        for part in batch.series:
            columns = part.columns()
            try:
                limits.check_key(part.key, field="metric")
                if columns[1] and min(columns[1]) < 0:
                    raise InvalidInputError(
                        f"Metric {part.key!r} has a time before 1970.", hint="Times are milliseconds since 1970."
                    )
            except InvalidInputError as error:
                refused.append(_refusal(batch, f"metrics.{part.key[:80]}", error))
            else:
                good.append((part, columns))
    keys = tracking.key_numbers(uow, {part.key for part, _ in good})
    points = [point for part, columns in good for point in _points(number, keys[part.key], columns)]
    tracking.put_points(uow, points)
    return len(points)


def _points(number: int, key: int, columns: Any) -> Iterator[tracking.Point]:
    """Rows of a series; NaN and infinities become what databases can keep."""
    steps, at_ms, values = columns
    if math.isfinite(sum(values)):  # then each of them is
        return zip(repeat(number), repeat(key), at_ms, steps, values, repeat(0))
    not_numbers = [int(value != value) for value in values]
    kept = [
        0.0 if nan else min(max(value, -tracking.DOUBLE_MAX), tracking.DOUBLE_MAX)
        for value, nan in zip(values, not_numbers, strict=True)
    ]
    return zip(repeat(number), repeat(key), at_ms, steps, kept, not_numbers)


def _put_rest(uow: UnitOfWork, project: str, uid: str, batch: StreamBatch, refused: list[Refusal]) -> None:
    """Parameters, tags and inputs: rare, so by the way of all others, together or else one by one."""

    def put_params(params: Mapping[str, str]) -> None:
        tracking.log_batch(uow, project, uid, params=params)

    def put_tags(tags: Mapping[str, str]) -> None:
        tracking.log_batch(uow, project, uid, tags=tags)

    _put_pairs(batch, "params", batch.params, put_params, refused)
    _put_pairs(batch, "tags", batch.tags, put_tags, refused)
    for item in batch.inputs:
        try:
            tracking.log_batch(uow, project, uid, inputs=[item])
        except InvalidInputError as error:
            refused.append(_refusal(batch, f"inputs.{item.name[:80]}", error))


def _put_pairs(
    batch: StreamBatch,
    word: str,
    pairs: Mapping[str, str],
    put: Callable[[Mapping[str, str]], None],
    refused: list[Refusal],
) -> None:
    items = list(pairs.items())
    for start in range(0, len(items), limits.PAIRS_PER_BATCH_MAX):
        part = dict(items[start : start + limits.PAIRS_PER_BATCH_MAX])
        try:
            put(part)
        except InvalidInputError:
            for key, value in part.items():
                try:
                    put({key: value})
                except InvalidInputError as error:
                    refused.append(_refusal(batch, f"{word}.{key[:80]}", error))


def _refusal(batch: StreamBatch, field: str, error: InvalidInputError) -> Refusal:
    return Refusal(sequence=batch.sequence, field=field, message=error.message, hint=error.hint)
