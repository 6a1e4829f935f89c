"""Logged predictions and their outcomes through the client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from everline.clock import rfc3339
from everline.sdk.client import Client
from everline.serving.types import FeedbackReceipt, Outcome, Prediction


class PredictionsApi:
    """The prediction log, and feedback about it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def get(self, prediction: str) -> Prediction:
        """One prediction with its inputs, outputs and outcome."""
        return self._client.call("GET", f"/predictions/{prediction}", returns=Prediction)

    def log_feedback(
        self,
        endpoint: str,
        outcomes: Mapping[str, float | bool] | Iterable[Outcome],
        *,
        event_time: datetime | None = None,
    ) -> FeedbackReceipt:
        """Say how predictions turned out; at most 10,000 a call, and sending them again changes nothing.

        Args:
            outcomes: outcome by prediction id, or `Outcome`s.
            event_time: when the outcomes happened, for those given by id.
        """
        items: Iterable[Any] = outcomes
        if isinstance(outcomes, Mapping):
            when = None if event_time is None else rfc3339(event_time)
            items = ({"prediction": uid, "outcome": value, "event_time": when} for uid, value in outcomes.items())
        body = {"endpoint": endpoint, "items": [*items]}
        return self._client.call("POST", "/feedback", body=body, returns=FeedbackReceipt)

    def list(self, endpoint: str, *, limit: int = 100) -> list[Prediction]:
        """An endpoint's predictions, newest first."""
        return self._client.list_all(f"/endpoints/{endpoint}/predictions", kind=Prediction, limit=limit)
