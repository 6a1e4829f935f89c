"""Pages of releases: verdicts clause by clause, decisions of people, and the moves that are possible now."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from starlette.responses import Response

from everline.access.unit_of_work import UnitOfWork
from everline.errors import EverlineError, InvalidInputError
from everline.governance.types import Waiver
from everline.releases import breakglass, rollout, service
from everline.releases.reviews import BREAK_GLASS
from everline.releases.states import Move, State
from everline.releases.types import Release, Transition
from everline.server.console import pages
from everline.server.console.view import render
from everline.server.http import Request, begin

routes = pages.console_routes()
LIST_MAX = 200

_SENTENCES = {
    State.DRAFT: "Opened, and not checked yet.",
    State.CHECKING: "Policies are being judged.",
    State.BLOCKED: "Blocked: a rule fails, or evidence that it needs is missing.",
    State.AWAITING_APPROVAL: "Every rule holds; it waits for people to decide.",
    State.APPROVED: "Approved; no traffic yet.",
    State.SHADOW: "It is asked what the champion answers; nobody hears it, its rows are logged.",
    State.CANARY: "A share of the requests goes to this version while it is watched.",
    State.PROMOTED: "This version answers the endpoint.",
    State.SUPERSEDED: "A later release took its place.",
    State.ROLLED_BACK: "Taken back; the version before it answers again.",
    State.REJECTED: "A person said no.",
}
_DONE = {
    Move.APPROVE: "Your approval is recorded and signed.",
    Move.REJECT: "Your rejection is recorded and signed.",
    Move.CHECK: "Checked again on the evidence of now.",
    Move.START_SHADOW: "The shadow is asked every request too.",
    Move.START_CANARY: "The canary has its share of the traffic.",
    Move.PROMOTE: "This version answers everything now.",
    Move.ROLL_BACK: "Rolled back; the version before it answers again.",
}
_WORDS = {
    Move.CHECK: "Checked",
    Move.BLOCK: "Blocked",
    Move.ASK: "Approval asked for",
    Move.ALLOW: "Allowed by policy",
    Move.APPROVE: "Approved",
    Move.REJECT: "Rejected",
    Move.START_SHADOW: "Shadow started",
    Move.START_CANARY: "Canary started",
    Move.ADVANCE: "Share moved",
    Move.PROMOTE: "Promoted",
    Move.BREAK_GLASS: "Glass broken",
    Move.SUPERSEDE: "Superseded",
    Move.RESTORE: "Restored",
    Move.ROLL_BACK: "Rolled back",
}
_PAST_RULES = {
    "waive": "The rule is set aside for this release until the waiver expires.",
    "revoke": "The waiver is taken back; the rule counts again.",
    "break": "The glass is broken: this version answers everything now, and another person must review it.",
    "review": "The review is closed.",
}
_AT_ONCE = "all traffic at once"
_BUTTONS = {
    Move.APPROVE: ("Approve", "primary"),
    Move.REJECT: ("Reject", "danger"),
    Move.CHECK: ("Check again", ""),
    Move.START_SHADOW: ("Start shadow", ""),
    Move.START_CANARY: ("Start canary", "primary"),
    Move.PROMOTE: ("Promote", "primary"),
    Move.ROLL_BACK: ("Roll back", "danger"),
}
_MOVES: dict[Move, Callable[[UnitOfWork, str, str], Release]] = {
    Move.CHECK: lambda uow, uid, _reason: service.check(uow, uid),
    Move.START_SHADOW: lambda uow, uid, _reason: rollout.start_shadow(uow, uid),
    Move.START_CANARY: lambda uow, uid, _reason: rollout.start_canary(uow, uid),
    Move.PROMOTE: lambda uow, uid, _reason: rollout.promote(uow, uid),
    Move.ROLL_BACK: lambda uow, uid, reason: rollout.rollback(uow, uid, reason=reason),
}


@routes.get("/releases")
def list_releases(request: Request) -> Response:
    """The newest releases."""
    with begin(request) as uow:
        found = service.list_releases(uow, project=request.project, limit=LIST_MAX)
    rows = [msgspec.structs.asdict(one) | {"release": one.uid} for one in found]
    return pages.page(request, "releases.html", title="Releases", section="releases", releases=rows)


@routes.get("/releases/{release}")
def show_release(request: Request) -> Response:
    """One release."""
    done = request.query("done", str, "")
    words = {move.value: text for move, text in _DONE.items()} | _PAST_RULES
    return page(request, done=words.get(done))


@routes.post("/releases/{release}")
def decide(request: Request) -> Response:
    """Make a move; a refusal is shown on the page itself, with what to do."""
    given, uid = pages.form(request), request.path["release"]
    try:
        move = Move(given.get("move", ""))
        act = _decision(move, given.get("meaning", "reviewer")) or _MOVES[move]
    except (ValueError, KeyError):
        raise InvalidInputError("This page has no such button.", hint="Reload the page.", field="move") from None
    try:
        with begin(request) as uow:
            found = act(uow, uid, given.get("reason", ""))
    except EverlineError as problem:
        if problem.status >= 500 or problem.status == 404:
            raise
        return page(request, problem=problem)
    return pages.redirect(render.path("releases", uid, project=found.project, done=move.value))


def _decision(move: Move, meaning: str) -> Callable[[UnitOfWork, str, str], Release] | None:
    """A person's yes or no, in a capacity."""
    decide = {Move.APPROVE: service.approve, Move.REJECT: service.reject}.get(move)
    return decide and (lambda uow, uid, reason: decide(uow, uid, reason=reason, meaning=meaning))


