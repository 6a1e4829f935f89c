"""The endpoints over HTTP: a raw ASGI application, nothing between the socket and the model but this.

    GET  /health /metrics · /v2 · /v2/health/live · /v2/health/ready
    GET  /v2/models/{endpoint}[/versions/{v}][/ready]
    POST /v2/models/{endpoint}[/versions/{v}]/infer            Open Inference Protocol
    POST /endpoints/{endpoint}/invocations · /invocations      MLflow; the latter with exactly one endpoint

An answer leaves only after its predictions are in the log. Errors are `{"error": sentence}` with `code`,
`field` and `hint` where there is something to say; what the caller did wrong is 4xx, never 500.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from everline import __version__
from everline.config import Settings
from everline.errors import EverlineError, InvalidInputError, NotFoundError, TooLargeError, UnavailableError
from everline.ids import new_uid, whole_number
from everline.models.signature import check_columns
from everline.serving.dataplane import protocol
from everline.serving.dataplane.following import Reporter, Source, describe_health
from everline.serving.dataplane.log.raw_segments import PredictionLog, PredictionRecord
from everline.serving.dataplane.metrics import CONTENT_TYPE, Metrics
from everline.serving.dataplane.protocol import Answer, Ask
from everline.serving.dataplane.routing import ServedEndpoint, ServedRevision
from everline.serving.dataplane.worker import Worker

log = logging.getLogger("everline.serve")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_JSON = b"application/json"
_PREDICTION_HEADERS_MAX = 32
_RETRY_AFTER_S = b"1"


class Reply(msgspec.Struct, frozen=True):
    """What goes back over the wire."""

    status: int
    body: bytes
    headers: Headers = []
    content_type: bytes = _JSON


class DataPlaneApp:
    """Routes a request, answers it, logs it."""

    def __init__(
        self,
        settings: Settings,
        *,
        source: Source,
        reporter: Reporter,
        metrics: Metrics,
        prediction_log: PredictionLog,
        worker: Worker,
    ) -> None:
        self._settings = settings
        self._source = source
        self._reporter = reporter
        self._metrics = metrics
        self._log = prediction_log
        self._worker = worker
        self._at_hand = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        try:
            reply = await self._reply(scope, receive)
        except EverlineError as error:
            reply = refusal(error)
        except ConnectionResetError:
            return
        except Exception:  # the last resort: a fault of ours, told without its inside
            log.exception("a request failed: %s %s", scope["method"], scope["path"])
            reply = refusal(EverlineError("The data plane failed on this request; its log says why."))
        headers = [(b"content-type", reply.content_type), (b"content-length", b"%d" % len(reply.body)), *reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body if scope["method"] != "HEAD" else b""})

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        parts = scope["path"].strip("/").split("/")
        match parts:
            case ["v2", "models", name, "infer"]:
                return await self._predict(scope, receive, name=name, version=None, invocation=False)
            case ["v2", "models", name, "versions", version, "infer"]:
                return await self._predict(scope, receive, name=name, version=version, invocation=False)
            case ["endpoints", name, "invocations"]:
                return await self._predict(scope, receive, name=name, version=None, invocation=True)
            case ["invocations"]:
                return await self._predict(scope, receive, name=None, version=None, invocation=True)
        if scope["method"] not in ("GET", "HEAD"):
            return self._no_such(scope)
        match parts:
            case ["health"]:
                return self._health()
            case ["metrics"]:
                self._metrics.spool_bytes.set(self._log.spool_bytes)
                return Reply(200, self._metrics.text(), content_type=CONTENT_TYPE.encode())
            case ["v2"]:
                return _json({"name": "everline", "version": __version__, "extensions": []})
            case ["v2", "health", "live"]:
                return _json({"live": True})
            case ["v2", "health", "ready"]:
                return self._ready()
            case ["v2", "models", name, *rest]:
                return self._describe(name, rest, _headers(scope)) or self._no_such(scope)
        return self._no_such(scope)

    async def _predict(
        self, scope: Scope, receive: Receive, *, name: str | None, version: str | None, invocation: bool
    ) -> Reply:
        started_ns = time.perf_counter_ns()
        if scope["method"] != "POST":
            return Reply(405, _error_body("This address takes POST.", code="method_not_allowed"), [(b"allow", b"POST")])
        if self._at_hand >= self._settings.requests_in_flight_max:
            raise UnavailableError(
                f"{self._at_hand} requests are at hand, which is the limit.", hint="Try again in a second."
            )
        self._at_hand += 1
        try:
            headers = _headers(scope)
            try:
                async with asyncio.timeout(self._settings.request_s):
                    body = await _read_body(receive, headers, bytes_max=self._settings.request_bytes_max)
            except TimeoutError:
                message = f"The request body did not arrive within {self._settings.request_s:g} s."
                return Reply(408, _error_body(message, code="request_timeout"))
            endpoint = self._find(name, headers)
            return await self._infer(
                endpoint, body, headers=headers, version=version, invocation=invocation, started_ns=started_ns
            )
        finally:
            self._at_hand -= 1

    async def _infer(
        self,
        endpoint: ServedEndpoint,
        body: bytes,
        *,
        headers: Mapping[str, str],
        version: str | None,
        invocation: bool,
        started_ns: int,
    ) -> Reply:
        decode = protocol.decode_invocation if invocation else protocol.decode_infer
        # Any ready revision's signature will do to read the request; the chosen one's decides.
        served = endpoint.choose("") if version is None else endpoint.at_version(version)
        try:
            ask = decode(body, signature=_signature(served), headers=headers, rows_max=self._settings.request_rows_max)
        except EverlineError as error:
            served.stats.refused(code=error.status, reason=error.code)
            raise
        served = endpoint.choose(ask.request) if version is None else served
        served.stats.started()
        try:
            answer = await self._answer(endpoint, served, ask, started_ns=started_ns)
        except EverlineError as error:
            served.stats.refused(code=error.status, reason=error.code)
            raise
        except Exception:
            served.stats.refused(code=500, reason="internal")
            raise
        finally:
            served.stats.ended()
        served.stats.answered(rows=ask.rows, seconds=(time.perf_counter_ns() - started_ns) / 1e9)
        if invocation:
            return Reply(200, protocol.encode_invocation(answer), _origin_headers(answer))
        encoded = protocol.encode_infer(answer, signature=_signature(served), wanted=ask.outputs)
        return Reply(200, encoded, _origin_headers(answer))

    async def _answer(self, endpoint: ServedEndpoint, served: ServedRevision, ask: Ask, *, started_ns: int) -> Answer:
        predictor, desired = served.predictor, served.desired
        if predictor is None:
            raise UnavailableError(f"The revision {desired.revision} is not ready.")
        call = check_columns(predictor.signature, ask.columns, ignore_unknown=endpoint.ignore_unknown)
        try:
            arrays = await self._worker.predict(predictor, call)
        except (ValueError, TypeError) as error:
            log.exception("the model failed: %s", desired.revision)
            raise InvalidInputError(
                f"The model cannot answer this request: {str(error)[:300]}.",
                hint="The values fit the signature but not the model; check them, or ask the model's author.",
            ) from error
        outputs = {name: array.tolist() for name, array in arrays.items()}
        answer = Answer(
            request=ask.request,
            endpoint=endpoint.name,
            model=desired.model,
            version=desired.version,
            revision=desired.revision,
            release=desired.release,
            package=desired.package,
            predictions=[new_uid() for _ in range(ask.rows)],
            outputs=outputs,
            flags=[flag.message for flag in call.flags],
        )
        if call.flags:
            served.stats.flagged(call.flags)
        record = PredictionRecord(
            at_us=time.time_ns() // 1000,
            project=endpoint.desired.project,
            endpoint=endpoint.name,
            revision=desired.revision,
            package=desired.package,
            release=desired.release,
            request=ask.request,
            latency_us=(time.perf_counter_ns() - started_ns) // 1000,
            predictions=answer.predictions,
            event_time_us=ask.event_time_us,
            inputs=call.values,
            outputs=outputs,
        )
        self._log.append(record, predictor.signature)
        return answer

    def _find(self, name: str | None, headers: Mapping[str, str]) -> ServedEndpoint:
        table = self._source.table
        if table is None:
            raise UnavailableError(
                f"The data plane has nothing to serve yet: {self._source.trouble}.", hint="GET /health says more."
            )
        return table.find(name, project=headers.get("everline-project"))

    def _health(self) -> Reply:
        started = self._source.table is not None
        body = describe_health(self._reporter.health(), trouble=self._source.trouble, started=started)
        return _json(body, status=200 if started else 503)

    def _ready(self) -> Reply:
        table = self._source.table
        missing = ["no state yet"] if table is None else [one.name for one in table.endpoints if not _answers(one)]
        return _json({"ready": not missing, "not_ready": missing}, status=503 if missing else 200)

    def _describe(self, name: str, rest: list[str], headers: Mapping[str, str]) -> Reply | None:
        endpoint = self._find(name, headers)
        match rest:
            case []:
                served = endpoint.choose("")
            case ["ready"]:
                ready = endpoint.primary is not None
                return _json({"name": name, "ready": ready}, status=200 if ready else 503)
            case ["versions", version] | ["versions", version, "ready"]:
                served = endpoint.at_version(version)
                if rest[-1] == "ready" and len(rest) == 3:
                    return _json({"name": name, "ready": True})
            case _:
                return None
        return _json(protocol.describe(name, versions=endpoint.versions(), signature=_signature(served)))

    def _no_such(self, scope: Scope) -> Reply:
        raise NotFoundError(
            f"There is nothing at {scope['method']} {scope['path'][:200]}.",
            hint="Predictions: POST /v2/models/ENDPOINT/infer or /endpoints/ENDPOINT/invocations.",
        )


async def rotate(prediction_log: PredictionLog, *, look_s: float, finish: Callable[[Any], None]) -> None:
    """Close the open segment whenever it is due; runs until it is cancelled."""
    while True:
        await asyncio.sleep(look_s)
        if prediction_log.due():
            detached = prediction_log.detach()
            if detached is not None:
                await asyncio.to_thread(finish, detached)


def refusal(error: EverlineError) -> Reply:
    """An error in the protocol's shape."""
    status = 503 if error.status == 501 else error.status
    headers: Headers = [(b"retry-after", _RETRY_AFTER_S)] if status == 503 else []
    return Reply(status, _error_body(error.message, code=error.code, field=error.field, hint=error.hint), headers)


