"""A listening socket for a server in the foreground; light, so that the data plane stays light too."""

from __future__ import annotations

import socket

from everline.errors import InvalidInputError


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket, or a clear word about why not.

    Args:
        shared: keep the port only, for processes that will listen on it with sockets of their own.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise InvalidInputError(
            f"Cannot listen on {host}:{port}: {error.strerror}.",
            hint="Choose another with --port, or --port 0 for a free one.",
            field="port",
        ) from None
    if not shared:
        listener.listen(2048)
    return listener
