"""REST face of backtests."""

from __future__ import annotations

from everline.reproduction.backtests import service
from everline.reproduction.backtests.types import Backtest, BacktestReport
from everline.server.http import Request, Routes, begin, decode

routes = Routes(tag="reproduction")


@routes.post("/backtests", body=Backtest, returns=BacktestReport, status=201)
def judge(request: Request) -> BacktestReport:
    """Hold a candidate's answers against the prediction log, sign what was found, and attach it to the candidate."""
    body = decode(Backtest, request)
    # Worked out before the transaction that writes: it takes seconds, and the lock is everybody's.
    with request.app.begin(request.actor, read_only=True) as uow:
        report = service.judge(uow, request.project, body)
    if not body.certify:
        return report
    with begin(request) as uow:
        return service.certify(uow, request.project, report)
