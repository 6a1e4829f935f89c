"""REST face of feedback: true outcomes of predictions."""

from __future__ import annotations

from everline.server.http import Request, Routes, begin, decode
from everline.serving import feedback
from everline.serving.types import FeedbackReceipt, LogFeedback

routes = Routes(tag="feedback")


@routes.post("/feedback", body=LogFeedback, returns=FeedbackReceipt)
def log_feedback(request: Request) -> FeedbackReceipt:
    """Keep the true outcomes of up to 10,000 predictions; sending them again changes nothing."""
    body = decode(LogFeedback, request)
    with begin(request) as uow:
        return feedback.log_feedback(uow, body.items, project=request.project, endpoint=body.endpoint)
