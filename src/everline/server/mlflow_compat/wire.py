"""MLflow's wire format: JSON with the names of its protocol buffers, its errors, its numbers.

Requests are read leniently, as protocol buffers read JSON: whole numbers and doubles may come as text, NaN
and the infinities always do, a field may be spelled `run_id` or `runId`, null means absent, unknown fields
are ignored. What cannot be meant is refused with MLflow's own sentences.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from everline.errors import (
    ConflictError,
    EverlineError,
    ForbiddenError,
    IntegrityError,
    InUseError,
    InvalidInputError,
    MissingExtraError,
    NotFoundError,
    TooBusyError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from everline.ids import check_name, whole_number
from everline.server.http import Request, Routes

WORKSPACE_HEADER = "x-mlflow-workspace"
_SEE_DOCS = " See the API docs for more information about request parameters."
_LONG_MAX = 2**63 - 1
_INTEGER = re.compile(r"[+-]?\d{1,20}")
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class ProtocolError(EverlineError):
    """An error with a code of MLflow's own that no error of ours means.

    The status is kept below 500, because MLflow's client tries again for minutes on those.
    """

    status = 400

    def __init__(self, message: str, *, error_code: str, status: int = 400) -> None:
        super().__init__(message)
        self.error_code = error_code
        self.status = status  # type: ignore[misc]


_CODES: tuple[tuple[type[EverlineError], str, int], ...] = (
    (InvalidInputError, "INVALID_PARAMETER_VALUE", 400),
    (TooLargeError, "INVALID_PARAMETER_VALUE", 400),
    (NotFoundError, "RESOURCE_DOES_NOT_EXIST", 404),
    (InUseError, "RESOURCE_CONFLICT", 409),
    (ConflictError, "RESOURCE_ALREADY_EXISTS", 400),
    (UnauthenticatedError, "UNAUTHENTICATED", 401),
    (ForbiddenError, "PERMISSION_DENIED", 403),
    (IntegrityError, "DATA_LOSS", 422),
    (TooBusyError, "REQUEST_LIMIT_EXCEEDED", 429),
    (UnavailableError, "TEMPORARILY_UNAVAILABLE", 503),
    (MissingExtraError, "NOT_IMPLEMENTED", 501),
)


def error_response(error: EverlineError, _request: Request | None = None) -> Response:
    """An error as MLflow's clients read it."""
    if isinstance(error, ProtocolError):
        code, status = error.error_code, error.status
    else:
        code, status = next(
            ((code, status) for kind, code, status in _CODES if isinstance(error, kind)), ("INTERNAL_ERROR", 500)
        )
    message = error.message
    if error.hint:
        message = message.rstrip() + (" " if message.rstrip().endswith((".", ":", "?")) else ". ") + error.hint
    headers = {"WWW-Authenticate": 'Basic realm="everline"'} if status == 401 else {}
    content = msgspec.json.encode({"error_code": code, "message": message})
    return Response(content, status_code=status, media_type="application/json", headers=headers)


def answer(body: Mapping[str, Any]) -> Response:
    """A body as MLflow writes it: fields that are None or empty lists are left out."""
    return Response(msgspec.json.encode(without_nothing(body)), media_type="application/json")


def without_nothing(body: Mapping[str, Any]) -> dict[str, Any]:
    """`body` without fields that protocol buffers would not write."""
    return {key: value for key, value in body.items() if value is not None and value != []}


def number(value: float) -> float | str:
    """A double as protocol buffers write it in JSON."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def new_routes(prefix: str = "/api/2.0") -> Routes:
    """Routes whose errors are MLflow's."""
    return Routes(tag="mlflow", prefix=prefix, on_error=error_response)


def project_of(request: Request) -> str:
    """The project that a call speaks of: MLflow's workspace header, `?project=`, else `default`."""
    workspace = request.headers.get(WORKSPACE_HEADER)
    return check_name(workspace, field="workspace") if workspace else request.project


