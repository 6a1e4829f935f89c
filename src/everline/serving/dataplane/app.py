"""The endpoints over HTTP: which address is what, and what every request passes on its way in.

    GET  /health /metrics /ping /version · /v2 · /v2/health/live · /v2/health/ready
    GET  /v2/models/{endpoint}[/versions/{v}][/ready]
    POST /v2/models/{endpoint}[/versions/{v}]/infer            Open Inference Protocol
    POST /endpoints/{endpoint}/invocations · /invocations      MLflow; the latter with exactly one endpoint
    POST /endpoints/{endpoint}/predict                         plain records

An answer leaves only after its predictions are in the log. Errors are `{"error": sentence}` with `code`,
`field` and `hint` where there is something to say; what the caller did wrong is 4xx, never 500.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from everline import __version__
from everline.config import Settings
from everline.errors import EverlineError, InvalidInputError, NotFoundError, TooLargeError, UnavailableError
from everline.ids import new_uids
from everline.serving.dataplane.calls import AtHand, Call
from everline.serving.dataplane.following import Source, describe_health
from everline.serving.dataplane.forms import invocations, open_inference, records
from everline.serving.dataplane.forms.ask import Form, sticky_key, wants_explanation
from everline.serving.dataplane.http.messages import Answering, Reply, Request, header, json_reply, refusal
from everline.serving.dataplane.keys import Gate
from everline.serving.dataplane.lanes import Lane
from everline.serving.dataplane.log.raw_segments import PredictionLog
from everline.serving.dataplane.metrics import CONTENT_TYPE, Metrics
from everline.serving.dataplane.quotas import Quotas
from everline.serving.dataplane.routing import RoutingTable, ServedEndpoint, ServedRevision
from everline.serving.dataplane.shadow import Shadows
from everline.serving.dataplane.watching import Watcher
from everline.serving.types import Health, RevisionRole

log = logging.getLogger("everline.serve")

_LATE_LOOK_S = 0.02
_NAMES = 64
_ANY_ENCODING = 47  # zlib's number for "gzip or zlib, whichever the first bytes say"
_DEADLINE = b"everline-timeout-ms"


class Address(msgspec.Struct, frozen=True):
    """Where predictions are asked for."""

    endpoint: str | None
    version: str | None
    form: Form


class Told(msgspec.Struct, frozen=True):
    """What is told of the data plane as a whole, however many processes it has."""

    health: Callable[[], Health]
    metrics: Callable[[], bytes]


class DataPlaneApp:
    """Routes a request, sees it through, and knows what is under way."""

    def __init__(
        self,
        settings: Settings,
        *,
        source: Source,
        prediction_log: PredictionLog,
        metrics: Metrics,
        told: Told,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self._settings = settings
        self._watchers = watchers
        self._source = source
        self._told = told
        self._log = prediction_log
        self._at_hand = AtHand()
        self._names: list[str] = []
        self._lanes: dict[str, Lane] = {}
        self._replaced: list[Lane] = []
        self._gate = Gate(Quotas(settings.home / "dataplane" / "quotas"))
        self._shadows = Shadows(metrics, self._lane)
        self._table: RoutingTable | None = None
        self._routed: RoutingTable | None = None
        self._routes: dict[tuple[Address, bytes | None], tuple[ServedEndpoint, Lane]] = {}

    def handle(self, request: Request, reply: Answering, *, address: Address | None = None) -> None:
        """Answer one request, now or later.

        Args:
            address: where predictions are asked for, when it is not the path that says so.
        """
        for watcher in self._watchers:
            reply = watcher.watch(request, reply)
        try:
            address = address or _address(request.path)
            if address is not None:
                self._predict(address, request, reply)
            else:
                reply(self._tell(request))
        except EverlineError as error:
            reply(refusal(error))
        except Exception:  # the last resort: a fault of ours, told without its inside
            log.exception("a request failed: %r %r", request.method, request.path[:200])
            reply(refusal(EverlineError("The data plane failed on this request; its log says why.")))

    async def look_after(self) -> None:
        """Refuse what waits too long, and let go of revisions that are served no more; runs until it is cancelled."""
        while True:
            await asyncio.sleep(_LATE_LOOK_S)
            now = time.monotonic()
            # A copy: whoever is refused may ask the next at once, of a revision that has no lane yet.
            for lane in [*self._lanes.values(), *self._replaced]:
                lane.expire(now)
            for lane in [one for one in self._replaced if one.idle]:
                self._replaced.remove(lane)
                lane.close()
            if self._source.table is not self._table:
                self._forget()

    def close(self) -> None:
        """End the threads in which models answer."""
        for lane in [*self._lanes.values(), *self._replaced]:
            lane.close()

    # --- predictions -----------------------------------------------------------------------------

    def _predict(self, address: Address, request: Request, reply: Answering) -> None:
        if request.method != b"POST":
            body = {"error": "This address takes POST.", "code": "method_not_allowed"}
            reply(json_reply(body, status=405, lines=header("allow", "POST")))
            return
        if self._at_hand.requests >= self._settings.requests_in_flight_max:
            raise UnavailableError(
                f"{self._at_hand.requests} requests are at hand, which is the limit.", hint="Try again in a second."
            )
        endpoint, lane = self._route(address, request)
        self._gate.check(endpoint, request, self._routed)
        deadline = time.monotonic() + self._settings.request_s
        rows_max, form, role = self._settings.request_rows_max, address.form, RevisionRole.PRIMARY
        try:
            if _DEADLINE in request.headers:
                deadline = time.monotonic() + _seconds(request, self._settings.request_s)
            lane.admit(deadline)
            if b"content-encoding" in request.headers:
                _decompress(request, bytes_max=self._settings.request_bytes_max)
            ask = form.read(request, lane.plan, rows_max)
            ask.key = sticky_key(ask.key, request)
            explain = bool(request.query) and wants_explanation(request, rows=ask.rows)
            if address.version is None and endpoint.canary is not None:
                ask.request = ask.request or self._new_name()
                served = endpoint.choose(ask.request, ask.key)
                role, chosen = served.desired.role, self._lane(endpoint, served)
                if chosen is not lane and chosen.plan.signature != lane.plan.signature:
                    again = form.read(request, chosen.plan, rows_max)
                    ask = msgspec.structs.replace(again, request=ask.request, key=ask.key)
                lane = chosen
            ask.explain = explain
        except EverlineError as error:
            lane.refused_unread(error)
            raise
        call = Call(ask, form, endpoint, reply, at_hand=self._at_hand, started_ns=request.started_ns, deadline=deadline)
        call.role = role
        if endpoint.shadow is not None:
            self._shadows.follow(call, endpoint.shadow, lane.plan)
        lane.submit(call)

    def _new_name(self) -> str:
        """A name for a request that has none; many are made at once, which costs a tenth of one at a time."""
        if not self._names:
            self._names = new_uids(_NAMES)[::-1]
        return self._names.pop()

    def _route(self, address: Address, request: Request) -> tuple[ServedEndpoint, Lane]:
        """The endpoint, and the lane whose signature reads the request; any ready revision's will do."""
        table = self._source.table
        if table is not self._routed:
            self._routes.clear()
            self._routed = table
        project = request.headers.get(b"everline-project")
        key = address, project
        found = self._routes.get(key)
        if found is None:
            endpoint = self._find(address.endpoint, request)
            version = address.version
            served = endpoint.choose("") if version is None else endpoint.at_version(version)
            found = self._routes[key] = endpoint, self._lane(endpoint, served)
        return found

    def _lane(self, endpoint: ServedEndpoint, served: ServedRevision) -> Lane:
        lane = self._lanes.get(served.desired.revision)
        if lane is None or lane.predictor is not served.predictor:
            if lane is not None:
                self._replaced.append(lane)  # what it has taken in, it answers
            lane = Lane(endpoint, served, prediction_log=self._log, settings=self._settings)
            self._lanes[served.desired.revision] = lane
        return lane

    def _forget(self) -> None:
        """Let go of lanes whose revision is served no more, once they are empty."""
        table = self._source.table
        kept = {one.desired.revision for endpoint in (table.endpoints if table else []) for one in endpoint.told()}
        gone = [revision for revision in self._lanes if revision not in kept]
        for revision in gone:
            if self._lanes[revision].idle:
                self._lanes.pop(revision).close()
        if not any(revision in self._lanes for revision in gone):
            self._table = table

    def _find(self, name: str | None, request: Request) -> ServedEndpoint:
        table = self._source.table
        if table is None:
            raise UnavailableError(
                f"The data plane has nothing to serve yet: {self._source.trouble}.", hint="GET /health says more."
            )
        return table.find(name, project=request.header(b"everline-project"))

    # --- what it tells of itself -----------------------------------------------------------------

    def _tell(self, request: Request) -> Reply:
        if request.method not in (b"GET", b"HEAD"):
            raise _no_such(request)
        match request.path.decode("utf-8", "replace").strip("/").split("/"):
            case ["health"]:
                return self._health()
            case ["metrics"]:
                return Reply(200, self._told.metrics(), content_type=CONTENT_TYPE.encode())
            case ["v2"]:
                return json_reply({"name": "everline", "version": __version__, "extensions": ["binary_tensor_data"]})
            case ["v2", "health", "live"]:
                return json_reply({"live": True})
            case ["v2", "health", "ready"] | ["ping"]:
                return self._ready()
            case ["version"]:
                return Reply(200, __version__.encode(), content_type=b"text/plain; charset=utf-8")
            case ["v2", "models", name, *rest]:
                return self._describe(name, rest, request)
        raise _no_such(request)

    def _health(self) -> Reply:
        started = self._source.table is not None
        body = describe_health(self._told.health(), trouble=self._source.trouble, started=started)
        return json_reply(body, status=200 if started else 503)

    def _ready(self) -> Reply:
        table = self._source.table
        missing = ["no state yet"] if table is None else [one.name for one in table.endpoints if not _answers(one)]
        return json_reply({"ready": not missing, "not_ready": missing}, status=503 if missing else 200)

    def _describe(self, name: str, rest: list[str], request: Request) -> Reply:
        endpoint = self._find(name, request)
        if rest[-1:] != ["ready"]:
            self._gate.check(endpoint, request, self._source.table)
        match rest:
            case []:
                served = endpoint.choose("")
            case ["ready"]:
                ready = endpoint.primary is not None
                return json_reply({"name": name, "ready": ready}, status=200 if ready else 503)
            case ["versions", version] | ["versions", version, "ready"]:
                served = endpoint.at_version(version)
                if rest[-1] == "ready" and len(rest) == 3:
                    return json_reply({"name": name, "ready": True})
            case _:
                raise _no_such(request)
        signature = self._lane(endpoint, served).plan.signature
        return json_reply(open_inference.describe(name, versions=endpoint.versions(), signature=signature))


