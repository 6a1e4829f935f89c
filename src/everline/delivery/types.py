"""Values of delivery as code. Light on purpose: the SDK imports this module."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An `everline.toml` with what it refers to.

    Attributes:
        path: the file's name, for messages.
        files: texts by path from the file: policies, contracts, tables of templates.
    """

    text: str
    path: str = "everline.toml"
    files: dict[str, str] = {}


class Action(StrEnum):
    """What becomes of one declared thing."""

    CREATE = "create"
    CHANGE = "change"
    ADOPT = "adopt"
    """It is as declared already, and was made by hand: from now on it belongs to this stack."""
    REMOVE = "remove"
    FORGET = "forget"
    """Declared no longer, and of a kind that is never removed: it stays as it is."""


DONE = {
    Action.CREATE: "created",
    Action.CHANGE: "changed",
    Action.ADOPT: "adopted",
    Action.REMOVE: "removed",
    Action.FORGET: "forgotten",
}
"""What people say of each, once it is done."""


def counted(counts: dict[str, int]) -> str:
    """How many of what, in words."""
    return ", ".join(f"{counts[action.value]} {done}" for action, done in DONE.items() if counts.get(action.value))


class FieldChange(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a thing: what is, and what shall be. A secret shows only the variable that holds it."""

    field: str
    before: Any = None
    after: Any = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one thing.

    Attributes:
        address: its table in the file, such as `monitors.drift`.
        line: where the file declares it; None for what it declares no longer.
        origin: template and row that declare it.
        permission: what it takes to do this.
        note: what else there is to know.
    """

    address: str
    kind: str
    name: str
    action: Action
    fields: list[FieldChange] = []
    line: int | None = None
    origin: str = ""
    permission: str = ""
    note: str = ""


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What a changed policy says of one model version that is live, or on its way.

    Attributes:
        subject: `live` or `release`, endpoint and version in words.
        before, after: pass, fail, unknown, or `none` where the policy does not speak.
        blocks: passed before and does not now.
        reasons: the rules that do not hold, with what is missing.
    """

    policy: str
    subject: str
    endpoint: str
    version: str
    release: str
    before: str
    after: str
    blocks: bool
    reasons: list[str] = []


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why applying this plan would fail, found by doing it and taking it back."""

    message: str
    hint: str | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What applying a file would do.

    Attributes:
        digest: of everything that the plan rests on and would do.
        source_digest: of the file and what it refers to.
        serial: how many times the stack was applied before.
        states: digest of the real state of each thing, keyed by the server's key, by address.
        unchanged: how many things are as declared.
        missing: permissions that the actor lacks for it, the first needed first.
        problem: what else would keep it from being applied; None if nothing, or if permissions are missing.
        variables: environment variables that the file names and that were not sent.
        kept: its record in the history; None if there is nothing to do, or the actor may not write.
    """

    project: str
    stack: str
    path: str
    digest: str
    source_digest: str
    serial: int
    states: dict[str, str]
    at: datetime
    changes: list[Change] = []
    preview: list[Preview] = []
    unchanged: int = 0
    missing: list[str] = []
    problem: Problem | None = None
    variables: list[str] = []
    kept: str | None = None


class PlanRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that asks for a plan.

    Attributes:
        environment: values of the variables that the file names; they are never kept, only compared.
        keep: enter the plan in the history.
    """

    source: Source
    environment: dict[str, str] = {}
    keep: bool = True


class ApplyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that applies a file; with a plan, only if it still is what would be done."""

    source: Source
    environment: dict[str, str] = {}
    plan: Plan | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One plan or application in the history.

    Attributes:
        what: `plan` or `apply`.
        plan: digest of the plan; an application and the plan that it followed share it.
        applied: of a plan, the application that followed it.
        changes: fields of kinds that the reader may not see are left out.
    """

    uid: str
    project: str
    stack: str
    what: str
    at: datetime
    actor: str
    actor_name: str
    path: str
    source_digest: str
    plan: str
    serial: int
    counts: dict[str, int]
    changes: list[Change] = []
    preview: list[Preview] = []
    missing: list[str] = []
    problem: Problem | None = None
    applied: str | None = None


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one file declares, as it was applied last."""

    name: str
    serial: int
    path: str
    source_digest: str
    applied_at: datetime
    applied_by: str
    things: int


class Drifted(msgspec.Struct, frozen=True, kw_only=True):
    """One declared thing beside the real one.

    Attributes:
        state: `same`, `drifted`, `missing`, or `hidden` where the reader may not look.
        fields: declared as `after`, real as `before`.
    """

    address: str
    kind: str
    name: str
    stack: str
    state: str
    fields: list[FieldChange] = []
    note: str = ""


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline under a name: its address, where its code lies, and its parameters."""

    name: str
    pipeline: str
    directory: str
    params: dict[str, Any]
    description: str
