"""REST face of explanations: what has to be run to split a change, and what it comes to."""

from __future__ import annotations

from everline.errors import InvalidInputError
from everline.reproduction.explaining import planning, service
from everline.reproduction.explaining.types import Explain, Explanation, Method, Plan
from everline.server.http import Request, Routes, begin, decode

routes = Routes(tag="reproduction")


@routes.get("/explanations/plan", returns=Plan)
def plan(request: Request) -> Plan:
    """Say what differs between the runs `before` and `after`, and what has to be run to split a metric's change."""
    method = request.query("method", str, Method.EXACT.value)
    if method not in list(Method):
        raise InvalidInputError(
            f"There is no method {method[:80]!r}.", hint=f"Use {', '.join(Method)}.", field="method"
        )
    with begin(request) as uow:
        return planning.plan(
            uow,
            request.project,
            request.query("before", str, ""),
            request.query("after", str, ""),
            metric=request.query("metric", str, None),
            method=Method(method),
            seeds=request.query("seeds", int, 5),
        )


@routes.post("/explanations", body=Explain, returns=Explanation, status=201)
def explain(request: Request) -> Explanation:
    """Split a metric's change by the mixtures that were run; sign it, and attach it as evidence."""
    body = decode(Explain, request)
    # Worked out before the transaction that writes: there may be many runs to read, and the lock is everybody's.
    with request.app.begin(request.actor, read_only=True) as uow:
        found = service.explain(uow, request.project, body)
    if not body.certify:
        return found
    with begin(request) as uow:
        return service.certify(uow, request.project, found)