async def rotate(prediction_log: PredictionLog, *, look_s: float, finish: Callable[[Any], None]) -> None:
    """Close the open segment whenever it is due; runs until it is cancelled."""
    while True:
        await asyncio.sleep(look_s)
        if prediction_log.due():
            detached = prediction_log.detach()
            if detached is not None:
                await asyncio.to_thread(finish, detached)


@functools.lru_cache(1024)
def _address(path: bytes) -> Address | None:
    """The place for predictions that a path means; None for any other path."""
    match path.decode("utf-8", "replace").strip("/").split("/"):
        case ["v2", "models", name, "infer"]:
            return Address(name, None, open_inference.FORM)
        case ["v2", "models", name, "versions", version, "infer"]:
            return Address(name, version, open_inference.FORM)
        case ["endpoints", name, "invocations"]:
            return Address(name, None, invocations.FORM)
        case ["endpoints", name, "predict"]:
            return Address(name, None, records.FORM)
        case ["invocations"]:
            return Address(None, None, invocations.FORM)
    return None


def _seconds(request: Request, seconds_max: float) -> float:
    """How long the request may take, as it says itself; never longer than `seconds_max`."""
    said = request.header(_DEADLINE)
    if said is None:
        return seconds_max
    if not said.isascii() or not said.isdigit() or not int(said[:9]) > 0:
        raise InvalidInputError(
            f"The header {_DEADLINE.decode()} is {said[:20]!r}.",
            hint="Send a whole number of milliseconds.",
            field=_DEADLINE.decode(),
        )
    return min(int(said[:9]) / 1000, seconds_max)


