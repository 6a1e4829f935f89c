"""Who looks on while requests are answered, and how connections are kept from others: what settings ask for."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from everline.config import Settings
from everline.errors import InvalidInputError
from everline.loader import load
from everline.serving.dataplane.http.messages import Answering, Request


class Watcher(Protocol):
    """Looks on: may note a request and its reply, changes neither."""

    def watch(self, request: Request, reply: Answering) -> Answering:
        """Give what passes the reply on."""


class Watchers(NamedTuple):
    """Everybody who looks on, and how to let them go."""

    each: list[Watcher]
    close: Callable[[], None]


def watchers_of(settings: Settings) -> Watchers:
    """Who the settings ask for; their modules are loaded only then."""
    each: list[Watcher] = []
    closing: list[Callable[[], None]] = []
    if settings.access_log:
        each.append(load("everline.serving.dataplane.access_log").AccessLog(settings.access_log))
    if settings.tracing:
        tracing = load("everline.serving.dataplane.tracing").Tracing()
        each.append(tracing)
        closing.append(tracing.close)

    def close() -> None:
        for one in closing:
            one()

    return Watchers(each, close)


def tls_of(settings: Settings) -> ssl.SSLContext | None:
    """How connections are encrypted; None where they are not.

    Raises:
        InvalidInputError: certificate or key cannot be read, or only one of them is given.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise InvalidInputError(
            "TLS needs a certificate and its key, and only one of them is set.",
            hint="Set EVERLINE_TLS_CERTIFICATE and EVERLINE_TLS_KEY.",
            field="tls_key" if certificate else "tls_certificate",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInputError(
            f"The certificate {certificate} and the key {key} cannot be used: {error}.",
            hint="Both are files in PEM; the certificate's chain follows it.",
            field="tls_certificate",
        ) from None
    return context


def tls_files(settings: Settings) -> tuple[bytes, bytes] | None:
    """Key and certificate chain in PEM, for servers that take them as bytes."""
    if tls_of(settings) is None:
        return None
    return Path(settings.tls_key).read_bytes(), Path(settings.tls_certificate).read_bytes()


def address_of(settings: Settings, host: str, port: int) -> str:
    """The base URL of a data plane that listens here."""
    scheme = "https" if settings.tls_certificate else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
