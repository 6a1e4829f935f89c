"""What models, aliases and their tags may be called: MLflow's rules."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

from everline.errors import InvalidInputError
from everline.runs.limits import check_key, check_length

MODEL_NAME_CHARACTERS_MAX = 256
ALIAS_CHARACTERS_MAX = 255
TAG_VALUE_CHARACTERS_MAX = 100_000

_ALIAS = re.compile(r"[\w\-]+")
_VERSION_ALIAS = re.compile(r"[vV]\d+")


def check_model_name(name: str, *, field: str = "name") -> str:
    """Return `name` if it can name a model."""
    if not name or not name.strip():
        raise InvalidInputError(f"Missing value for required parameter '{field}'.", field=field)
    if "/" in name or ":" in name:
        raise InvalidInputError(f"Invalid model name '{name[:200]}'. Names cannot contain '/' or ':'.", field=field)
    normal = posixpath.normpath(name)
    if normal != name or name.startswith("..") or name == "." or not name.isprintable():
        raise InvalidInputError(
            f"Invalid value \"{name[:200]}\" for parameter 'name' supplied: Names may be treated as files in certain "
            f"cases, and must not resolve to other names when treated as such. This name would resolve to "
            f"{normal[:200]!r}",
            field=field,
        )
    return check_length(name, limit=MODEL_NAME_CHARACTERS_MAX, field=field)


def check_alias(alias: str, *, reserved: bool = False) -> str:
    """Return `alias` if it can be one; `latest` and `v1` mean versions and are refused unless `reserved`."""
    if not alias:
        raise InvalidInputError("Registered model alias name cannot be empty.", field="alias")
    if not _ALIAS.fullmatch(alias):
        raise InvalidInputError(
            f"Invalid alias name: '{alias[:200]}'. "
            "Names may only contain alphanumerics, underscores (_), and dashes (-).",
            field="alias",
        )
    if not reserved and alias.lower() == "latest":
        raise InvalidInputError("'latest' alias name (case insensitive) is reserved.", field="alias")
    if not reserved and _VERSION_ALIAS.fullmatch(alias):
        raise InvalidInputError(f"Version alias name '{alias}' is reserved.", field="alias")
    return check_length(alias, limit=ALIAS_CHARACTERS_MAX, field="alias", called="Registered model alias name")


def check_tags(tags: Mapping[str, str]) -> None:
    """Check tags of models and versions."""
    for key, value in tags.items():
        check_key(key, field="key")
        check_length(value, limit=TAG_VALUE_CHARACTERS_MAX, field="value")