def _decompress(request: Request, *, bytes_max: int) -> None:
    """Undo the content encoding, never beyond `bytes_max`, whatever a few bytes would become."""
    encoding = request.headers.get(b"content-encoding", b"identity").lower()
    if encoding == b"identity":
        return
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        raise InvalidInputError(
            f"The content encoding {encoding[:32].decode('latin-1')!r} is not read.",
            hint="Send gzip, deflate, or plain bytes.",
            field="content-encoding",
        )
    try:
        undo = zlib.decompressobj(_ANY_ENCODING)
        body = undo.decompress(request.body, bytes_max + 1)
    except zlib.error as error:
        raise InvalidInputError(f"The body cannot be decompressed: {error}.", field="content-encoding") from None
    if len(body) > bytes_max:
        raise TooLargeError(f"The request body is larger than {bytes_max} bytes once it is decompressed.")
    if not undo.eof:
        raise InvalidInputError("The compressed body ends in the middle.", field="content-encoding")
    request.body = body


def _no_such(request: Request) -> NotFoundError:
    return NotFoundError(
        f"There is nothing at {request.method.decode('latin-1')} {request.path[:200].decode('utf-8', 'replace')}.",
        hint="Predictions: POST /v2/models/ENDPOINT/infer or /endpoints/ENDPOINT/invocations.",
    )


def _answers(endpoint: ServedEndpoint) -> bool:
    return endpoint.primary is not None or not endpoint.desired.revisions
