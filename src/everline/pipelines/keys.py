"""The step key: the digest of everything a result depends on. Names, times and places are not in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from everline.canonical import canonical_digest
from everline.errors import InvalidInputError
from everline.ids import digest_file
from everline.pipelines.codedigest import CodeDigest
from everline.pipelines.spec import Options
from everline.pipelines.types import KeyMaterial

_WHOLE_MAX = 2**53
SCHEMA = 1


def material_of(code: CodeDigest, inputs: dict[str, Any], *, environment: str, threads: int = 1) -> KeyMaterial:
    """Put together what a step depends on; `inputs` holds `{"digest": …}` for results and plain values else.

    Args:
        environment: digest of the run's environment, or of the step's own if it has one.
    """
    return KeyMaterial(
        code=code.digest,
        environment=environment,
        threads=threads,
        parts=code.parts,
        inputs={k: plain(v, k) for k, v in inputs.items()},
    )


def step_key(material: KeyMaterial) -> str:
    """The key under which a result is kept: equal code, inputs and environment, equal key."""
    return canonical_digest({
        "schema": SCHEMA, "code": material.code, "inputs": material.inputs, "environment": material.environment,
        "threads": material.threads,
    })  # fmt: skip


def declared(options: Options, *, root: Path) -> dict[str, Any]:
    """What a step depends on beside its arguments: variables by value, files by content, under names no argument has.

    Args:
        root: the project's folder.

    Raises:
        InvalidInputError: a file is not there, or lies outside the project.
    """
    found: dict[str, Any] = {f"variable {name}": os.environ.get(name) for name in options.variables}
    for name in options.files:
        path = (root / name).resolve()
        if not path.is_relative_to(root.resolve()) or not path.is_file():
            raise InvalidInputError(
                f"The file {name!r} that a step declares is not in the project {root}.",
                hint="Name it relative to the folder with everline.toml.",
                field="files",
            )
        found[f"file {name}"] = path
    return found


def plain(value: Any, name: str = "value") -> Any:
    """A parameter as JSON that stands for its content: a file counts by its bytes, not its path.

    Raises:
        InvalidInputError: the value has no JSON form, so no digest either.
    """
    if isinstance(value, bool | str | None):
        return value
    if isinstance(value, int):
        return value if abs(value) < _WHOLE_MAX else {"int": str(value)}
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else {"float": repr(value)}
    if isinstance(value, Path):
        return {"file": digest_file(value)} if value.is_file() else {"path": str(value)}
    if isinstance(value, list | tuple):
        return [plain(item, name) for item in value]
    if isinstance(value, set | frozenset):
        return {"set": sorted((plain(item, name) for item in value), key=repr)}
    if isinstance(value, dict):
        return {str(key): plain(item, name) for key, item in value.items()}
    try:
        return plain(msgspec.to_builtins(value), name)
    except TypeError:
        raise InvalidInputError(
            f"The value of {name!r} is a {type(value).__name__}, which has no digest.",
            hint="Give steps plain values, or make the object inside a step and pass its result.",
            field=name,
        ) from None


def why(now: KeyMaterial, before: KeyMaterial | None) -> str:
    """Name what changed since the step last ran, in one sentence; empty if nothing did.

    Example:
        >>> old = KeyMaterial(code="a", environment="e", inputs={"rows": 10})
        >>> why(KeyMaterial(code="a", environment="e", inputs={"rows": 20}), old)
        'input rows changed from 10 to 20'
    """
    if before is None:
        return "it never ran before"
    reasons = []
    if now.code != before.code:
        names = sorted({*now.parts, *before.parts})
        changed = [name for name in names if now.parts.get(name) != before.parts.get(name)]
        reasons.append(f"code changed: {', '.join(changed) or 'the step'}")
    for name in sorted({*now.inputs, *before.inputs}):
        old, new = before.inputs.get(name), now.inputs.get(name)
        if old != new:
            reasons.append(f"input {name} changed from {_short(old)} to {_short(new)}")
    if now.threads != before.threads:
        reasons.append(f"its threads changed from {before.threads} to {now.threads}")
    if now.environment != before.environment:
        reasons.append("the environment changed (Python or an installed package)")
    return "; ".join(reasons)


def _short(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"digest"}:
        return str(value["digest"])[:15]
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
