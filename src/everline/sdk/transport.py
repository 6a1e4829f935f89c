"""HTTP/1.1 to a control plane, light: `http.client` and a pool of connections that are kept open.

A general HTTP library costs a script more time to import than everything that it logs costs to send. Proxies are
taken from the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`), certificates from the system or `SSL_CERT_FILE`.
"""

from __future__ import annotations

import base64
import os
import select
import socket
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

import msgspec

from everline.errors import UnavailableError
from everline.loader import late, load

if TYPE_CHECKING:
    import http.client as http_client
else:  # an embedded control plane is asked without it
    http_client = late("http.client")

CONNECT_S = 5.0
ANSWER_S = 60.0
IDLE_CONNECTIONS_MAX = 8
_SAFE_TO_REPEAT = frozenset({"GET", "HEAD", "PUT", "DELETE"})

_PIECE_BYTES = 1 << 20
_NO_HEADERS: Mapping[str, str] = {}


class Sink(Protocol):
    """What takes a body piece by piece, such as a file."""

    def write(self, data: bytes | memoryview, /) -> Any:
        """Take a piece."""


Content = bytes | BinaryIO
"""A body: bytes, or a file that is read from its start to its end."""


class Answer:
    """What came back."""

    def __init__(self, status: int, *, reason: str, headers: Mapping[str, str], content: bytes) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        """Their names are in lower case."""
        self.content = content

    @property
    def is_error(self) -> bool:
        """Whether the status says that it failed."""
        return self.status >= 400

    def json(self) -> Any:
        """The body, read as JSON."""
        return msgspec.json.decode(self.content)


class Transport(Protocol):
    """Sends one request and returns its answer, whatever its status; safe to share between threads."""

    origin: str

    def exchange(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        content: Content | None = None,
        into: Sink | None = None,
        connect_s: float = CONNECT_S,
    ) -> Answer:
        """One exchange.

        Args:
            target: path and query, escaped.
            into: takes the body of an answer that is no error, piece by piece; the answer's own is empty then.
            connect_s: how long a new connection may take.

        Raises:
            UnavailableError: nobody answered; whether the request was acted on is not known.
        """

    def close(self) -> None:
        """Let go of what is held open."""


class HttpTransport:
    """Over the network. A connection that the server has closed meanwhile is noticed before it is used."""

    def __init__(self, url: str) -> None:
        self.origin = url.rstrip("/")
        parts = urlsplit(self.origin)
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._tls else 80)
        self._path = parts.path
        self._credentials = _basic(parts.username, parts.password)
        self._proxy = _proxy_for(parts.scheme, self._host)
        self._idle: deque[http_client.HTTPConnection] = deque(maxlen=IDLE_CONNECTIONS_MAX)
        self._pid = os.getpid()

    def exchange(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        content: Content | None = None,
        into: Sink | None = None,
        connect_s: float = CONNECT_S,
    ) -> Answer:
        """One exchange; see `Transport`."""
        sent = self._credentials | {"Accept": "*/*", "User-Agent": "everline"} | dict(headers)
        path = self._path + target
        if self._proxy and not self._tls:
            path = self.origin + target
        try:
            used = self._take()
            if used is not None:
                try:
                    return self._ask(used, method, path, headers=sent, content=content, into=into)
                except (http_client.RemoteDisconnected, ConnectionError):
                    if method not in _SAFE_TO_REPEAT:
                        raise
                    if content is not None and not isinstance(content, bytes):
                        content.seek(0)
            return self._ask(self._connect(connect_s), method, path, headers=sent, content=content, into=into)
        except (OSError, http_client.HTTPException, ValueError) as error:
            raise _unavailable(self.origin, error) from error

    def close(self) -> None:
        """Close idle connections."""
        while self._idle:
            self._idle.popleft().close()

    def _ask(
        self,
        connection: http_client.HTTPConnection,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        content: Content | None,
        into: Sink | None,
    ) -> Answer:
        try:
            length = {} if content is None or isinstance(content, bytes) else {"Content-Length": str(_size(content))}
            connection.request(method, path, body=content, headers={**headers, **length})
            response = connection.getresponse()
            body = b""
            if into is None or response.status >= 400:
                body = response.read()
            else:
                while piece := response.read(_PIECE_BYTES):
                    into.write(piece)
        except BaseException:
            connection.close()
            raise
        found = {name.lower(): value for name, value in response.getheaders()}
        if response.will_close:
            connection.close()
        elif len(self._idle) < IDLE_CONNECTIONS_MAX:
            self._idle.append(connection)
        else:
            connection.close()
        return Answer(response.status, reason=response.reason, headers=found, content=body)

    def _take(self) -> http_client.HTTPConnection | None:
        """An idle connection that is still open."""
        if self._pid != os.getpid():  # after a fork the connections are the parent's
            self._idle, self._pid = deque(maxlen=IDLE_CONNECTIONS_MAX), os.getpid()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.sock is not None and not _readable(connection.sock):
                return connection
            connection.close()

    def _connect(self, connect_s: float) -> http_client.HTTPConnection:
        kind = http_client.HTTPSConnection if self._tls else http_client.HTTPConnection
        if self._proxy is None:
            connection = kind(self._host, self._port, timeout=connect_s)
        else:
            proxy = urlsplit(self._proxy)
            connection = kind(proxy.hostname or "", proxy.port or 80, timeout=connect_s)
            if self._tls:
                who = _basic(proxy.username, proxy.password).get("Authorization")
                connection.set_tunnel(self._host, self._port, {"Proxy-Authorization": who} if who else {})
        connection.connect()
        if connection.sock is not None:
            connection.sock.settimeout(ANSWER_S)
        return connection


def _readable(sock: socket.socket) -> bool:
    """Nothing was asked, so something to read is the other end's farewell."""
    if not hasattr(select, "poll"):  # Windows, where `select` takes any number of sockets
        return bool(select.select([sock], [], [], 0)[0])
    looking = select.poll()
    looking.register(sock, select.POLLIN)
    return bool(looking.poll(0))


def _basic(user: str | None, password: str | None) -> dict[str, str]:
    if user is None:
        return {}
    pair = f"{unquote(user)}:{unquote(password or '')}".encode()
    return {"Authorization": "Basic " + base64.b64encode(pair).decode()}


def _proxy_for(scheme: str, host: str) -> str | None:
    if not any(name.lower() in (f"{scheme}_proxy", "all_proxy") for name in os.environ):
        return None
    request = load("urllib.request")
    if request.proxy_bypass(host):
        return None
    proxies: dict[str, str] = request.getproxies()
    return proxies.get(scheme) or proxies.get("all")


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _unavailable(origin: str, error: Exception) -> UnavailableError:
    return UnavailableError(
        f"The control plane at {origin} does not answer ({type(error).__name__}).",
        hint="Start it with `everline server`, or unset EVERLINE_URL to work embedded.",
    )
