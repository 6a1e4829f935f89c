"""What a release changes against the champion, told from both packages, and which class of change that is.

Rules that hold here:
1. The class is computed from digests and words in the signed manifests, never chosen by whoever releases.
2. Another model, input, output or target is a substantial change; so is a first release, which changes everything.
3. What a policy in force foresaw (`pre_determined`) is pre-determined, if it is not substantial; the rest is minor.

Source of the classes: Regulation (EU) 2024/1689, Art. 43(4) and Annex IV, 2(f).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from everline.access.unit_of_work import UnitOfWork
from everline.errors import EverlineError
from everline.governance import policies
from everline.models.package import Manifest, parse_manifest
from everline.releases.types import Champion, Change, ChangeClass, Foreseen


def signature_names(uow: UnitOfWork, package: str) -> dict[str, list[str]]:
    """The names of a package's inputs and outputs, as facts; without them if the package cannot be read."""
    manifest = _manifest(uow, package)
    if manifest is None:
        return {}
    signature = manifest.signature
    return {"inputs": [one.name for one in signature.inputs], "outputs": [one.name for one in signature.outputs]}


def compare_packages(
    uow: UnitOfWork, *, model: str, package: str, champion: Champion | None
) -> dict[str, bool | None] | None:
    """What stays the same, as the fact `change`; None where there is no champion, or a package cannot be read."""
    ours = _manifest(uow, package)
    theirs = None if champion is None else _manifest(uow, champion.package)
    if champion is None or ours is None or theirs is None:
        return None
    made = {
        f"same_{name}": _same(ours.created_from.get(name), theirs.created_from.get(name))
        for name in ("code", "environment", "data")
    }
    return {
        "same_model": model == champion.model,
        "same_flavor": ours.flavor == theirs.flavor,
        "same_inputs": ours.signature.inputs == theirs.signature.inputs,
        "same_outputs": ours.signature.outputs == theirs.signature.outputs,
        "same_target": ours.metadata.get("target") == theirs.metadata.get("target"),
    } | made


def classify(uow: UnitOfWork, *, project: str, facts: Mapping[str, Any]) -> Change:
    """Say which class of change a release is, with the proof."""
    same = facts.get("change")
    if same is None:
        return Change(kind=ChangeClass.SUBSTANTIAL, same={}, why="Nothing comparable answers yet: all of it is new.")
    differs = [name for name in ("model", "inputs", "outputs", "target") if not same[f"same_{name}"]]
    if differs:
        return Change(
            kind=ChangeClass.SUBSTANTIAL, same=same, why=f"Another {' and '.join(differs)} than the champion's."
        )
    for one in policies.foreseen(uow, project=project, facts=facts):
        if one.holds:
            said = Foreseen(policy=one.policy, version=one.version, digest=one.digest, clauses=one.clauses)
            why = f"Policy {one.policy!r}, version {one.version}, foresaw it."
            return Change(kind=ChangeClass.PRE_DETERMINED, same=same, why=why, foreseen=said)
    changed = [name.removeprefix("same_") for name, value in same.items() if value is False]
    why = f"Changed: {', '.join(changed)}; model, inputs, outputs and target are the champion's." if changed else (
        "Only the model's numbers differ, as far as both packages tell."
    )  # fmt: skip
    return Change(kind=ChangeClass.MINOR, same=same, why=why)


def _manifest(uow: UnitOfWork, package: str) -> Manifest | None:
    try:
        return parse_manifest(uow.blobs.get_bytes(package))
    except EverlineError:
        return None  # the integrity of packages is judged elsewhere; here it is only not known


def _same(ours: Any, theirs: Any) -> bool | None:
    return None if ours is None or theirs is None else bool(msgspec.to_builtins(ours) == msgspec.to_builtins(theirs))
