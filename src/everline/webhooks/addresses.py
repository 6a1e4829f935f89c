"""Where webhooks may go: over TLS to public addresses, unless the setting `webhook_private` says otherwise.

A name is resolved once and connected to at the address that was checked, so that a name server that answers
differently the second time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

from everline.errors import ForbiddenError, InvalidInputError, UnavailableError

URL_CHARACTERS_MAX = 2_000
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAMES = ("localhost", ".localhost", ".local", ".internal")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_url(url: str, *, private: bool) -> str:
    """Return `url` if a webhook may have it; names are looked up only when something is delivered.

    Raises:
        InvalidInputError: another scheme than https, no host, a user's name inside, or an address that is not public.
    """
    split = _split(url)
    schemes = ("https", "http") if private else ("https",)
    if split.scheme not in schemes:
        raise InvalidInputError(
            f"Invalid webhook URL scheme: '{split.scheme[:20]}'. Allowed schemes are: {', '.join(schemes)}.",
            hint=None if private else "EVERLINE_WEBHOOK_PRIVATE=true allows http and private addresses.",
            field="url",
        )
    if not split.hostname:
        raise InvalidInputError(f"Webhook URL must include a hostname: '{url[:200]}'", field="url")
    if split.username is not None or split.password is not None:
        raise InvalidInputError(
            "A webhook URL has no user name and password inside.",
            hint="Use a secret: it signs deliveries.",
            field="url",
        )
    if not private and _is_known_private(split.hostname):
        raise InvalidInputError(
            f"Webhook URL must not resolve to a non-public IP address: '{split.hostname[:200]}'.",
            hint="EVERLINE_WEBHOOK_PRIVATE=true allows private addresses.",
            field="url",
        )
    return url


def address_of(host: str, port: int, *, private: bool) -> str:
    """Resolve a host, and return an address that may be connected to.

    Raises:
        UnavailableError: the name is not known.
        ForbiddenError: one of its addresses is not public.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnavailableError(f"The host {host[:200]!r} cannot be resolved: {error}.") from None
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not private and not is_public(ipaddress.ip_address(address.split("%")[0])):
            raise ForbiddenError(
                f"The host {host[:200]!r} resolves to {address}, which is not public.",
                hint="EVERLINE_WEBHOOK_PRIVATE=true allows private addresses.",
            )
    return addresses[0]


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, also when it is wrapped in one of IPv6's forms.

    Example:
        >>> is_public(ipaddress.ip_address("::ffff:10.0.0.1"))
        False
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global
    return address.is_global and not address.is_multicast


def _is_known_private(host: str) -> bool:
    lowered = host.lower().rstrip(".")
    if lowered == "localhost" or lowered.endswith(_LOCAL_NAMES):
        return True
    if ":" not in lowered and not lowered.replace(".", "").isdigit():
        return False
    try:
        return not is_public(ipaddress.ip_address(lowered))
    except ValueError:  # such as 127.1, which sockets read as an address and checks as a name
        return True


def _split(url: str) -> SplitResult:
    if not url.strip() or len(url) > URL_CHARACTERS_MAX or not url.isprintable() or " " in url:
        raise InvalidInputError(
            f"Webhook URL cannot be empty, hold blanks or pass {URL_CHARACTERS_MAX} characters: '{url[:200]}'",
            field="url",
        )
    try:
        split = urlsplit(url)
        _ = split.port
    except ValueError as error:
        raise InvalidInputError(f"Invalid webhook URL '{url[:200]}': {error}", field="url") from None
    return split
