"""A request whichever form it came in, an answer whichever form it goes out in, and what the forms have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

import msgspec

from everline.clock import parse_rfc3339
from everline.errors import InvalidInputError, TooLargeError
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
_KEY_CHARACTERS_MAX = 256
_PREDICTION_HEADERS_MAX = 32
EXPLAINED_ROWS_MAX = 100

_encoder = msgspec.json.Encoder()

Column = Sequence[Any] | Array


class Ask(msgspec.Struct, kw_only=True):
    """What a caller wants to know.

    Attributes:
        request: the caller's name for the request; empty if he gave none, until somebody needs one.
        columns: one value per row under each input's name; unless there is a table.
        table: the same row by row, values in the order of the signature's inputs; unless there are columns.
        event_time_us: empty, or one time per row in microseconds since 1970 UTC.
        typed: the values are known to have the signature's types.
        key: whose request it is; requests of one key are answered by one revision.
        single: asked about one thing, not about a list of one.
        outputs: the outputs that are wanted; empty means all.
        binary: the outputs that are wanted as binary tensors; None means each that is not named otherwise.
        explain: whether the answer shall say what each input contributed.
    """

    request: str
    columns: dict[str, Column] = {}
    table: list[tuple[Any, ...]] | None = None
    rows: int
    event_time_us: list[int | None]
    typed: bool = False
    single: bool = False
    key: str | None = None
    outputs: list[str] = []
    binary: frozenset[str] | None = frozenset()
    explain: bool = False

    def by_column(self, names: Sequence[str]) -> dict[str, Column]:
        """The values as columns, whichever way they came."""
        if self.table is None:
            return self.columns
        return dict(zip(names, zip(*self.table, strict=True), strict=True))


class Origin:
    """Who answered: the same in every answer of a revision, and so written down once.

    Attributes:
        lines: it as header lines.
        json: its members of `parameters` in the body, from after the opening brace to after the last comma.
    """

    def __init__(self, *, endpoint: str, model: str, version: int, revision: str, release: str, package: str) -> None:
        self.endpoint = endpoint
        self.model = model
        self.version = version
        self.revision = revision
        self.release = release
        self.package = package
        said = {"model": model, "revision": revision, "release": release, "package": package}
        self.json = msgspec.json.encode(said)[1:-1] + b","
        self.lines = b"".join(
            (
                header("everline-model-version", f"{model}/{version}"),
                header("everline-revision", revision),
                header("everline-release", release),
            )
        )


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint says to one request: the rows from `start` to `stop` of a batch.

    Attributes:
        uids: one prediction id per row of the batch.
        outputs: one plain value per row of the batch under each output's name.
        arrays: the same as arrays.
        extra: what else stands beside the origin, such as explanations.
    """

    request: str
    origin: Origin
    start: int
    stop: int
    uids: list[str]
    outputs: dict[str, list[Any]]
    arrays: dict[str, Array]
    flags: list[str]
    extra: dict[str, Any] = {}

    @property
    def rows(self) -> int:
        """How many rows are answered."""
        return self.stop - self.start

    @property
    def predictions(self) -> list[str]:
        """One id per row."""
        return self.uids[self.start : self.stop]

    def values(self, output: str) -> list[Any]:
        """One value per row of an output."""
        return self.outputs[output][self.start : self.stop]

    def header_lines(self) -> bytes:
        """Request, predictions and origin as header lines."""
        if self.rows > _PREDICTION_HEADERS_MAX:
            return b"everline-request: %s\r\n%s" % (self.request.encode(), self.origin.lines)
        named = f"everline-request: {self.request}\r\neverline-predictions: {','.join(self.predictions)}\r\n"
        return named.encode() + self.origin.lines

    def parameters(self) -> bytes:
        """Predictions and origin as a JSON object for the body."""
        rest: dict[str, Any] = {"flags": self.flags} if self.flags else {}
        rest |= self.extra
        said = b"{" + self.origin.json + b'"predictions":' + _encoder.encode(self.predictions)
        return said + (b"," + _encoder.encode(rest)[1:] if rest else b"}")


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
    """The caller's name for the request; empty if he gave none.

    Raises:
        InvalidInputError: it is too long, or not printable ASCII.
    """
    if given is None or given == "":
        return ""
    if len(given) > _REQUEST_CHARACTERS_MAX or not given.isascii() or not given.isprintable():
        raise InvalidInputError(
            f"The request's id is longer than {_REQUEST_CHARACTERS_MAX} characters or not printable ASCII.",
            hint="Leave it out to get one.",
            field="id",
        )
    return given


def sticky_key(given: Any, request: Request) -> str | None:
    """Whose request it is, from what the body gives or else the header; None for nobody's.

    Raises:
        InvalidInputError: it is no text, empty, or too long.
    """
    given = request.header(b"everline-key") if given is None else given
    if given is None or (isinstance(given, str) and 0 < len(given) <= _KEY_CHARACTERS_MAX):
        return given
    raise InvalidInputError(
        f"The key is no text of 1 to {_KEY_CHARACTERS_MAX} characters.",
        hint="Send what stays the same for a customer or a session, or leave it out.",
        field="key",
    )


def wants_explanation(request: Request, *, rows: int) -> bool:
    """Whether `?explain=true` is in the address.

    Raises:
        InvalidInputError: it says something else than true or false.
        TooLargeError: of more than `EXPLAINED_ROWS_MAX` rows.
    """
    said = parse_qs(request.query.decode("latin-1"), keep_blank_values=True).get("explain", ["false"])[-1]
    if said not in ("true", "false"):
        raise InvalidInputError(f"explain is {said[:32]!r}.", hint="Write ?explain=true or false.", field="explain")
    if said == "true" and rows > EXPLAINED_ROWS_MAX:
        raise TooLargeError(
            f"The request has {rows} rows; {EXPLAINED_ROWS_MAX} are explained in one.",
            hint="Send fewer rows, or ask without ?explain=true.",
            field="explain",
        )
    return said == "true"


def count_rows(columns: Mapping[str, Column], *, rows_max: int) -> int:
    """How many rows columns have, by the first one.

    Raises:
        InvalidInputError: none.
        TooLargeError: more than `rows_max`.
    """
    return check_rows(len(next(iter(columns.values()))) if columns else 0, rows_max=rows_max)


def check_rows(rows: int, *, rows_max: int) -> int:
    """The number of rows, if there are any and not too many; see `count_rows`."""
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
