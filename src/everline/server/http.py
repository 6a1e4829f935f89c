"""How a face is written: routes that parse, call and render; everything else happens here, once.

A request walks: limits and body (event loop) -> who is speaking -> the handler -> JSON (one worker thread); see
`dispatch`, and `gathering` for small requests that walk together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import msgspec
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response

from everline.access.types import Actor
from everline.access.unit_of_work import UnitOfWork
from everline.clock import as_utc, rfc3339
from everline.errors import EverlineError, InvalidInputError, UnauthenticatedError
from everline.ids import check_name, new_uid
from everline.server.application import Application
from everline.storage.incoming import Incoming

log = logging.getLogger("everline.server")
T = TypeVar("T")
_MISSING: Any = object()


class _BoundedInteger(IntegerConvertor):
    """`{index:int}` in a path: Python refuses to read thousands of digits, in the router, where nobody catches it."""

    regex = "[0-9]{1,19}"


register_url_convertor("int", _BoundedInteger())


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One page of a list; `next` is the cursor of the page after it."""

    items: list[T]
    next: str | None = None


ANSWERED_HERE = "everline.here"
"""Extension of the scope of a request that its own asker answers: nobody can hang up, and there is no event loop."""


class Request:
    """One request as a handler sees it: sync, body read, actor known."""

    def __init__(
        self, app: Application, raw: StarletteRequest, *, body: bytes, incoming: Incoming | None = None
    ) -> None:
        self.app = app
        self.raw = raw
        self.body = body
        self._incoming = incoming
        self.path: dict[str, str] = raw.path_params
        self.headers: Mapping[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(raw.scope["headers"])
        }
        """By names in lower case; of a header that comes twice the first counts."""
        self.method = raw.method
        self.actor: Actor = _MISSING
        """Set before the handler runs; public routes have none."""

    @property
    def incoming(self) -> Incoming:
        """The body of an upload route: hashed, on disk, and gone after the handler unless it keeps it."""
        if self._incoming is None:
            raise RuntimeError("This route is not declared with upload=True.")
        return self._incoming

    @property
    def project(self) -> str:
        """The project that the request speaks of: `?project=`, else `default`."""
        if not self.raw.scope.get("query_string"):
            return "default"
        return check_name(self.raw.query_params.get("project", "default"), field="project")

    @overload
    def query(self, name: str, kind: type[T], default: None) -> T | None: ...
    @overload
    def query(self, name: str, kind: type[T], default: T = ...) -> T: ...
    def query(self, name: str, kind: Any, default: Any = _MISSING) -> Any:
        """A query parameter, converted; without a default it is required."""
        text = self.raw.query_params.get(name)
        if text is None:
            if default is _MISSING:
                raise InvalidInputError(f"The query parameter {name!r} is missing.", field=name)
            return default
        try:
            value = msgspec.convert(text, kind, strict=False)
            return as_utc(value) if isinstance(value, datetime) else value
        except (msgspec.ValidationError, OverflowError) as error:
            raise InvalidInputError(f"The query parameter {name!r} cannot be read: {error}.", field=name) from None

    def queries(self, name: str) -> list[str]:
        """Every value of a query parameter that may be given several times."""
        return self.raw.query_params.getlist(name)

    @property
    def limit(self) -> int:
        """How many items of a list the caller wants: 1 to `page_items_max`, else 100."""
        return max(1, min(self.query("limit", int, 100), self.app.settings.page_items_max))


def decode(kind: type[T], request: Request) -> T:
    """Read the JSON body as `kind`; the error names the field.

    Raises:
        InvalidInputError: not JSON, or of another shape.
    """
    try:
        return msgspec.json.decode(request.body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        field = where.rstrip("`").lstrip(".") or None
        raise InvalidInputError(
            f"The body does not fit: {message}" + (f" (at {field})." if field else "."),
            hint="The shapes are in /api/v1/openapi.json.",
            field=field,
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"The body is not JSON: {error}.", hint="Send application/json in UTF-8.") from None
    except RecursionError:
        raise InvalidInputError("The body is nested too deeply.", hint="Send a flatter document.") from None


@contextmanager
def begin(request: Request) -> Iterator[UnitOfWork]:
    """The request's unit of work; it commits once, here. A GET never writes and takes no write lock."""
    with request.app.begin(request.actor, read_only=request.method in ("GET", "HEAD")) as uow:
        yield uow


def _encode_hook(value: Any) -> Any:
    if isinstance(value, (frozenset, set)):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


_encoder = msgspec.json.Encoder(enc_hook=_encode_hook, decimal_format="number")


def json_response(value: Any, *, status: int = 200) -> Response:
    """Any value of ours as JSON."""
    return Response(_encoder.encode(value), status_code=status, media_type="application/json")


def problem_response(error: EverlineError, _request: Request | None = None) -> Response:
    """An error as RFC 9457 problem+json."""
    headers = {"WWW-Authenticate": 'Bearer realm="everline"'} if isinstance(error, UnauthenticatedError) else {}
    if error.status in (429, 503):
        headers["Retry-After"] = "1"
    content = msgspec.json.encode(error.problem())
    return Response(content, status_code=error.status, media_type="application/problem+json", headers=headers)


Handler = Callable[[Request], Any]
OnError = Callable[[EverlineError, Request], Response]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One declared route; the OpenAPI document and the access test are made from these."""

    method: str
    path: str
    handler: Handler
    tag: str
    body: Any
    returns: Any
    status: int
    public: bool
    upload: bool
    gather: Any
    """How requests of this route are answered together (`gathering.Gather`), or None."""
    on_error: OnError

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return (self.handler.__doc__ or self.handler.__name__.replace("_", " ")).strip().splitlines()[0]


class Routes:
    """The routes of one face."""

    def __init__(self, *, tag: str, prefix: str = "/api/v1", on_error: OnError = problem_response) -> None:
        self.tag = tag
        self.prefix = prefix
        self.on_error = on_error
        self.all: list[Route] = []

    def route(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        returns: Any = None,
        status: int = 200,
        public: bool = False,
        upload: bool = False,
        gather: Any = None,
    ) -> Callable[[Handler], Handler]:
        """Declare a handler.

        Args:
            body: the type of the JSON body, for the document; the handler decodes it.
            returns: the type of the answer, for the document; None answers 204.
            public: needs nobody to be logged in.
            upload: the body may be as large as a blob and comes as `request.incoming`.
            gather: requests are answered together (`gathering.Gather`); the handler only reads one.
        """

        def add(handler: Handler) -> Handler:
            self.all.append(
                Route(
                    method=method,
                    path=self.prefix + path,
                    handler=handler,
                    tag=self.tag,
                    body=body,
                    returns=returns,
                    status=status,
                    public=public,
                    upload=upload,
                    gather=gather,
                    on_error=self.on_error,
                )
            )
            return handler

        return add

    def get(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a GET."""
        return self.route("GET", path, **options)

    def post(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a POST."""
        return self.route("POST", path, **options)

    def put(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a PUT."""
        return self.route("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a PATCH."""
        return self.route("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a DELETE."""
        return self.route("DELETE", path, **options)


def unexpected(request: Request) -> EverlineError:
    """What to say of an exception that nobody foresaw; it is logged under a number of its own."""
    number = new_uid()
    log.exception("unexpected error %s at %s %s", number, request.method, request.raw.url.path)
    return EverlineError(
        f"Something unexpected happened in the server (error {number}, {rfc3339(request.app.clock.now())}).",
        hint="Its log has the details under that number; please report it.",
    )