def _error_body(message: str, *, code: str, field: str | None = None, hint: str | None = None) -> bytes:
    body = {"error": f"{message} {hint}" if hint else message, "code": code}
    if field:
        body["field"] = field
    return msgspec.json.encode(body)


async def _read_body(receive: Receive, headers: Mapping[str, str], *, bytes_max: int) -> bytes:
    announced = headers.get("content-length", "0")
    if (whole_number(announced) or 0) > bytes_max:
        raise _too_large(bytes_max)
    if headers.get("content-encoding", "identity") != "identity":
        raise InvalidInputError("Compressed bodies are not read.", hint="Send plain JSON.", field="content-encoding")
    if "inference-header-content-length" in headers:
        raise InvalidInputError(
            "Binary tensors are not read.",
            hint="Send JSON: with tritonclient, set binary_data=False and request outputs with binary_data=False.",
            field="inference-header-content-length",
        )
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > bytes_max:
            raise _too_large(bytes_max)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _too_large(bytes_max: int) -> TooLargeError:
    return TooLargeError(
        f"The request body is larger than {bytes_max} bytes.", hint="Send fewer rows in each of several requests."
    )


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _signature(served: ServedRevision) -> Any:
    if served.predictor is None:
        raise UnavailableError(f"The revision {served.desired.revision} is not ready.")
    return served.predictor.signature


def _answers(endpoint: ServedEndpoint) -> bool:
    return endpoint.primary is not None or not endpoint.desired.revisions


def _origin_headers(answer: Answer) -> Headers:
    headers = [
        (b"everline-request", answer.request.encode()),
        (b"everline-model-version", f"{answer.model}/{answer.version}".encode()),
        (b"everline-revision", answer.revision.encode()),
        (b"everline-release", answer.release.encode()),
    ]
    if len(answer.predictions) <= _PREDICTION_HEADERS_MAX:
        headers.append((b"everline-predictions", ",".join(answer.predictions).encode()))
    return headers


def _json(body: Any, *, status: int = 200) -> Reply:
    return Reply(status, msgspec.json.encode(body))
