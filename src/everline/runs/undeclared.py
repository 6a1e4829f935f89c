"""What a run read that nobody declared, as it is kept with the run: a tag."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from everline.runs.limits import TAG_VALUE_CHARACTERS_MAX
from everline.runs.watching import Seen

UNDECLARED_TAG = "everline.undeclared"
_DIGITS = 19
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
_OWN = str(Path(__file__).resolve().parents[1])


def own_folders(home: Path) -> list[str]:
    """What Everline itself reads: its package, and its home."""
    return [_OWN, str(home.absolute())]


def peers(url: str, *, addresses: bool = False) -> list[str]:
    """A control plane's address as `host:port`, and the proxies on the way to it; none for the embedded one.

    Args:
        addresses: the numbers of these hosts as well, for who sees connections but no names.
    """
    if not urlsplit(url).hostname:
        return []
    found = [_host_and_port(one) for one in (url, *(os.environ.get(name, "") for name in _PROXIES)) if "//" in one]
    if addresses:
        for host, port in list(found):
            with contextlib.suppress(OSError):
                found += [(str(info[4][0]), port) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    return [f"{host}:{port}" for host, port in dict.fromkeys(found)]


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def merged(known: Sequence[Seen], more: Sequence[Seen]) -> list[Seen]:
    """What two watchers saw: the second one knows no names of hosts, so a port that the first one named is known."""
    names = {(one.kind, one.name) for one in known}
    ports = {one.name.rpartition(":")[2] for one in known if one.kind == "host"}
    return [
        *known,
        *(
            one
            for one in more
            if (one.kind, one.name) not in names and not (one.kind == "host" and one.name.rpartition(":")[2] in ports)
        ),
    ]


def tag_of(seen: Sequence[Seen]) -> dict[str, str]:
    """The tag for what was seen, as much as it can hold; no tag if that was nothing."""
    kept = [dict(one._asdict()) for one in seen]
    while kept and len(json.dumps(kept)) > TAG_VALUE_CHARACTERS_MAX:
        kept.pop()
    return {UNDECLARED_TAG: json.dumps(kept)} if kept else {}


def read_tag(tags: Mapping[str, str]) -> tuple[Seen, ...]:
    """What a run's tag says; nothing if somebody else wrote into it."""
    try:
        said = json.loads(tags.get(UNDECLARED_TAG, "[]"))
        found = [Seen(**one) for one in said]
    except (ValueError, TypeError):
        return ()
    return tuple(one for one in found if one.kind in ("file", "host") and isinstance(one.name, str))


def warnings_of(tags: Mapping[str, str]) -> list[str]:
    """What a run read that may make it give another result next time, beside what its record warns of."""
    return [f"{sentence(one)}, which is not recorded" for one in read_tag(tags)]


def sentence(seen: Seen) -> str:
    """One of them, for people.

    Example:
        >>> sentence(Seen("file", "/data/prices.csv", "train", None, 812))
        'step train read /data/prices.csv (812 bytes)'
        >>> sentence(Seen("host", "example.com:443"))
        'it connected to example.com:443'
    """
    who = f"step {seen.step}" if seen.step else "it"
    if seen.kind == "host":
        return f"{who} connected to {seen.name}"
    facts = [f"{seen.digest[:_DIGITS]}…"] if seen.digest else []
    facts += [f"{seen.bytes} bytes"] if seen.bytes is not None else []
    return f"{who} read {seen.name}" + (f" ({', '.join(facts)})" if facts else "")


def told(before: Iterable[Seen], after: Iterable[Seen], *, step: str | None, among: bool = False) -> str | None:
    """What a rebuild read that nobody declared, and whether it was the same when it was recorded; None if nothing.

    Args:
        step: only what this step read, or what was read outside of steps.
        among: what any step read.
    """
    recorded = {(one.kind, one.name): one for one in before}
    found = []
    for one in after:
        if not among and one.step not in (step, None):
            continue
        old = recorded.get((one.kind, one.name))
        changed = old is not None and old.digest is not None and old.digest != one.digest
        found.append(
            sentence(one) + (f", {(old.digest or '')[:_DIGITS]}… when it was recorded" if changed and old else "")
        )
    return "; ".join(found[:5]) or None
