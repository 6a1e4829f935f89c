"""The compact encoding of what a run logs: metrics as columns, in MessagePack.

Light on purpose: the SDK writes it, its journal keeps it, the server reads it (`runs.streaming`). A metric's
points are three columns of 8 bytes each, little-endian, so that both ends move them without touching one by one.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from everline.errors import InvalidInputError
from everline.runs.types import RunInput

FORMAT = 1
_SWAP = sys.byteorder != "little"


class Series(msgspec.Struct, frozen=True, array_like=True):
    """Points of one metric: columns of equal length, in the order in which they were logged.

    Attributes:
        steps: int64. at_ms: int64, milliseconds since 1970. values: float64, also NaN and infinities.
    """

    key: str
    steps: bytes
    at_ms: bytes
    values: bytes

    @property
    def rows(self) -> int:
        """How many points there are."""
        return len(self.values) // 8

    def columns(self) -> tuple[array[int], array[int], array[float]]:
        """The three columns as numbers.

        Raises:
            InvalidInputError: they are of different lengths, or broken off.
        """
        if not len(self.steps) == len(self.at_ms) == len(self.values) or len(self.values) % 8:
            raise InvalidInputError(
                f"The columns of metric {self.key[:80]!r} do not fit each other.",
                hint="Steps, times and values are columns of 8 bytes each, of one length.",
                field="series",
            )
        return _numbers("q", self.steps), _numbers("q", self.at_ms), _numbers("d", self.values)


class StreamBatch(msgspec.Struct, frozen=True, array_like=True):
    """What was logged within one moment. `sequence` counts up within a stream, so that none is taken twice."""

    sequence: int
    series: Sequence[Series] = ()
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    inputs: Sequence[RunInput] = ()


class StreamBody(msgspec.Struct, frozen=True, array_like=True):
    """The body of one request. `stream` names one writer of the run: 32 hexadecimal digits."""

    format: int
    stream: str
    batches: Sequence[StreamBatch]


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was not kept, and why; `field` names it, such as `params.depth`."""

    sequence: int
    field: str
    message: str
    hint: str | None = None


class StreamAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request: everything up to the batch `acknowledged` is durable, except what was refused."""

    acknowledged: int
    points: int
    refused: list[Refusal] = []


def series(key: str, points: Iterable[tuple[int, int, float]]) -> Series:
    """Columns of (step, milliseconds, value) rows; there is at least one."""
    steps, at_ms, values = zip(*points, strict=True)
    return Series(key, _bytes("q", steps), _bytes("q", at_ms), _bytes("d", values))


def body(stream: str, batches: Sequence[bytes]) -> bytes:
    """A request's body around batches that are encoded already."""
    return msgspec.msgpack.encode([FORMAT, stream, [msgspec.Raw(batch) for batch in batches]])


def decode_body(content: bytes) -> StreamBody:
    """Read a request's body.

    Raises:
        InvalidInputError: not MessagePack, or of another shape or format.
    """
    try:
        decoded: StreamBody = _decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(
            f"The stream cannot be read: {error}.", hint="It is MessagePack as everline.runs.columns writes it."
        ) from None
    if decoded.format != FORMAT:
        raise InvalidInputError(
            f"Streams of format {decoded.format} are not known here, only of format {FORMAT}.",
            hint="Bring server and client to one version.",
            field="format",
        )
    return decoded


_decoder = msgspec.msgpack.Decoder(StreamBody)


def _numbers(kind: str, content: bytes) -> array[Any]:
    column: array[Any] = array(kind)
    column.frombytes(content)
    if _SWAP:
        column.byteswap()
    return column


def _bytes(kind: str, values: Sequence[Any]) -> bytes:
    column: array[Any] = array(kind, values)
    if _SWAP:
        column.byteswap()
    return column.tobytes()
