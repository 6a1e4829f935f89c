"""REST face for data planes: desired state, prediction segments, health."""

from __future__ import annotations

import threading
import time

import anyio.from_thread

from everline.errors import InvalidInputError, TooLargeError
from everline.server.http import ANSWERED_HERE, Request, Routes, begin, decode
from everline.serving import desired, health, predictions
from everline.serving.types import DesiredState, Health, Segment

routes = Routes(tag="dataplane")

_LOOK_S = 0.15
_waits = 0
_lock = threading.Lock()


@routes.get("/dataplane/state", returns=DesiredState)
def get_state(request: Request) -> DesiredState:
    """Answer the desired state; with `generation` and `wait_s`, once it is another one or the time is up."""
    known, wait_s = request.query("generation", int, None), request.query("wait_s", float, 0.0)
    if not 0.0 <= wait_s <= 3600.0:
        raise InvalidInputError(f"wait_s {wait_s} is out of range.", hint="Give 0 to 20 seconds.", field="wait_s")
    with begin(request) as uow:
        state = desired.desired_state(uow)
    if known != state.generation or wait_s == 0.0 or not _enter(request.app.settings.dataplane_waits_max):
        return state
    try:
        _wait(request, state.generation, min(wait_s, request.app.settings.dataplane_wait_s_max))
    finally:
        _leave()
    with begin(request) as uow:
        return desired.desired_state(uow)


def _wait(request: Request, known: int, wait_s: float) -> None:
    """Look for another generation until the time is up; no transaction is open between two looks.

    Ends early when nobody listens any more, or this process is about to end: a held thread holds up both.
    """
    deadline, stopping = time.monotonic() + wait_s, request.app.stopping
    while (left := deadline - time.monotonic()) > 0:
        if stopping.wait(min(_LOOK_S, left)) or _is_gone(request):
            return
        with begin(request) as uow:
            if desired.read_generation(uow) != known:
                return


def _is_gone(request: Request) -> bool:
    """Whether whoever asked hung up."""
    if request.raw.scope.get("extensions", {}).get(ANSWERED_HERE):
        return False
    gone: bool = anyio.from_thread.run(request.raw.is_disconnected)
    return gone


def _enter(waits_max: int) -> bool:
    """Take a place among the questions that are held open: each holds a thread, and others need some too."""
    global _waits
    with _lock:
        if _waits >= waits_max:
            return False
        _waits += 1
        return True


def _leave() -> None:
    global _waits
    with _lock:
        _waits -= 1


@routes.post("/dataplane/segments", body=bytes, returns=Segment, status=201, upload=True)
def add_segment(request: Request) -> Segment:
    """Take a Parquet segment of logged predictions; the same bytes again change nothing."""
    limit = request.app.settings.segment_bytes_max
    if request.incoming.bytes > limit:
        raise TooLargeError(f"A segment has at most {limit} bytes.", hint="Cut it in pieces.")
    data = request.incoming.path.read_bytes()
    endpoint, rows = request.query("endpoint", str), request.query("rows", int, None)
    digest = request.headers.get("everline-digest")
    with begin(request) as uow:
        return predictions.add_segment(uow, data, project=request.project, endpoint=endpoint, rows=rows, digest=digest)


@routes.post("/dataplane/health", body=Health, returns=Health)
def report_health(request: Request) -> Health:
    """Keep what a data plane says of itself."""
    body = decode(Health, request)
    with begin(request) as uow:
        return health.report_health(uow, body)
