"""Pages of delivery as code: declared beside real, and the history of plans and applications."""

from __future__ import annotations

import difflib
from collections import Counter
from typing import Any

import msgspec
from starlette.responses import Response

from everline.delivery import history, service
from everline.delivery.types import Action, Change, Drifted, FieldChange, Record, counted
from everline.server.console import pages
from everline.server.console.view import render
from everline.server.http import Request, begin

routes = pages.console_routes()
RECORDS_PER_PAGE = 50
THINGS_MAX = 500
"""Of those that are as declared; all that drifted are shown."""

_TONES = {"same": "good", "drifted": "warn", "missing": "bad", "hidden": "muted"}
_SAID = {
    "same": "as declared",
    "drifted": "drifted",
    "missing": "missing",
    "hidden": "not shown",
}
_ACTIONS = {
    Action.CREATE: ("create", "good"),
    Action.CHANGE: ("change", "warn"),
    Action.ADOPT: ("adopt", "info"),
    Action.REMOVE: ("remove", "bad"),
    Action.FORGET: ("forget", "muted"),
}
_PAGES = {"endpoints": "endpoints", "datasets": "datasets"}
_OUTCOMES = {"pass": "good", "fail": "bad", "unknown": "warn", "none": "muted"}


@routes.get("/delivery")
def show_delivery(request: Request) -> Response:
    """What is declared beside what is, by stack, and the newest plans and applications."""
    before = request.query("before", str, None)
    with begin(request) as uow:
        stacks = service.list_stacks(uow, project=request.project)
        things = service.drift(uow, project=request.project)
        records = history.list_records(uow, project=request.project, before=before, limit=RECORDS_PER_PAGE + 1)
    counts = Counter(one.state for one in things)
    off = [one for one in things if one.state in ("missing", "drifted")]
    rest = [one for one in things if one.state not in ("missing", "drifted")]
    shown = records[:RECORDS_PER_PAGE]
    return pages.page(
        request,
        "delivery.html",
        title="Delivery",
        section="delivery",
        stacks=stacks,
        off=[_thing(one, request.project) for one in off],
        rest=[_thing(one, request.project) for one in rest[:THINGS_MAX]],
        left_out=max(0, len(rest) - THINGS_MAX),
        counts=counts,
        total=len(things),
        records=[_line(one) for one in shown],
        next=shown[-1].uid if len(records) > RECORDS_PER_PAGE else None,
        older=before is not None,
    )


@routes.get("/delivery/{record}")
def show_record(request: Request) -> Response:
    """One plan or application: what changed, field by field, and what its policies said."""
    with begin(request) as uow:
        found = history.get_record(uow, request.path["record"], project=request.project)
    what = "Application" if found.what == "apply" else "Plan"
    return pages.page(
        request,
        "delivery_record.html",
        title=f"{what} of {found.stack}",
        section="delivery",
        what=what,
        record=_line(found),
        changes=[_change(one, request.project) for one in found.changes],
        previews=[msgspec.structs.asdict(one) | {"tone": _OUTCOMES.get(one.after, "muted")} for one in found.preview],
        problem=found.problem,
        missing=found.missing,
    )


def _thing(one: Drifted, project: str) -> dict[str, Any]:
    return {
        "address": one.address,
        "kind": one.kind,
        "stack": one.stack,
        "state": _SAID[one.state],
        "tone": _TONES[one.state],
        "note": "there is none of that name" if one.state == "missing" else one.note,
        "href": _href(one.kind, one.name, project) if one.state != "missing" else None,
        "fields": [_field(field) for field in one.fields],
    }


def _change(one: Change, project: str) -> dict[str, Any]:
    word, tone = _ACTIONS[one.action]
    return {
        "address": one.address,
        "word": word,
        "tone": tone,
        "line": one.line,
        "origin": one.origin,
        "note": one.note,
        "permission": one.permission,
        "href": _href(one.kind, one.name, project),
        "fields": [_field(field) for field in one.fields],
        "created": one.action is Action.CREATE,
    }


def _field(field: FieldChange) -> dict[str, Any]:
    texts = [one for one in (field.before, field.after) if isinstance(one, str) and "\n" in one]
    lines = _text_difference(field) if texts else []
    return {"name": field.field, "before": _said(field.before), "after": _said(field.after), "lines": lines}


def _text_difference(field: FieldChange) -> list[tuple[str, str]]:
    old = field.before.splitlines() if isinstance(field.before, str) else []
    new = field.after.splitlines() if isinstance(field.after, str) else []
    kinds = {"+": "added", "-": "removed", "@": "place"}
    found = list(difflib.unified_diff(old, new, lineterm="", n=2))[2:]
    return [(kinds.get(line[:1], "same"), line) for line in found]


def _said(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "nothing"
    return render.clip(value if isinstance(value, str) else render.as_json(value), 200)


def _line(record: Record) -> dict[str, Any]:
    return msgspec.structs.asdict(record) | {
        "said": counted(record.counts) or "nothing",
        "state": "applied" if record.what == "apply" or record.applied else "planned",
        "tone": "good" if record.what == "apply" or record.applied else "muted",
    }


def _href(kind: str, name: str, project: str) -> str | None:
    return render.path(_PAGES[kind], name, project=project) if kind in _PAGES else None
