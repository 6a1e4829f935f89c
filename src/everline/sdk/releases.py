"""Releases through the client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from everline.clock import rfc3339
from everline.models.types import Comparison
from everline.releases.states import State
from everline.releases.types import LiveAt, Preview, Release, Review, Watch
from everline.sdk.client import Client


class ReleasesApi:
    """Bringing model versions to endpoints, under policy."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(
        self,
        endpoint: str,
        model: str,
        version: int | str,
        *,
        canary_share: float | None = None,
        steps: str | None = None,
        guards: Mapping[str, Any] | None = None,
    ) -> Release:
        """Open a release and judge it at once.

        Args:
            version: a number, `@alias` or `latest`.
            canary_share: part of the requests that a canary answers first, 0 (no canary) to 0.5; None follows the
                endpoint's own plan, else 0.1. The first release of an endpoint has none.
            steps: a plan that goes on by itself while its guards hold, such as `5% 10 min → 25% → 100%`.
            guards: what must hold, by the names of `everline.releases.types.Guards`.
        """
        given = {"canary_share": canary_share, "steps": steps, "guards": guards}
        plan = {name: value for name, value in given.items() if value is not None} or None
        body = {"endpoint": endpoint, "model": model, "version": version, "plan": plan}
        return self._client.call("POST", "/releases", body=body, returns=Release)

    def get(self, release: str) -> Release:
        """A release with its verdicts, decisions and history."""
        return self._client.call("GET", f"/releases/{release}", returns=Release)

    def check(self, release: str) -> Release:
        """Judge a release again on what is known now."""
        return self._client.call("POST", f"/releases/{release}/check", returns=Release)

    def approve(self, release: str, *, meaning: str = "reviewer", reason: str = "") -> Release:
        """Say yes to exactly this release, as reviewer, validator or owner; never as its author."""
        return self._decide(release, "approve", meaning=meaning, reason=reason)

    def reject(self, release: str, *, reason: str, meaning: str = "reviewer") -> Release:
        """Say no to a release, for good."""
        return self._decide(release, "reject", meaning=meaning, reason=reason)

    def waive(
        self, release: str, *, policy: str, rule: str, reason: str, expires_at: datetime, owner: str = ""
    ) -> Release:
        """Let a release pass one rule that it does not hold, until a time at most 90 days ahead."""
        body = {"policy": policy, "rule": rule, "reason": reason, "expires_at": rfc3339(expires_at), "owner": owner}
        return self._client.call("POST", f"/releases/{release}/waivers", body=body, returns=Release)

    def revoke_waiver(self, release: str, waiver: str, *, reason: str) -> Release:
        """Take a waiver back; the rule counts again."""
        path = f"/releases/{release}/waivers/{waiver}/revoke"
        return self._client.call("POST", path, body={"reason": reason}, returns=Release)

    def break_glass(self, release: str, *, reason: str) -> Release:
        """Let a release answer everything now, past its policies; opens a review that blocks the next one."""
        return self._client.call("POST", f"/releases/{release}/break-glass", body={"reason": reason}, returns=Release)

    def reviews(self, *, endpoint: str | None = None, open_only: bool = False) -> Sequence[Review]:
        """Reviews of releases that broke the glass, the newest first."""
        query = {"endpoint": endpoint, "open": "true" if open_only else None}
        return self._client.list_all("/releases/reviews", kind=Review, query=query, limit=1000)

    def close_review(self, review: str, *, finding: str) -> Review:
        """Close a review with what was found; never by who broke the glass."""
        path = f"/releases/reviews/{review}/close"
        return self._client.call("POST", path, body={"finding": finding}, returns=Review)

    def canary(self, release: str) -> Release:
        """Let an approved release answer its plan's share of the traffic."""
        return self._client.call("POST", f"/releases/{release}/canary", returns=Release)

    def shadow(self, release: str, *, share: float = 1.0) -> Release:
        """Let an approved release answer a share of the requests beside the champion, without being heard."""
        return self._client.call("POST", f"/releases/{release}/shadow", body={"share": share}, returns=Release)

    def promote(self, release: str) -> Release:
        """Let a release answer everything, if the champion is still the one that it was compared with."""
        return self._client.call("POST", f"/releases/{release}/promote", returns=Release)

    def rollback(self, release: str, *, reason: str) -> Release:
        """Take a live release back: the one before it answers again."""
        return self._client.call("POST", f"/releases/{release}/rollback", body={"reason": reason}, returns=Release)

    def pause(self, release: str, *, reason: str) -> Release:
        """Keep a rollout at its step."""
        return self._client.call("POST", f"/releases/{release}/pause", body={"reason": reason}, returns=Release)

    def resume(self, release: str) -> Release:
        """Let a rollout go on from the beginning of its step."""
        return self._client.call("POST", f"/releases/{release}/resume", returns=Release)

    def set_share(self, release: str, share: float, *, reason: str = "") -> Release:
        """Move a canary's share of the requests by hand; a rollout with steps is paused by it."""
        body = {"share": share, "reason": reason}
        return self._client.call("POST", f"/releases/{release}/share", body=body, returns=Release)

    def watch(self, release: str) -> Watch:
        """A canary's errors, latency and outcomes beside its champion's, so far."""
        return self._client.call("GET", f"/releases/{release}/watch", returns=Watch)

    def compare(
        self,
        endpoint: str,
        model: str,
        version: int | str,
        *,
        outcome: Sequence[float],
        champion: Sequence[float],
        challenger: Sequence[float],
        metric: str = "log_loss",
        blocks: Sequence[str] | Sequence[int] | None = None,
        slices: Mapping[str, Sequence[Any]] | None = None,
    ) -> Comparison:
        """Compare a version with the endpoint's champion on the same rows; the result becomes its evidence.

        Args:
            outcome: 0 or 1 per row; `champion` and `challenger` are each model's probability per row.
            metric: `log_loss`, `error_rate` or `auc`.
            blocks: one label per row, such as the day, where rows of a block depend on each other.
            slices: by column, its value for each row, None for none; each slice is compared too, and all intervals
                hold together. They are in the evidence.
        """
        body = {
            "endpoint": endpoint,
            "model": model,
            "version": version,
            "outcome": [float(value) for value in outcome],
            "champion": [float(value) for value in champion],
            "challenger": [float(value) for value in challenger],
            "metric": metric,
            "blocks": None if blocks is None else [str(label) for label in blocks],
            "slices": None
            if slices is None
            else {by: [None if one is None else str(one) for one in values] for by, values in slices.items()},
        }
        return self._client.call("POST", "/releases/compare", body=body, returns=Comparison)

    def preview(self, endpoint: str, model: str, version: int | str = "latest") -> Preview:
        """What the gate would say of a version as a release to an endpoint, without opening one."""
        query = {"endpoint": endpoint, "model": model, "version": version}
        return self._client.call("GET", "/releases/preview", query=query, returns=Preview)

    def at(self, time: datetime, *, endpoint: str | None = None) -> Sequence[LiveAt]:
        """What was live at a time, who allowed it, and on what evidence."""
        query = {"time": rfc3339(time), "endpoint": endpoint}
        return self._client.list_all("/releases/at", kind=LiveAt, query=query, limit=10_000)

    def _decide(self, release: str, decision: str, *, meaning: str, reason: str) -> Release:
        body = {"meaning": meaning, "reason": reason}
        return self._client.call("POST", f"/releases/{release}/{decision}", body=body, returns=Release)

    def list(self, *, endpoint: str | None = None, state: State | str | None = None, limit: int = 100) -> list[Release]:
        """Releases, newest first, without their verdicts."""
        query = {"endpoint": endpoint, "state": state}
        return self._client.list_all("/releases", kind=Release, query=query, limit=limit)
