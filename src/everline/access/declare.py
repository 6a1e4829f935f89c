"""Every public service function says what it is: `read`, `act` or `stream`.

    read     looks; changes nothing
    act      changes state; leaves an audit event in the same transaction
    stream   writes many small facts (metrics, feedback, health); its batches are anchored, not each row

The declaration is also the guard: a function that ends without having asked for a permission fails, and
so do an act without an audit event, and a change in a transaction that only reads. Forgetting is an error here,
never a hole.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar, cast

from everline.access.unit_of_work import UnitOfWork

P = ParamSpec("P")
R = TypeVar("R")
Service = Callable[Concatenate[UnitOfWork, P], R]

DECLARED: dict[str, tuple[str, Callable[..., object]]] = {}
"""Every declared service function by its full name, for the test that calls them all without power."""


class UnguardedError(RuntimeError):
    """A service function forgot its permission or its audit event: a bug, whatever the input."""


def read(function: Service[P, R]) -> Service[P, R]:
    """Declare a function that changes nothing."""
    return _declare(function, "read")


def act(function: Service[P, R]) -> Service[P, R]:
    """Declare a function that changes state and records it."""
    return _declare(function, "act")


def stream(function: Service[P, R]) -> Service[P, R]:
    """Declare a function that takes many small facts."""
    return _declare(function, "stream")


def _declare(function: Service[P, R], kind: str) -> Service[P, R]:
    @functools.wraps(function)
    def guarded(uow: UnitOfWork, *args: P.args, **kwargs: P.kwargs) -> R:
        if kind != "read" and uow.read_only:
            raise UnguardedError(f"{function.__qualname__} changes state, and was called in a read-only transaction.")
        checks, records = uow.checks, uow.records
        result = function(uow, *args, **kwargs)
        if uow.checks == checks:
            raise UnguardedError(f"{function.__qualname__} asked for no permission.")
        if kind == "act" and uow.records == records:
            raise UnguardedError(f"{function.__qualname__} recorded no audit event.")
        return result

    DECLARED[f"{function.__module__}.{function.__qualname__}"] = (kind, guarded)
    return cast("Service[P, R]", guarded)
