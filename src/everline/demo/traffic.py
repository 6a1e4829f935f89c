"""The year's flights as traffic: real HTTP requests in true time order, and their outcomes a day later."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import httpx
import msgspec

from everline.demo import flights
from everline.demo.stage import ENDPOINT, Stage
from everline.errors import UnavailableError
from everline.sdk.client import Client

MILE_IN_KILOMETRES = 1.609344
_FEEDBACK_MAX = 10_000
_SHIPPED_S = 30.0

Alter = Callable[[flights.Batch], dict[str, list[Any]]]
"""What is sent in place of a batch's own columns: how the demo injects its fault."""


class Replayed(msgspec.Struct, kw_only=True):
    """What one stretch of traffic did."""

    requests: int = 0
    predictions: int = 0
    outcomes: int = 0


class Traffic:
    """The airline: asks the data plane before each hour's departures, and reports what really happened."""

    def __init__(self, data_plane: str, client: Client) -> None:
        self._http = httpx.Client(base_url=data_plane, timeout=30)
        self._client = client
        self._due: deque[tuple[datetime, str, bool]] = deque()
        # Outcomes travel beside the questions, in their own order: nobody waits for them at an airline either.
        self._reports = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feedback")
        self._sending: list[Future[object]] = []
        self._datatypes: dict[str, str] = {}

    def replay(self, stage: Stage, start: datetime, end: datetime, *, alter: Alter | None = None) -> Replayed:
        """Send the flights scheduled in [start, end), hour by hour; report outcomes as they become known."""
        done, hours = Replayed(), (end - start) / timedelta(hours=1)
        with stage.progress() as progress:
            task = progress.add_task(f"{start:%d %b} to {end:%d %b}", total=hours)
            reported = start
            for batch in flights.batches(start, end):
                self._ask(batch, alter(batch) if alter else batch.columns, done)
                if batch.at - reported >= timedelta(days=1):
                    reported = batch.at
                    done.outcomes += self._report(before=batch.at)
                    progress.update(task, completed=(batch.at - start) / timedelta(hours=1))
            done.outcomes += self._report(before=end)
        while self._sending:
            self._sending.pop(0).result()
        return done

    def close(self) -> None:
        """Let the connection go."""
        self._reports.shutdown()
        self._http.close()

    def _ask(self, batch: flights.Batch, columns: dict[str, list[Any]], done: Replayed) -> None:
        body = {
            "id": f"departures-{batch.at:%Y-%m-%dT%H}",
            "parameters": {"event_time": batch.event_times},
            "inputs": [
                {"name": name, "shape": [batch.flights], "datatype": self._datatype(name), "data": values}
                for name, values in columns.items()
            ],
        }
        response = self._http.post(f"/v2/models/{ENDPOINT}/infer", content=msgspec.json.encode(body))
        if response.is_error:
            raise UnavailableError(f"The data plane answered {response.status_code}: {response.text[:500]}")
        answer = msgspec.json.decode(response.content)
        ids = answer["parameters"]["predictions"]
        done.requests += 1
        done.predictions += len(ids)
        # Cancelled and diverted flights never arrive: they have no outcome.
        self._due += [
            (batch.known_at, prediction, late)
            for prediction, late in zip(ids, batch.late, strict=True)
            if late is not None
        ]

    def _report(self, *, before: datetime) -> int:
        sent = 0
        while self._due and self._due[0][0] <= before:
            known_at = self._due[0][0]
            outcomes: dict[str, bool] = {}
            while self._due and self._due[0][0] <= before and len(outcomes) < _FEEDBACK_MAX:
                known_at, prediction, late = self._due.popleft()
                outcomes[prediction] = late
            send = self._client.predictions.log_feedback
            self._sending.append(self._reports.submit(send, ENDPOINT, outcomes, event_time=known_at))
            sent += len(outcomes)
        return sent

    def _datatype(self, name: str) -> str:
        if not self._datatypes:
            described = self._http.get(f"/v2/models/{ENDPOINT}").raise_for_status().json()
            self._datatypes = {field["name"]: field["datatype"] for field in described["inputs"]}
        return self._datatypes[name]


def in_kilometres(batch: flights.Batch) -> dict[str, list[Any]]:
    """The fault that the demo injects: somebody upstream switches `distance` from miles to kilometres."""
    return batch.columns | {"distance": [miles * MILE_IN_KILOMETRES for miles in batch.columns["distance"]]}
