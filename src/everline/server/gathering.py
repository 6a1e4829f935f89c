"""Small requests that are answered together.

A small request costs less than handing it from thread to thread and opening a transaction for it. A face may
declare a route as gathered: requests that arrive while a group is being answered wait, and are the next group:
one thread, one unit of work, shared statements, one commit. A lone request waits for nobody. There is no timer,
so that gathering never adds latency of its own.

    writes = Gather(work=tracking.log_many, ...)

    @routes.post("/runs/log-metric", gather=writes)
    def log_metric(request: Request) -> Batch: ...      # reads the request; `work` does the rest
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from starlette.responses import Response

from everline.access.types import Actor
from everline.access.unit_of_work import UnitOfWork
from everline.errors import EverlineError, TooBusyError
from everline.server.application import Application
from everline.server.authentication import authenticate
from everline.server.http import Request, Route, unexpected

T = TypeVar("T")
R = TypeVar("R")

GROUP_REQUESTS_MAX = 256


class Gather(Generic[T, R]):
    """How gathered requests are worked on.

    Args:
        work: takes what the handlers read, in the order of arrival; returns for each a result, or the error to
            answer with. When it raises, nothing is kept and each request of the group is tried alone.
        render: makes the answer of one result.
        project: the project that a request speaks of; groups are of one actor and one project.
        read_only, power_safe: as in `Application.begin`.
    """

    def __init__(
        self,
        *,
        work: Callable[[UnitOfWork, str, Sequence[T]], Sequence[R | EverlineError]],
        render: Callable[[R], Response],
        project: Callable[[Request], str],
        read_only: bool = False,
        power_safe: bool = True,
    ) -> None:
        self.work = work
        self.render = render
        self.project = project
        self.read_only = read_only
        self.power_safe = power_safe


Step = Callable[[UnitOfWork], Response]


def in_turn(uow: UnitOfWork, _project: str, steps: Sequence[Step]) -> list[Response | EverlineError]:
    """A `Gather.work` for requests that have nothing in common but their commit: one after the other.

    What one of them wrote before it was refused is taken back; the others stay.
    """
    if len(steps) == 1:
        return [steps[0](uow)]
    answers: list[Response | EverlineError] = []
    for step in steps:
        recorded = len(uow.events)
        try:
            with uow.conn.begin_nested():
                answers.append(step(uow))
        except EverlineError as error:
            del uow.events[recorded:]
            answers.append(error)
    return answers


class _Waiting(NamedTuple):
    """A request on its way through a lane."""

    request: Request
    route: Route
    future: asyncio.Future[Response]


class _Read(NamedTuple):
    """A request whose meaning is known."""

    waiting: _Waiting
    item: Any


class Lanes:
    """The two threads of a control plane that answer gathered requests: one for those that read, one for the others."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._reading = _Lane(app, "everline-gathered-reads")
        self._writing = _Lane(app, "everline-gathered-writes")

    async def answer(self, request: Request, route: Route) -> Response:
        """Answer one request together with whatever else waits."""
        lane = self._reading if route.gather.read_only else self._writing
        return await lane.answer(request, route)

    def close(self) -> None:
        """End the threads after what waits."""
        self._reading.close()
        self._writing.close()


class _Lane:
    """One thread and the requests that wait for it."""

    def __init__(self, app: Application, name: str) -> None:
        self._app = app
        self._name = name
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def answer(self, request: Request, route: Route) -> Response:
        limit = self._app.settings.gathered_requests_max
        if self._waiting.qsize() >= limit:
            return route.on_error(
                TooBusyError(f"{limit} requests wait already.", hint="Send less at once, or try again soon."), request
            )
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting.put(_Waiting(request, route, future))
        return await future

    def close(self) -> None:
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()

    def _work(self) -> None:
        while True:
            group = [self._waiting.get()]
            while len(group) < GROUP_REQUESTS_MAX:
                try:
                    group.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            waiting = [one for one in group if one is not None]
            try:
                self._answer_all(waiting)
            except Exception as error:  # a fault of this module must not leave anybody without an answer
                _deliver([(one.future, _refusal(one, error)) for one in waiting])
            if len(waiting) < len(group):
                return

    def _answer_all(self, group: Sequence[_Waiting]) -> None:
        answers: list[tuple[asyncio.Future[Response], Response]] = []
        together: dict[tuple[Any, ...], list[_Read]] = {}
        for waiting in group:
            request, route = waiting.request, waiting.route
            try:
                request.actor = authenticate(self._app, request)
                read = _Read(waiting, route.handler(request))
                key = (route.gather, request.actor.uid, route.gather.project(request))
                together.setdefault(key, []).append(read)
            except Exception as error:
                answers.append((waiting.future, _refusal(waiting, error)))
        for (gather, _, project), reads in together.items():
            answers += self._answer_group(gather, project, reads)
        _deliver(answers)

    def _answer_group(
        self, gather: Gather[Any, Any], project: str, reads: Sequence[_Read]
    ) -> list[tuple[asyncio.Future[Response], Response]]:
        actor: Actor = reads[0].waiting.request.actor
        try:
            with self._app.begin(actor, read_only=gather.read_only, power_safe=gather.power_safe) as uow:
                results = gather.work(uow, project, [read.item for read in reads])
        except Exception as error:
            if len(reads) == 1:
                return [(reads[0].waiting.future, _refusal(reads[0].waiting, error))]
            return [answer for read in reads for answer in self._answer_group(gather, project, [read])]
        return [
            (read.waiting.future, _rendered(gather, read, result)) for read, result in zip(reads, results, strict=True)
        ]


def _rendered(gather: Gather[Any, Any], read: _Read, result: Any) -> Response:
    if isinstance(result, EverlineError):
        return _refusal(read.waiting, result)
    try:
        return gather.render(result)
    except Exception as error:
        return _refusal(read.waiting, error)


def _refusal(waiting: _Waiting, error: Exception) -> Response:
    known = error if isinstance(error, EverlineError) else unexpected(waiting.request)
    return waiting.route.on_error(known, waiting.request)


def _deliver(answers: Sequence[tuple[asyncio.Future[Response], Response]]) -> None:
    """Give answers to their event loops, with one call to each."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Response], Response]]] = {}
    for future, response in answers:
        loops.setdefault(future.get_loop(), []).append((future, response))
    for loop, ready in loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_set_results, ready)


def _set_results(ready: Sequence[tuple[asyncio.Future[Response], Response]]) -> None:
    for future, response in ready:
        if not future.done():
            future.set_result(response)