def page(request: Request, *, problem: EverlineError | None = None, done: str | None = None) -> Response:
    """The page of a release, with what was refused or done."""
    with request.app.begin(request.actor, read_only=True) as uow:
        release = service.get(uow, request.path["release"])
        reviews = breakglass.list_reviews(uow, project=release.project, endpoint=release.endpoint, open_only=True)
        now = uow.clock.now()
    return pages.page(
        request,
        "release.html",
        title=f"{release.model}, version {release.version} to {release.endpoint}",
        section="releases",
        status=problem.status if problem else 200,
        release=msgspec.structs.asdict(release) | {"release": release.uid},
        sentence=_SENTENCES[release.state],
        problem=problem,
        done=done,
        verdicts=release.check.verdicts if release.check else [],
        approvals=release.approvals,
        history=[_opened(release), *(_event(step) for step in release.history)],
        rollout=release.rollout,
        actions=_actions(release),
        about=_about(release),
        change=release.check.change if release.check else None,
        waivers=[_waiver(one, now) for one in release.waivers],
        unmet=_unmet(release),
        reviews=reviews,
        may_break=Move.CHECK in release.next or release.state is State.CANARY,
    )


def _unmet(release: Release) -> list[str]:
    """Rules that keep the release out and can be set aside, while it can still be judged again."""
    if release.check is None or Move.CHECK not in release.next:
        return []
    found = [(one.policy, rule) for one in release.check.verdicts for rule in one.rules]
    return [f"{policy}/{rule.name}" for policy, rule in found if not rule.stands and policy != BREAK_GLASS]


def _waiver(one: Waiver, now: datetime) -> dict[str, Any]:
    state = "revoked" if one.revoked_at else "expired" if one.expires_at <= now else "counts"
    return msgspec.structs.asdict(one) | {"state": state}


def _opened(release: Release) -> dict[str, Any]:
    return {"what": "Opened", "who": release.created_by_name, "note": "", "at": release.created_at, "href": None}


def _event(step: Transition) -> dict[str, Any]:
    return {"what": _WORDS[step.move], "who": step.actor_name, "note": step.reason, "at": step.at, "href": None}


def _actions(release: Release) -> dict[str, Any] | None:
    """The buttons that make sense now, for everybody: the service decides who may press them, and says why not."""
    moves = [move for move in release.next if move in _BUTTONS and _useful(move, release)]
    if not moves:
        return None
    decides = Move.APPROVE in moves
    return {
        "title": "Decide" if decides else "Act",
        "refused": None,
        "href": render.path("releases", release.uid, project=release.project),
        "reason_required": False,
        "decides": decides,
        "buttons": [
            {"move": move.value, "label": _BUTTONS[move][0], "kind": _BUTTONS[move][1], "confirm": None}
            for move in sorted(moves, key=list(_BUTTONS).index)
        ],
    }


def _useful(move: Move, release: Release) -> bool:
    if release.state not in (State.APPROVED, State.SHADOW):
        return True
    direct = release.champion is None or release.plan.canary_share == 0
    return move not in ((Move.START_CANARY,) if direct else (Move.PROMOTE,))


def _about(release: Release) -> list[tuple[str, Any]]:
    share = release.plan.canary_share
    champion = release.champion
    return [
        ("Replaces", f"{champion.model}, version {champion.version}" if champion else "nothing: the first one here"),
        ("Plan", release.plan.steps or (f"canary with {render.percent(share)} first" if share else _AT_ONCE))
        if champion
        else ("Plan", _AT_ONCE),
        ("Version by", release.author_name),
        ("Opened by", release.created_by_name),
        ("Opened", render.when(release.created_at)),
        ("Approvals bind to", render.short(release.digest)),
    ]
