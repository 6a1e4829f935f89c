"""Messages on a stream: four bytes of length, then so many bytes."""

from __future__ import annotations

import socket
import struct

_LENGTH = struct.Struct("!I")
MESSAGE_BYTES_MAX = 256 << 20


def framed(data: bytes) -> bytes:
    """A message with its length before it."""
    return _LENGTH.pack(len(data)) + data


def receive(source: socket.socket) -> bytes:
    """The next message; empty when the other side is gone."""
    head = _exactly(source, _LENGTH.size)
    return _exactly(source, _LENGTH.unpack(head)[0]) if head else b""


def split(buffer: bytearray) -> list[bytes]:
    """Take the messages that are whole from the start of a buffer."""
    found = []
    start = 0
    while len(buffer) - start >= _LENGTH.size:
        (size,) = _LENGTH.unpack_from(buffer, start)
        if len(buffer) - start - _LENGTH.size < size:
            break
        start += _LENGTH.size
        found.append(bytes(buffer[start : start + size]))
        start += size
    if start:
        del buffer[:start]
    return found


def _exactly(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = source.recv(min(count - len(data), 1 << 20))
        if not piece:
            return b""
        data += piece
    return data