class Fields:
    """The fields of one message: the query of a GET, else the JSON body."""

    def __init__(
        self, values: Mapping[str, Any], *, path: str = "", lists: Mapping[str, list[str]] | None = None
    ) -> None:
        self._values = values
        self._path = path
        self._lists = lists

    @classmethod
    def of(cls, request: Request) -> Fields:
        """Read a request.

        Raises:
            InvalidInputError: the body is not a JSON object.
        """
        query = request.raw.query_params
        if request.method == "GET":
            return cls(dict(query), lists={key: query.getlist(key) for key in query})
        check_content_type(request)
        body = _read(request.body) if request.body.strip() else {}
        if isinstance(body, str):  # old clients encode twice
            body = _read(body.encode())
        if not isinstance(body, dict):
            raise InvalidInputError(f"The request body is not a JSON object but {_type(body)}.")
        return cls(body)

    def has(self, name: str) -> bool:
        """Whether the field was given and is not null."""
        return self._raw(name) is not None

    def text(self, name: str, default: str = "") -> str:
        """A text; absent means `default`."""
        value = self._raw(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(name, value)
        return value

    def required(self, name: str) -> str:
        """A text that must be given and not empty."""
        value = self.text(name)
        if not value:
            raise self.missing(name)
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        """A 64-bit whole number, as a number or as text; without a default it is required."""
        value = self._raw(name)
        if value is None:
            if default is None:
                raise self.missing(name)
            return default
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not -_LONG_MAX - 1 <= value <= _LONG_MAX:
            raise self._wrong(name, value)
        return value

    def double(self, name: str) -> float:
        """A double that must be given: a number, or text such as `NaN`."""
        value = self._raw(name)
        if value is None or value == "":
            raise self.missing(name)
        if isinstance(value, str):
            try:
                return _SPECIAL[value] if value in _SPECIAL else float(value)
            except ValueError:
                raise self._wrong(name, value) from None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(name, value)
        try:
            return float(value)
        except OverflowError:
            raise self._wrong(name, value) from None

    def boolean(self, name: str) -> bool:
        """A truth value; absent means false."""
        value = self._raw(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, value)
        return bool(value)

    def texts(self, name: str) -> list[str]:
        """A list of texts; absent means none."""
        if self._lists is not None:
            return self._lists.get(name, [])
        values = self._array(name)
        for value in values:
            if not isinstance(value, str):
                raise self._wrong(name, values)
        return values

    def messages(self, name: str) -> list[Fields]:
        """A list of messages; absent means none."""
        values = self._array(name)
        for index, value in enumerate(values):
            if not isinstance(value, dict):
                raise self._wrong(f"{name}[{index}]", value)
        return [Fields(value, path=f"{self._at(name)}[{index}]") for index, value in enumerate(values)]

    def message(self, name: str) -> Fields | None:
        """One message, or None."""
        value = self._raw(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong(name, value)
        return Fields(value, path=self._at(name))

    def pairs(self, name: str) -> dict[str, str]:
        """A list of key-value messages as a mapping; of a key that comes twice the last value counts."""
        return {item.required("key"): item.text("value") for item in self.messages(name)}

    def choice(self, name: str, choices: Mapping[str, Any], *, numbers: Mapping[int, str], default: Any) -> Any:
        """An enumeration, by name or by its number in the protocol."""
        value = self._raw(name)
        if value is None:
            return default
        if isinstance(value, str) and (number := whole_number(value)) is not None:
            value = number
        if isinstance(value, int) and not isinstance(value, bool):
            value = numbers.get(value, value)
        if not isinstance(value, str) or value not in choices:
            raise self._wrong(name, value)
        return choices[value]

    def missing(self, name: str) -> InvalidInputError:
        """What to say when a field is missing."""
        at = self._at(name)
        return InvalidInputError(f"Missing value for required parameter '{at}'." + _SEE_DOCS, field=at)

    def _array(self, name: str) -> list[Any]:
        value = self._raw(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(name, value)
        return value

    def _raw(self, name: str) -> Any:
        value = self._values.get(name)
        if self._lists is not None:  # a query has one spelling
            return value
        other = self._values.get(_camel(name)) if "_" in name else None
        if value is not None and other is not None:
            raise InvalidInputError(
                f"Request specifies both '{name}' and '{_camel(name)}'; provide only one of them.", field=name
            )
        return other if value is None else value

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _wrong(self, name: str, value: Any) -> InvalidInputError:
        at, shown = self._at(name), msgspec.json.encode(value).decode()
        if len(shown) > 200:
            shown = f"{shown[:200]}..."
        return InvalidInputError(
            f"Invalid value {shown} for parameter '{at}' supplied:  Hint: Value was of type '{_type(value)}'."
            + _SEE_DOCS,
            field=at,
        )


def check_content_type(request: Request) -> None:
    """MLflow takes JSON only under its own name; pages of other sites cannot send that without asking."""
    kind = request.headers.get("content-type")
    if kind is None:
        raise InvalidInputError("Bad Request. Content-Type header is missing.", field="Content-Type")
    if kind.partition(";")[0] != "application/json":
        raise InvalidInputError("Bad Request. Content-Type must be one of ['application/json'].", field="Content-Type")


def _read(text: bytes) -> Any:
    """JSON, and the bare NaN and Infinity that Python, R and JavaScript write where JSON has none."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if b"NaN" in text or b"Infinity" in text:
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(text)
        if "out of range" in str(error):
            raise InvalidInputError(
                "The request body has a number that is beyond every double, such as 1e400."
            ) from None
        raise InvalidInputError(f"The request body is not JSON: {error}.") from None


@functools.cache
def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _type(value: Any) -> str:
    return type(value).__name__
