"""REST face of releases."""

from __future__ import annotations

import msgspec

from everline.clock import parse_rfc3339
from everline.models.types import Comparison
from everline.releases import advancing, breakglass, comparison, history, preview, rollout, service, waiving, watch
from everline.releases.states import State
from everline.releases.types import (
    BreakGlass,
    CloseReview,
    CreateRelease,
    Decide,
    LiveAt,
    Preview,
    Release,
    Review,
    Revoke,
    SetShare,
    StartShadow,
    Waive,
    Watch,
)
from everline.server.http import Page, Request, Routes, begin, decode

routes = Routes(tag="releases")


class Compare(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Both models' probabilities and the outcomes on the same rows; `blocks` labels rows that belong together."""

    endpoint: str
    model: str
    version: int | str
    outcome: list[float]
    champion: list[float]
    challenger: list[float]
    metric: str = "log_loss"
    blocks: list[str | int] | None = None
    slices: dict[str, list[str | None]] | None = None


@routes.post("/releases", body=CreateRelease, returns=Release, status=201)
def create_release(request: Request) -> Release:
    """Open a release of one model version to one endpoint, and judge it at once."""
    body = decode(CreateRelease, request)
    with begin(request) as uow:
        return service.create(
            uow,
            project=request.project,
            endpoint=body.endpoint,
            model=body.model,
            version=body.version,
            plan=body.plan,
        )


@routes.get("/releases", returns=Page[Release])
def list_releases(request: Request) -> Page[Release]:
    """List releases, newest first, by endpoint and state."""
    limit = request.limit
    with begin(request) as uow:
        items = service.list_releases(
            uow,
            project=request.project,
            endpoint=request.query("endpoint", str, None),
            state=request.query("state", State, None),
            before=request.query("cursor", str, None),
            limit=limit,
        )
    return Page(items=items, next=items[-1].uid if len(items) == limit else None)


@routes.get("/releases/at", returns=Page[LiveAt])
def list_live(request: Request) -> Page[LiveAt]:
    """Say what was live at a time, who allowed it, and on what evidence."""
    moment = parse_rfc3339(request.query("time", str), field="time")
    with begin(request) as uow:
        endpoint = request.query("endpoint", str, None)
        return Page(items=history.live_at(uow, moment, project=request.project, endpoint=endpoint))


@routes.post("/releases/compare", body=Compare, returns=Comparison, status=201)
def compare(request: Request) -> Comparison:
    """Compare a version with an endpoint's champion on the same rows; the result becomes evidence."""
    body = decode(Compare, request)
    with begin(request) as uow:
        return comparison.compare(uow, project=request.project, **msgspec.structs.asdict(body))


@routes.get("/releases/preview", returns=Preview)
def show_preview(request: Request) -> Preview:
    """Say what the gate would say of a version as a release to an endpoint; nothing is opened or recorded."""
    with begin(request) as uow:
        return preview.preview(
            uow,
            project=request.project,
            endpoint=request.query("endpoint", str),
            model=request.query("model", str),
            version=request.query("version", str, "latest"),
        )


@routes.get("/releases/reviews", returns=Page[Review])
def list_reviews(request: Request) -> Page[Review]:
    """List reviews of releases that broke the glass, the newest first; `open=true` for those that still block."""
    with begin(request) as uow:
        found = breakglass.list_reviews(
            uow,
            project=request.project,
            endpoint=request.query("endpoint", str, None),
            open_only=request.query("open", bool, default=False),
        )
    return Page(items=found)


@routes.get("/releases/{uid}", returns=Release)
def get_release(request: Request) -> Release:
    """Show a release with its verdicts, decisions and history."""
    with begin(request) as uow:
        return service.get(uow, request.path["uid"])


@routes.get("/releases/{uid}/watch", returns=Watch)
def watch_release(request: Request) -> Watch:
    """Compare a canary with its champion, so far."""
    with begin(request) as uow:
        return watch.watch(uow, request.path["uid"])


@routes.post("/releases/{uid}/check", returns=Release)
def check_release(request: Request) -> Release:
    """Judge a release again on what is known now."""
    with begin(request) as uow:
        return service.check(uow, request.path["uid"])


@routes.post("/releases/{uid}/approve", body=Decide, returns=Release)
def approve_release(request: Request) -> Release:
    """Say yes to exactly this release."""
    body = decode(Decide, request)
    with begin(request) as uow:
        return service.approve(uow, request.path["uid"], meaning=body.meaning, reason=body.reason)


@routes.post("/releases/{uid}/reject", body=Decide, returns=Release)
def reject_release(request: Request) -> Release:
    """Say no to a release, for good."""
    body = decode(Decide, request)
    with begin(request) as uow:
        return service.reject(uow, request.path["uid"], meaning=body.meaning, reason=body.reason)


@routes.post("/releases/{uid}/waivers", body=Waive, returns=Release, status=201)
def waive_rule(request: Request) -> Release:
    """Let a release pass one rule that it does not hold, until a time; it is judged again at once."""
    body = decode(Waive, request)
    with begin(request) as uow:
        return waiving.waive(uow, request.path["uid"], **msgspec.structs.asdict(body))


@routes.post("/releases/{uid}/waivers/{waiver}/revoke", body=Revoke, returns=Release)
def revoke_waiver(request: Request) -> Release:
    """Take a waiver back; the rule counts again."""
    body = decode(Revoke, request)
    with begin(request) as uow:
        return waiving.revoke_waiver(uow, request.path["uid"], request.path["waiver"], reason=body.reason)


@routes.post("/releases/{uid}/break-glass", body=BreakGlass, returns=Release)
def break_glass(request: Request) -> Release:
    """Let a release answer everything now, past its policies; opens a review that blocks the next one."""
    body = decode(BreakGlass, request)
    with begin(request) as uow:
        return breakglass.break_glass(uow, request.path["uid"], reason=body.reason)


@routes.post("/releases/reviews/{review}/close", body=CloseReview, returns=Review)
def close_review(request: Request) -> Review:
    """Close the review of a release that broke the glass."""
    body = decode(CloseReview, request)
    with begin(request) as uow:
        return breakglass.close_review(uow, request.path["review"], finding=body.finding)


@routes.post("/releases/{uid}/canary", returns=Release)
def start_canary(request: Request) -> Release:
    """Let an approved release answer its plan's share of the traffic."""
    with begin(request) as uow:
        return rollout.start_canary(uow, request.path["uid"])


@routes.post("/releases/{uid}/shadow", body=StartShadow, returns=Release)
def start_shadow(request: Request) -> Release:
    """Let an approved release answer a share of the requests beside the champion, without being heard."""
    body = decode(StartShadow, request)
    with begin(request) as uow:
        return rollout.start_shadow(uow, request.path["uid"], share=body.share)


@routes.post("/releases/{uid}/promote", returns=Release)
def promote_release(request: Request) -> Release:
    """Let a release answer everything, if the champion is still the one that it was compared with."""
    with begin(request) as uow:
        return rollout.promote(uow, request.path["uid"])


@routes.post("/releases/{uid}/rollback", body=Decide, returns=Release)
def roll_back_release(request: Request) -> Release:
    """Take a live release back."""
    body = decode(Decide, request)
    with begin(request) as uow:
        return rollout.rollback(uow, request.path["uid"], reason=body.reason)


@routes.post("/releases/{uid}/pause", body=Decide, returns=Release)
def pause_release(request: Request) -> Release:
    """Keep a rollout at its step."""
    body = decode(Decide, request)
    with begin(request) as uow:
        return advancing.pause(uow, request.path["uid"], reason=body.reason)


@routes.post("/releases/{uid}/resume", returns=Release)
def resume_release(request: Request) -> Release:
    """Let a rollout go on from the beginning of its step."""
    with begin(request) as uow:
        return advancing.resume(uow, request.path["uid"])


@routes.post("/releases/{uid}/share", body=SetShare, returns=Release)
def set_share(request: Request) -> Release:
    """Move a canary's share of the requests by hand; a rollout is paused by it."""
    body = decode(SetShare, request)
    with begin(request) as uow:
        return advancing.set_share(uow, request.path["uid"], share=body.share, reason=body.reason)
