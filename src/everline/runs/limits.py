"""What may be logged: MLflow's rules for names, lengths and counts, in one place.

The limits are those of MLflow 3 (`mlflow/utils/validation.py`), so that whatever its clients may send is
taken, and whatever its server refuses is refused here for the same reason.
"""

from __future__ import annotations

import functools
import json
import posixpath
import re
from collections.abc import Mapping, Sequence

from everline.errors import InvalidInputError
from everline.runs.types import Metric, RunInput, RunOutput

KEY_CHARACTERS_MAX = 250
PARAM_VALUE_CHARACTERS_MAX = 6_000
TAG_VALUE_CHARACTERS_MAX = 8_000
EXPERIMENT_NAME_CHARACTERS_MAX = 500
EXPERIMENT_TAG_CHARACTERS_MAX = 20_000
METRICS_PER_BATCH_MAX = 1_000
PAIRS_PER_BATCH_MAX = 100
ENTITIES_PER_BATCH_MAX = 1_000
DATASETS_PER_BATCH_MAX = 1_000
DATASET_NAME_CHARACTERS_MAX = 500
DATASET_DIGEST_CHARACTERS_MAX = 128
DATASET_SOURCE_TYPE_CHARACTERS_MAX = 64
DATASET_SOURCE_CHARACTERS_MAX = 65_535
DATASET_SCHEMA_CHARACTERS_MAX = 1_048_575
DATASET_PROFILE_CHARACTERS_MAX = 16_777_215
INPUT_TAG_KEY_CHARACTERS_MAX = 255
INPUT_TAG_VALUE_CHARACTERS_MAX = 500
ARTIFACT_PATH_CHARACTERS_MAX = 900
LONG_MAX = 2**63 - 1

_KEY = re.compile(r"[/\w.\- :]*")
_RUN_UID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")
_CHARACTERS = (
    "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), "
    "spaces ( ), colon(:) and slashes (/)."
)


def check_key(name: str, *, field: str, called: str = "") -> str:
    """Return `name` if it can name a metric, parameter or tag; `called` is what a name that is too long is called."""
    if _can_be_key(name):
        return name
    shown = json.dumps(name[:300])
    if not _KEY.fullmatch(name):
        raise InvalidInputError(f"Invalid value {shown} for parameter '{field}' supplied: {_CHARACTERS}", field=field)
    normal = posixpath.normpath(name)
    if normal != name or normal == "." or normal.startswith(("..", "/")):
        raise InvalidInputError(
            f"Invalid value {shown} for parameter '{field}' supplied: Names may be treated as files in certain "
            "cases, and must not resolve to other names when treated as such. "
            f"This name would resolve to {normal[:300]!r}",
            field=field,
        )
    return check_length(name, limit=KEY_CHARACTERS_MAX, field=field, called=called)


@functools.lru_cache(maxsize=4096)
def _can_be_key(name: str) -> bool:
    """Whether a name passes; the same few names come again and again."""
    plain = len(name) <= KEY_CHARACTERS_MAX and _KEY.fullmatch(name) is not None and name.isascii()
    return plain and posixpath.normpath(name) == name and name != "." and not name.startswith(("..", "/"))


def check_length(value: str, *, limit: int, field: str, called: str = "") -> str:
    """Return `value` if it has at most `limit` characters and can be kept as text."""
    if len(value) > limit:
        raise InvalidInputError(f"'{called or field}' exceeds the maximum length of {limit} characters", field=field)
    if "\x00" in value:
        raise InvalidInputError(f"'{field}' contains a NUL character, which cannot be stored as text.", field=field)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidInputError(
                f"'{field}' contains half of a character (a lone surrogate), which is no text.", field=field
            ) from None
    return value


def check_long(value: int, *, field: str) -> int:
    """Return `value` if it fits 64 bits."""
    if not -LONG_MAX - 1 <= value <= LONG_MAX:
        raise InvalidInputError(
            f"Invalid value {value} for parameter '{field}' supplied: it needs more than 64 bits.", field=field
        )
    return value


def check_pairs(pairs: Mapping[str, str], *, limit: int, field: str) -> None:
    """Check the keys and values of parameters or tags."""
    called = "Param key" if field == "params" else ""
    for index, (key, value) in enumerate(pairs.items()):
        check_key(key, field=f"{field}[{index}].key", called=called)
        check_length(value, limit=limit, field=f"{field}[{index}].value")


def check_metrics(metrics: Sequence[Metric]) -> None:
    """Check keys, times and steps; every double is allowed as a value, also NaN and the infinities."""
    checked: set[str] = set()
    for index, metric in enumerate(metrics):
        if metric.key not in checked:
            check_key(metric.key, field=f"metrics[{index}].name", called="Metric name")
            checked.add(metric.key)
        if not 0 <= metric.at_ms <= LONG_MAX:  # the field's name is made only when it is needed
            check_time(metric, field=f"metrics[{index}].timestamp")
        if not -LONG_MAX - 1 <= metric.step <= LONG_MAX:
            raise InvalidInputError(
                f"Invalid value {metric.step} for parameter 'metrics[{index}].step' supplied: metric "
                f"'{metric.key}' (value={metric.value}). Step must be a valid long (64-bit integer).",
                field=f"metrics[{index}].step",
            )


