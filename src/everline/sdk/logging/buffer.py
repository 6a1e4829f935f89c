"""What was logged since the journal was last written to: lists that a log call appends to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

import msgspec

from everline.errors import InvalidInputError
from everline.runs import columns, limits
from everline.runs.types import RunInput

POINTS_PER_BATCH_MAX = 20_000

Points = list[tuple[int, int, float]]
"""Step, milliseconds since 1970, value."""


class Buffer:
    """One list of points a metric, so that adding one needs no lock; the rest is rare and has one."""

    def __init__(self, params: Mapping[str, str]) -> None:
        self.points: dict[str, Points] = {}
        self.newest: dict[str, float] = {}
        """The last value of each metric that went to the journal."""
        self.taken = 0
        """How many points went there."""
        self._known = dict(params)
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._inputs: list[RunInput] = []
        self._lock = threading.Lock()

    @property
    def params(self) -> dict[str, str]:
        """Every parameter that this process knows of."""
        return dict(self._known)

    def open(self, key: str) -> Points:
        """The list of a metric that was not logged before.

        Raises:
            InvalidInputError: the name cannot be a metric's.
        """
        limits.check_key(key, field="metric")
        return self.points.setdefault(key, [])

    def add_params(self, pairs: Mapping[str, str]) -> None:
        """Add parameters, unless one of them has another value already."""
        with self._lock:
            for key, value in pairs.items():
                if self._known.get(key, value) != value:
                    raise InvalidInputError(
                        f"Changing param values is not allowed: {key!r} was logged as {self._known[key]!r}.",
                        hint="A parameter is part of what the run is; log a changing value as a tag or metric.",
                        field=f"params.{key}",
                    )
            self._known.update(pairs)
            self._params.update(pairs)

    def add_tags(self, pairs: Mapping[str, str]) -> None:
        """Add tags; the last value counts."""
        with self._lock:
            self._tags.update(pairs)

    def add_input(self, given: RunInput) -> None:
        """Add a dataset."""
        with self._lock:
            self._inputs.append(given)

    def take(self) -> Iterator[Callable[[int], bytes]]:
        """Take what is there out, as batches that wait for their number; one thread at a time."""
        with self._lock:
            params, self._params = self._params, {}
            tags, self._tags = self._tags, {}
            inputs, self._inputs = self._inputs, []
        series: list[columns.Series] = []
        room = POINTS_PER_BATCH_MAX
        for key, points in list(self.points.items()):
            while count := min(len(points), room):
                self.newest[key] = points[count - 1][2]
                self.taken += count
                series.append(columns.series(key, points[:count]))
                del points[:count]  # what was appended meanwhile stays
                room -= count
                if room == 0:
                    yield _encoder(series, params, tags, inputs)
                    series, params, tags, inputs, room = [], {}, {}, [], POINTS_PER_BATCH_MAX
        if series or params or tags or inputs:
            yield _encoder(series, params, tags, inputs)


def _encoder(
    series: list[columns.Series], params: dict[str, str], tags: dict[str, str], inputs: list[RunInput]
) -> Callable[[int], bytes]:
    def encode(sequence: int) -> bytes:
        return msgspec.msgpack.encode(columns.StreamBatch(sequence, series, params, tags, inputs))

    return encode
