"""The service `inference.GRPCInferenceService`, in front of the application that answers over HTTP.

A call becomes a request with the call's metadata for headers, so that keys, names, limits and errors are the same; a
refusal becomes the gRPC status that means it. It runs in the same event loop, and its calls are gathered with HTTP's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import msgspec

from everline.config import Settings
from everline.errors import InvalidInputError
from everline.serving.dataplane.app import Address, DataPlaneApp
from everline.serving.dataplane.grpc.form import FORM
from everline.serving.dataplane.grpc.messages import CLASSES, SERVICE
from everline.serving.dataplane.http.messages import Reply, Request

_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.OUT_OF_RANGE,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_SECONDS_MAX = 1e6


class GrpcServer:
    """Answers gRPC beside HTTP."""

    def __init__(self, app: DataPlaneApp, settings: Settings) -> None:
        self._app = app
        self._bytes_max = settings.request_bytes_max
        self._calls_max = settings.requests_in_flight_max
        self._server: grpc.aio.Server | None = None

    async def start(self, host: str, port: int, *, credentials: grpc.ServerCredentials | None = None) -> int:
        """Begin to listen; return the port.

        Raises:
            InvalidInputError: the port cannot be had.
        """
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._bytes_max),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 1),
            ],
            maximum_concurrent_rpcs=self._calls_max,
        )
        methods = {
            "ServerLive": self._told("ServerLiveRequest", lambda _: ("/v2/health/live", _field("live"))),
            "ServerReady": self._told("ServerReadyRequest", lambda _: ("/v2/health/ready", _field("ready"))),
            "ModelReady": self._told("ModelReadyRequest", lambda asked: (_model(asked) + "/ready", _field("ready"))),
            "ServerMetadata": self._told("ServerMetadataRequest", lambda _: ("/v2", _all)),
            "ModelMetadata": self._told("ModelMetadataRequest", lambda asked: (_model(asked), _all)),
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self._infer),
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound: int = (
                server.add_insecure_port(address)
                if credentials is None
                else server.add_secure_port(address, credentials)
            )
        except RuntimeError:
            raise InvalidInputError(
                f"Cannot listen on {address} for gRPC.", hint="Choose another with --grpc-port.", field="grpc_port"
            ) from None
        await server.start()
        self._server = server
        return bound

    async def stop(self, *, drain_s: float) -> None:
        """Accept no more, let what is under way end within `drain_s` seconds."""
        if self._server is not None:
            await self._server.stop(drain_s)

    async def _infer(self, body: bytes, context: Any) -> bytes:
        try:
            asked = CLASSES["ModelInferRequest"].FromString(body)
        except Exception:  # whatever protobuf raises on hostile bytes
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "This is not a ModelInferRequest.")
        headers = _headers(context)
        remaining = context.time_remaining()
        if remaining is not None and 0 < remaining < _SECONDS_MAX:
            headers.setdefault(b"everline-timeout-ms", b"%d" % max(int(remaining * 1000), 1))
        request = Request(b"POST", b"/grpc", headers, body)
        address = Address(asked.model_name, asked.model_version or None, FORM)
        reply = await self._reply(request, address)
        if reply.status != 200:
            await _abort(context, reply)
        context.set_trailing_metadata(_metadata(reply.lines))
        return reply.body

    async def _reply(self, request: Request, address: Address | None = None) -> Reply:
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def answer(reply: Reply) -> None:
            if not answered.done():  # the caller may be gone
                answered.set_result(reply)

        self._app.handle(request, answer, address=address)
        return await answered

    def _told(self, kind: str, ask: Callable[[Any], tuple[str, Callable[[Any], dict[str, Any]]]]) -> Any:
        """A method that tells what an address of HTTP tells."""
        response = CLASSES[kind.replace("Request", "Response")]

        async def tell(message: Any, context: Any) -> Any:
            path, fields = ask(message)
            reply = await self._reply(Request(b"GET", path.encode(), _headers(context)))
            told = msgspec.json.decode(reply.body)
            if reply.status != 200 and "ready" not in told:
                await _abort(context, reply)
            return response(**fields(told))

        return grpc.unary_unary_rpc_method_handler(
            tell, request_deserializer=CLASSES[kind].FromString, response_serializer=response.SerializeToString
        )


def _model(asked: Any) -> str:
    return f"/v2/models/{asked.name}" + (f"/versions/{asked.version}" if asked.version else "")


def _field(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda told: {name: told[name]}


def _all(told: Any) -> dict[str, Any]:
    """Everything that the protocol's message has a place for."""
    for tensors in (told.get("inputs", ()), told.get("outputs", ())):
        for tensor in tensors:
            tensor.pop("parameters", None)
    return dict(told)


def _headers(context: Any) -> dict[bytes, bytes]:
    return {
        name.encode(): value if isinstance(value, bytes) else value.encode("latin-1", "replace")
        for name, value in context.invocation_metadata() or ()
    }


def _metadata(lines: bytes) -> tuple[tuple[str, str], ...]:
    pairs = (line.partition(": ") for line in lines.decode("latin-1").splitlines())
    return tuple((name.lower(), value) for name, _, value in pairs)


async def _abort(context: Any, reply: Reply) -> None:
    told = msgspec.json.decode(reply.body)
    status = _STATUS.get(reply.status, grpc.StatusCode.INTERNAL)
    await context.abort(status, told.get("error", ""), _metadata(reply.lines))
