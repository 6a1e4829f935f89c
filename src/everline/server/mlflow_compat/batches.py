"""What MLflow's clients log to a run, read fast where it has the shape that they send.

Training loops call these more than everything else together. A body that is exactly as the protocol writes it is
decoded in one step into our own values; everything else (numbers as text, NaN, other spellings, faults) is
read by `Fields`, which is lenient and says what is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from everline.errors import InvalidInputError
from everline.models.types import ModelMetric
from everline.runs import limits
from everline.runs.types import Batch, Metric, Pair
from everline.server.http import Request
from everline.server.mlflow_compat.values import metric_of
from everline.server.mlflow_compat.wire import Fields, check_content_type

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Long = Annotated[int, msgspec.Meta(ge=-limits.LONG_MAX - 1, le=limits.LONG_MAX)]


class _Metric(ModelMetric, frozen=True, kw_only=True):
    """`mlflow.Metric`; `rename=` would leave inherited fields as they are, so they are declared anew."""

    key: _Text
    at_ms: _Long = msgspec.field(name="timestamp")
    step: _Long = 0


class _Pair(Pair, frozen=True, kw_only=True):
    """`mlflow.Param` and `mlflow.RunTag`."""

    key: _Text


class _LogMetric(_Metric, frozen=True, kw_only=True):
    """`mlflow.LogMetric`."""

    run_id: _Text


class _LogBatch(msgspec.Struct, frozen=True, kw_only=True):
    """`mlflow.LogBatch`."""

    run_id: _Text
    metrics: list[_Metric] = []
    params: list[_Pair] = []
    tags: list[_Pair] = []


_metric = msgspec.json.Decoder(_LogMetric)
_batch = msgspec.json.Decoder(_LogBatch)


def metric(request: Request) -> Batch:
    """Read `runs/log-metric`."""
    try:
        given = _metric.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    else:
        check_content_type(request)
        return _of_one(given.run_id, given)
    fields = Fields.of(request)
    run = fields.text("run_id") or fields.text("run_uuid") or fields.required("run_id")
    return _of_one(run, metric_of(fields))


def batch(request: Request) -> Batch:
    """Read `runs/log-batch`."""
    try:
        given = _batch.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    else:
        check_content_type(request)
        return _checked(given.run_id, given.metrics, given.params, given.tags)
    fields = Fields.of(request)
    return _checked(
        fields.required("run_id"),
        [metric_of(item) for item in fields.messages("metrics")],
        [Pair(key=item.required("key"), value=item.text("value")) for item in fields.messages("params")],
        [Pair(key=item.required("key"), value=item.text("value")) for item in fields.messages("tags")],
    )


def shortened(values: Mapping[str, str], *, limit: int) -> dict[str, str]:
    """Values cut at MLflow's limit, as its server does by default; our own API refuses them instead."""
    return {key: value[:limit] for key, value in values.items()}


def pair(request: Request, *, called: str) -> tuple[str, str, str]:
    """Read `runs/log-parameter` or `runs/set-tag`: run, key and value."""
    fields = Fields.of(request)
    run = fields.text("run_id") or fields.text("run_uuid") or fields.required("run_id")
    return run, limits.check_key(fields.required("key"), field="key", called=called), fields.text("value")


def parameters_twice(keys: Sequence[str]) -> InvalidInputError:
    """What to say when a parameter comes twice in one request."""
    twice = sorted(key for key, times in Counter(keys).items() if times > 1)[:20]
    return InvalidInputError(
        f"Duplicate parameter keys have been submitted: {twice}. "
        "Please ensure the request contains only one param value per param key.",
        field="params",
    )


def _of_one(run: str, point: Metric) -> Batch:
    """A batch of one, checked here, so that what is refused is named as the client named it."""
    limits.check_key(point.key, field="name", called="Metric name")
    limits.check_time(point, field="timestamp")
    return Batch(run=run, metrics=[point])


def _checked(run: str, metrics: Sequence[Metric], params: Sequence[Pair], tags: Sequence[Pair]) -> Batch:
    named = {item.key: item.value for item in params}
    if len(named) != len(params):
        raise parameters_twice([item.key for item in params])
    limits.check_run_uid(run)
    limits.check_batch(metrics=len(metrics), params=len(params), tags=len(tags))
    return Batch(
        run=run,
        metrics=metrics,
        params=shortened(named, limit=limits.PARAM_VALUE_CHARACTERS_MAX),
        tags=shortened({item.key: item.value for item in tags}, limit=limits.TAG_VALUE_CHARACTERS_MAX),
    )
