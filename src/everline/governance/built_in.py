"""Policies that come with Everline: the baseline that every project starts under, and packs to take from."""

from __future__ import annotations

import functools
from datetime import datetime
from importlib.resources import files

from everline.access.types import SYSTEM
from everline.errors import NotFoundError
from everline.governance.document import compile_document
from everline.governance.types import Policy, Proposal
from everline.ids import digest_bytes

PACKS = ("baseline", "fair-lending", "eu-ai-act-high-risk", "us-sr-26-2", "gdpr-article-22")
"""Packs of rules, each rule with its source: engineering aids, not legal advice."""

BASELINE_SOURCE = (files("everline.governance") / "packs" / "baseline.toml").read_text(encoding="utf-8")
_AT = datetime.fromisoformat("2026-11-23T00:00:00+00:00")
_BASELINE_UID = "00000000-0000-7000-8000-000000000001"
_DRAFT_UID = "00000000-0000-7000-8000-000000000000"


@functools.cache
def pack_source(name: str) -> str:
    """The text of a pack, ready to be saved as a policy.

    Raises:
        NotFoundError: there is no such pack.
    """
    if name not in PACKS:
        raise NotFoundError(f"There is no pack {name!r}.", hint=f"There are {', '.join(PACKS)}.", field="pack")
    return (files("everline.governance") / "packs" / f"{name}.toml").read_text(encoding="utf-8")


def baseline(project: str, *, active: bool, proposal: Proposal | None = None) -> Policy:
    """Version 1 of the policy `baseline`, which nobody saved."""
    return _policy(project, BASELINE_SOURCE, uid=_BASELINE_UID, version=1, active=active, proposal=proposal)


def draft(project: str, source: str) -> Policy:
    """A text that is not saved, as version 0 of its name."""
    return _policy(project, source, uid=_DRAFT_UID, version=0, active=False)


def _policy(
    project: str, source: str, *, uid: str, version: int, active: bool, proposal: Proposal | None = None
) -> Policy:
    document = compile_document(source).document
    return Policy(
        uid=uid,
        project=project,
        name=document.name,
        version=version,
        title=document.title,
        reason=document.reason,
        action=document.action,
        digest=digest_bytes(source.encode()),
        source=source,
        active=active,
        rules=len(document.rules),
        at=_AT,
        actor_name=SYSTEM.name,
        proposal=proposal,
    )
