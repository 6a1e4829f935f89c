"""Which revision answers a request. Values here do not change: a new state replaces the whole table."""

from __future__ import annotations

import hashlib

import msgspec

from everline.errors import InvalidInputError, NotFoundError, UnavailableError
from everline.models.package import Predictor
from everline.serving.dataplane.metrics import RevisionStats
from everline.serving.types import DesiredEndpoint, DesiredRevision, Guard, RevisionRole


class ServedRevision(msgspec.Struct, frozen=True, kw_only=True):
    """One revision as this process serves it, or the reason why it does not."""

    desired: DesiredRevision
    stats: RevisionStats
    predictor: Predictor | None = None
    reason: str | None = None

    @property
    def ready(self) -> bool:
        """Verified and loaded."""
        return self.predictor is not None


class ServedEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint and its revisions; `primary` may be an earlier one while the desired one is not ready."""

    desired: DesiredEndpoint
    revisions: list[ServedRevision]
    primary: ServedRevision | None = None
    canary: ServedRevision | None = None
    shadow: ServedRevision | None = None

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return self.desired.endpoint

    @property
    def ignore_unknown(self) -> bool:
        """Whether unknown columns are dropped and flagged instead of refused."""
        return self.desired.guard in (Guard.FLAG, Guard.REPAIR)

    @property
    def repairs(self) -> bool:
        """Whether rows that do not fit are mended where that has one meaning."""
        return self.desired.guard is Guard.REPAIR

    def choose(self, request: str, key: str | None = None) -> ServedRevision:
        """The revision that answers a request: always the same one for the same request and shares.

        The request's id is hashed to a number in [0, 1); the canary has the interval below its share. So a
        growing share moves requests to the canary only, never back and forth. With a key, the key is hashed
        together with the canary's release in its place: who has it is answered by one revision throughout, and
        it is not always the same ones who get the new version first.

        Raises:
            UnavailableError: no revision is ready.
        """
        if self.primary is None:
            reasons = "; ".join(f"{one.desired.model}/{one.desired.version}: {one.reason}" for one in self.revisions)
            raise UnavailableError(
                f"The endpoint {self.name!r} has no revision that is ready ({reasons or 'none is released'}).",
                hint="GET /health says what is missing.",
            )
        canary = self.canary
        if canary is not None:
            unit = request if key is None else f"{canary.desired.release} {key}"
            if position(unit) < canary.desired.share:
                return canary
        return self.primary

    def at_version(self, version: str) -> ServedRevision:
        """The revision that serves a model version.

        Raises:
            NotFoundError: none that is ready does.
        """
        for one in [self.primary, self.canary, *self.revisions]:
            if one is not None and one.ready and str(one.desired.version) == version:
                return one
        raise NotFoundError(
            f"The endpoint {self.name!r} does not serve version {version[:32]!r}.",
            hint=f"It serves: {', '.join(self.versions()) or 'none'}.",
            field="version",
        )

    def told(self) -> list[ServedRevision]:
        """The desired revisions, and an earlier primary that still answers in place of one that is not ready."""
        stays = self.primary is not None and all(one is not self.primary for one in self.revisions)
        return [*self.revisions, self.primary] if stays and self.primary is not None else self.revisions

    def versions(self) -> list[str]:
        """The versions that answer now."""
        return sorted({str(one.desired.version) for one in (self.primary, self.canary) if one is not None})


class RoutingTable:
    """Everything that this process serves, as of one generation."""

    def __init__(self, *, generation: int, endpoints: list[ServedEndpoint]) -> None:
        self.generation = generation
        self.endpoints = endpoints
        self._by_name: dict[str, list[ServedEndpoint]] = {}
        for endpoint in endpoints:
            self._by_name.setdefault(endpoint.name, []).append(endpoint)

    def find(self, name: str | None, *, project: str | None = None) -> ServedEndpoint:
        """The endpoint of a name; None means the only one there is.

        Raises:
            NotFoundError: there is none.
            InvalidInputError: several projects have it, or several endpoints exist and none was named.
        """
        found = self.endpoints if name is None else self._by_name.get(name, [])
        if project is not None:
            found = [endpoint for endpoint in found if endpoint.desired.project == project]
        if not found:
            named = "an endpoint" if name is None else f"the endpoint {name[:128]!r}"
            raise NotFoundError(
                f"This data plane does not serve {named}.",
                hint=f"It serves: {', '.join(sorted(self._by_name)) or 'none yet'}.",
                field="endpoint",
            )
        if len(found) > 1:
            raise InvalidInputError(
                "More than one endpoint is meant."
                if name is None
                else f"Several projects have an endpoint {name[:128]!r}.",
                hint="Use /endpoints/NAME/invocations; the header Everline-Project chooses the project.",
                field="endpoint",
            )
        return found[0]


def route(
    desired: DesiredEndpoint, revisions: list[ServedRevision], *, before: ServedEndpoint | None
) -> ServedEndpoint:
    """Decide who answers, given which revisions are ready.

    A canary that is not ready leaves its share to the primary. While the desired primary is not ready, the
    one before it, which was verified and released too, keeps answering; the canary never takes its place.
    """
    ready = {one.desired.role: one for one in revisions if one.ready}
    primary = ready.get(RevisionRole.PRIMARY)
    if primary is None and before is not None and any(one.desired.role is RevisionRole.PRIMARY for one in revisions):
        primary = before.primary
    canary, shadow = ready.get(RevisionRole.CANARY), ready.get(RevisionRole.SHADOW)
    return ServedEndpoint(desired=desired, revisions=revisions, primary=primary, canary=canary, shadow=shadow)


def position(request: str) -> float:
    """Where a request lies in [0, 1): the first 53 bits of the SHA-256 of its id."""
    first = int.from_bytes(hashlib.sha256(request.encode()).digest()[:8], "big")
    return (first >> 11) / (1 << 53)