def check_time(metric: Metric, *, field: str) -> None:
    """Check that the time of a point is not before 1970 and fits 64 bits."""
    if not 0 <= metric.at_ms <= LONG_MAX:
        raise InvalidInputError(
            f"Invalid value {metric.at_ms} for parameter '{field}' supplied: metric '{metric.key}' "
            f"(value={metric.value}). Timestamp must be a nonnegative long (64-bit integer) ",
            field=field,
        )


def check_batch(*, metrics: int, params: int, tags: int) -> None:
    """Check the numbers of things in one batch."""
    counts = (
        ("metrics", metrics, METRICS_PER_BATCH_MAX),
        ("params", params, PAIRS_PER_BATCH_MAX),
        ("tags", tags, PAIRS_PER_BATCH_MAX),
        ("metrics, params, and tags", metrics + params + tags, ENTITIES_PER_BATCH_MAX),
    )
    for what, count, limit in counts:
        if count > limit:
            raise InvalidInputError(
                f"A batch logging request can contain at most {limit} {what}. Got {count} {what}. "
                f"Please split up {what} across multiple requests and try again.",
                field=what.split(",")[0],
            )


def check_inputs(inputs: Sequence[RunInput]) -> None:
    """Check the datasets that a run says it read."""
    if len(inputs) > DATASETS_PER_BATCH_MAX:
        raise InvalidInputError(f"A request can contain at most {DATASETS_PER_BATCH_MAX} datasets.", field="datasets")
    for index, item in enumerate(inputs):
        at = f"datasets[{index}].dataset"
        for field, value, limit in (
            ("name", item.name, DATASET_NAME_CHARACTERS_MAX),
            ("digest", item.digest, DATASET_DIGEST_CHARACTERS_MAX),
        ):
            if not value:
                raise InvalidInputError(f"Missing value for required parameter '{at}.{field}'", field=f"{at}.{field}")
            check_length(value, limit=limit, field=f"{at}.{field}", called=field)
        for field, value, limit in (
            ("source_type", item.source_type, DATASET_SOURCE_TYPE_CHARACTERS_MAX),
            ("source", item.source, DATASET_SOURCE_CHARACTERS_MAX),
            ("schema", item.schema or "", DATASET_SCHEMA_CHARACTERS_MAX),
            ("profile", item.profile or "", DATASET_PROFILE_CHARACTERS_MAX),
        ):
            check_length(value, limit=limit, field=f"{at}.{field}", called=field)
        for key, value in item.tags.items():
            tag = f"datasets[{index}].tags"
            check_length(key, limit=INPUT_TAG_KEY_CHARACTERS_MAX, field=f"{tag}.key", called="key")
            check_length(value, limit=INPUT_TAG_VALUE_CHARACTERS_MAX, field=f"{tag}.value", called="value")


def check_outputs(outputs: Sequence[RunOutput]) -> None:
    """Check what a run says it made."""
    for item in outputs:
        check_length(item.name, limit=DATASET_NAME_CHARACTERS_MAX, field="outputs.name")
        check_length(item.digest, limit=DATASET_DIGEST_CHARACTERS_MAX, field="outputs.digest")
        check_length(item.kind, limit=64, field="outputs.kind")


def check_experiment_name(name: str) -> str:
    """Return `name` if it can name an experiment."""
    if not name or not name.strip():
        raise InvalidInputError(f"Invalid experiment name: '{name}'", field="name")
    return check_length(name, limit=EXPERIMENT_NAME_CHARACTERS_MAX, field="name")


def is_run_uid(run: str) -> bool:
    """Whether a text has the form of a run's uid; what has not is no run, and need not be looked for."""
    return _RUN_UID.fullmatch(run) is not None


def check_run_uid(run: str) -> str:
    """Return `run` if it has the form of a run's uid."""
    if not is_run_uid(run):
        raise InvalidInputError(
            f"Invalid value {json.dumps(run[:300])} for parameter 'run_id' supplied.", field="run_id"
        )
    return run


def check_artifact_path(path: str) -> str:
    """Return a relative artifact path in its one spelling; refuse whatever could leave its root.

    Raises:
        InvalidInputError: the path is absolute, climbs (`..`), is a URI or a Windows path, or is too long.
    """
    wrong = (
        not path
        or path.startswith(("/", "~", "\\"))
        or "\\" in path
        or "\x00" in path
        or "://" in path
        or re.match(r"[A-Za-z]:", path) is not None
        or any(part in {"", ".", ".."} for part in path.removesuffix("/").split("/"))
        or any(ord(character) < 32 for character in path)
    )
    if wrong:
        raise InvalidInputError(
            f"Invalid path: {path[:200]!r} is not a relative artifact path.",
            hint="Use names joined by single slashes, without `.`, `..`, backslashes or a drive.",
            field="path",
        )
    return check_length(path.removesuffix("/"), limit=ARTIFACT_PATH_CHARACTERS_MAX, field="path")
