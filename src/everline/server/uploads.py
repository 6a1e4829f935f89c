"""Bodies as large as a blob: read on the event loop, hashed and written in threads, never whole in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import BinaryIO

import anyio.to_thread
from starlette.requests import ClientDisconnect
from starlette.requests import Request as StarletteRequest

from everline.errors import InvalidInputError, TooLargeError
from everline.ids import whole_number
from everline.storage.incoming import Incoming

_PIECE_BYTES = 1 << 20
"""What is hashed and written at a time: the hop into a thread costs as much as hashing 50 KB."""


async def receive(raw: StarletteRequest, body: Incoming, *, bytes_max: int) -> None:
    """Write a request's body; one piece is hashed and written while the next one arrives.

    Raises:
        TooLargeError: it is larger than `bytes_max`.
        InvalidInputError: the connection ended before the body did.
        UnavailableError: the disk is full.
    """
    check_announced(raw.headers, bytes_max=bytes_max)
    writing: asyncio.Task[None] | None = None
    try:
        async for piece in _pieces(raw, bytes_max):
            if writing is not None:
                await writing
            writing = asyncio.create_task(anyio.to_thread.run_sync(body.write, piece))
    finally:
        # The thread must have let go of the file before anybody discards it.
        if writing is not None:
            await writing


def take(file: BinaryIO, body: Incoming, *, bytes_max: int) -> None:
    """Write a body that a client in this process handed over as an open file; see `receive`."""
    body.take(file, bytes_max=bytes_max)
    if body.bytes > bytes_max:
        raise body_too_large(bytes_max)


async def drain(raw: StarletteRequest, *, bytes_max: int) -> None:
    """Read a refused body to its end and forget it: a client that is still sending would not read its answer."""
    try:
        async for _ in _pieces(raw, bytes_max):
            pass
    except (InvalidInputError, TooLargeError):
        return


def check_announced(headers: Mapping[str, str], *, bytes_max: int) -> None:
    """Refuse a body that says it is too large before it is read."""
    if (whole_number(headers.get("content-length", "")) or 0) > bytes_max:
        raise body_too_large(bytes_max)


def body_too_large(bytes_max: int) -> TooLargeError:
    """What to say of a body that is larger than its limit."""
    return TooLargeError(f"The body is larger than {bytes_max} bytes.", hint="Send it in smaller pieces.")


def cut_off() -> InvalidInputError:
    """What to say, if anybody still listens, when a connection ends before the body does."""
    return InvalidInputError("The connection ended before the body did; nothing was kept.")


async def _pieces(raw: StarletteRequest, bytes_max: int) -> AsyncIterator[bytes]:
    """The body in pieces of about 1 MiB; the last one may be empty, so that there is always one."""
    chunks: list[bytes] = []
    size = total = 0
    try:
        async for chunk in raw.stream():
            chunks.append(chunk)
            size += len(chunk)
            total += len(chunk)
            if total > bytes_max:
                raise body_too_large(bytes_max)
            if size >= _PIECE_BYTES:
                yield b"".join(chunks)
                chunks, size = [], 0
    except ClientDisconnect:
        raise cut_off() from None
    yield b"".join(chunks)
