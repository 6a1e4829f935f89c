"""A request whichever form it came in, an answer whichever form it goes out in, and what the forms have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from everline.clock import parse_rfc3339
from everline.errors import InvalidInputError, TooLargeError
from everline.ids import new_uid
from everline.models.signature import Array, ColumnType, Signature
from everline.serving.dataplane.http.messages import Reply, Request, header

if TYPE_CHECKING:
    from everline.serving.dataplane.plan import Plan

DATATYPES = {
    ColumnType.BOOLEAN: "BOOL",
    ColumnType.INTEGER: "INT32",
    ColumnType.LONG: "INT64",
    ColumnType.FLOAT: "FP32",
    ColumnType.DOUBLE: "FP64",
    ColumnType.STRING: "BYTES",
    ColumnType.DATETIME: "BYTES",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REQUEST_CHARACTERS_MAX = 128
_PREDICTION_HEADERS_MAX = 32

Column = Sequence[Any] | Array


class Ask(msgspec.Struct, kw_only=True):
    """What a caller wants to know.

    Attributes:
        request: the caller's name for the request, or a new one.
        columns: one value per row under each input's name.
        event_time_us: empty, or one time per row in microseconds since 1970 UTC.
        typed: the values are known to have the signature's types.
        single: asked about one thing, not about a list of one.
        outputs: the outputs that are wanted; empty means all.
        binary: the outputs that are wanted as binary tensors; None means each that is not named otherwise.
    """

    request: str
    columns: dict[str, Column]
    rows: int
    event_time_us: list[int | None]
    typed: bool = False
    single: bool = False
    outputs: list[str] = []
    binary: frozenset[str] | None = frozenset()


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Who answered: the same in every answer of a revision."""

    endpoint: str
    model: str
    version: int
    revision: str
    release: str
    package: str

    def lines(self) -> bytes:
        """The same as header lines."""
        return b"".join(
            (
                header("everline-model-version", f"{self.model}/{self.version}"),
                header("everline-revision", self.revision),
                header("everline-release", self.release),
            )
        )


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint says to one request.

    Attributes:
        predictions: one id per row.
        outputs: one plain value per row under each output's name.
        arrays: the same as arrays.
        lines: header lines of `origin`, made once.
        extra: what else stands beside the origin, such as explanations.
    """

    request: str
    origin: Origin
    predictions: list[str]
    outputs: dict[str, list[Any]]
    arrays: dict[str, Array]
    flags: list[str]
    lines: bytes
    extra: dict[str, Any] = {}

    def header_lines(self) -> bytes:
        """Request, predictions and origin as header lines."""
        lines = b"everline-request: %s\r\n%s" % (self.request.encode(), self.lines)
        if len(self.predictions) <= _PREDICTION_HEADERS_MAX:
            return b"%severline-predictions: %s\r\n" % (lines, ",".join(self.predictions).encode())
        return lines

    def parameters(self) -> dict[str, Any]:
        """Predictions and origin for the body."""
        origin = self.origin
        said: dict[str, Any] = {
            "predictions": self.predictions,
            "model": origin.model,
            "revision": origin.revision,
            "release": origin.release,
            "package": origin.package,
        }
        if self.flags:
            said["flags"] = self.flags
        return said | self.extra if self.extra else said


class Form(NamedTuple):
    """One way to ask and to be answered.

    Attributes:
        read: takes the request, the plan of a revision that may answer it, and the most rows.
        write: the reply to an ask that was read from this form.
    """

    read: Callable[[Request, Plan, int], Ask]
    write: Callable[[Answer, Ask, Signature], Reply]


def named_by(request: Request) -> str | None:
    """The name that a request's header gives it."""
    return request.header(b"x-request-id")


def request_id(given: str | None) -> str:
    """The caller's name for the request, or a new one.

    Raises:
        InvalidInputError: it is too long, or not printable ASCII.
    """
    if given is None or given == "":
        return new_uid()
    if len(given) > _REQUEST_CHARACTERS_MAX or not given.isascii() or not given.isprintable():
        raise InvalidInputError(
            f"The request's id is longer than {_REQUEST_CHARACTERS_MAX} characters or not printable ASCII.",
            hint="Leave it out to get one.",
            field="id",
        )
    return given


def count_rows(columns: Mapping[str, Column], *, rows_max: int) -> int:
    """How many rows columns have, by the first one.

    Raises:
        InvalidInputError: none.
        TooLargeError: more than `rows_max`.
    """
    rows = len(next(iter(columns.values()))) if columns else 0
    if rows == 0:
        raise InvalidInputError("The request has no rows.", hint="Send at least one row.", field="inputs")
    if rows > rows_max:
        raise TooLargeError(
            f"The request has {rows} rows; {rows_max} are allowed.", hint="Send several requests.", field="inputs"
        )
    return rows


def event_times(given: Any, request: Request, rows: int) -> list[int | None]:
    """One time per row in microseconds since 1970 UTC, from what the body gives or else the header; [] for none.

    Raises:
        InvalidInputError: not a time, or not one per row.
    """
    given = request.header(b"everline-event-time") if given is None else given
    if given is None:
        return []
    if isinstance(given, str):
        return [_micros(given)] * rows
    if isinstance(given, list) and len(given) == rows:
        return [None if value is None else _micros(value) for value in given]
    raise InvalidInputError(
        f"event_time must be one time, or a list with one time for each of the {rows} rows.",
        hint="Write times like 2013-06-01T05:00:00Z.",
        field="event_time",
    )


def decode(decoder: msgspec.json.Decoder[Any], body: bytes | memoryview) -> Any:
    """Read JSON into a decoder's type.

    Raises:
        InvalidInputError: it is not JSON, or does not fit; the message says where.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        place = where.strip("`").removeprefix("$").removeprefix(".") or "the top"
        raise InvalidInputError(
            f"The request body does not fit the protocol at {place[:128]}: {what[:300]}.",
            hint="GET /v2/models/ENDPOINT names the inputs; docs/serving.md shows a request.",
            field=place[:128],
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:300]
        nan = b"NaN" in bytes(body) or b"Infinity" in bytes(body)
        raise InvalidInputError(
            f"The request body is not JSON: {what}.",
            hint="JSON has no NaN and no Infinity: send null for a missing value." if nan else "Send a JSON object.",
        ) from None


def _micros(given: Any) -> int:
    try:
        return (parse_rfc3339(given, field="event_time") - _EPOCH) // timedelta(microseconds=1)
    except (TypeError, OverflowError):
        raise InvalidInputError(
            f"event_time {str(given)[:80]!r} is not a time.",
            hint="Write times like 2013-06-01T05:00:00Z.",
            field="event_time",
        ) from None
