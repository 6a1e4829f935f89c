"""A line of JSON for each request that was answered, for people who look for one afterwards; off unless a setting asks.

| field | is |
| --- | --- |
| at | when it was answered, RFC 3339 UTC |
| method, path, status | of the request, and of its answer |
| ms | from the first byte of the request to its answer |
| bytes_in, bytes_out | sizes of the bodies |
| request, revision, model_version | what answered, where something did |
| forwarded_for, agent | what the caller's proxy and program say of themselves |

Keys and other credentials are never written.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from everline.clock import rfc3339
from everline.errors import InvalidInputError
from everline.serving.dataplane.http.messages import Answering, Reply, Request

log = logging.getLogger("everline.serve")

_TOLD = {
    b"everline-request": "request",
    b"everline-revision": "revision",
    b"everline-model-version": "model_version",
}
_TEXT_CHARACTERS_MAX = 256


class AccessLog:
    """Appends lines to a file that several processes and whoever rotates it may share, or to standard error."""

    def __init__(self, where: str) -> None:
        """Write to a file's path, or to `stderr`.

        Raises:
            InvalidInputError: the file cannot be written.
        """
        self._encoder = msgspec.json.Encoder()
        self._failed = False
        if where == "stderr":
            self._handle = sys.stderr.fileno()
            return
        try:
            Path(where).parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        except OSError as error:
            raise InvalidInputError(
                f"The access log {where} cannot be written: {error.strerror}.",
                hint="Set EVERLINE_ACCESS_LOG to another file, or to stderr.",
                field="access_log",
            ) from None

    def watch(self, request: Request, reply: Answering) -> Answering:
        """Pass a reply on, and write its line."""

        def answered(said: Reply) -> None:
            reply(said)
            self._write(request, said)

        return answered

    def _write(self, request: Request, said: Reply) -> None:
        line = {
            "at": rfc3339(datetime.now(UTC)),
            "method": request.method.decode("latin-1"),
            "path": _text(request.path),
            "status": said.status,
            "ms": round((time.perf_counter_ns() - request.started_ns) / 1e6, 3),
            "bytes_in": len(request.body),
            "bytes_out": len(said.body),
        }
        for header in said.lines.split(b"\r\n"):
            name, _, value = header.partition(b": ")
            if name in _TOLD:
                line[_TOLD[name]] = value.decode("latin-1")
        for name, field in ((b"x-forwarded-for", "forwarded_for"), (b"user-agent", "agent")):
            if name in request.headers:
                line[field] = _text(request.headers[name])
        try:
            os.write(self._handle, self._encoder.encode(line) + b"\n")  # one write: lines of processes do not mix
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.error("the access log cannot be written: %s", error.strerror)
            self._failed = True


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")[:_TEXT_CHARACTERS_MAX]
