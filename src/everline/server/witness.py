"""The witness over HTTP: one call, `POST /add-checkpoint`."""

from __future__ import annotations

import socket

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from everline.governance.witness import REQUEST_BYTES_MAX, SIZE_TYPE, RefusedError, Witness

_DRAIN_S = 5


def create_app(witness: Witness) -> Starlette:
    """The application around one witness."""

    async def add_checkpoint(request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > REQUEST_BYTES_MAX:
                return PlainTextResponse("too long\n", status_code=413)
        try:
            line = await run_in_threadpool(witness.add_checkpoint, bytes(body))
        except RefusedError as error:
            if error.size is not None:
                return Response(f"{error.size}\n", status_code=error.status, media_type=SIZE_TYPE)
            return PlainTextResponse(f"{error.why}\n", status_code=error.status)
        return PlainTextResponse(line)

    async def health(_: Request) -> Response:
        return PlainTextResponse(f"{witness.public.text}\n")

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/health", health),
        ]
    )


def serve(witness: Witness, listener: socket.socket) -> None:
    """Answer until SIGTERM."""
    config = uvicorn.Config(
        create_app(witness), log_level="warning", access_log=False, timeout_graceful_shutdown=_DRAIN_S, lifespan="off"
    )
    uvicorn.Server(config).run(sockets=[listener])
