"""The Python client: the REST API's words as objects, over HTTP or in this process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload
from urllib.parse import quote, urlencode

import msgspec

from everline.config import Settings
from everline.errors import InvalidInputError, from_problem
from everline.loader import load
from everline.sdk.blobs import Blobs
from everline.sdk.transport import CONNECT_S, Answer, Content, HttpTransport, Sink, Transport

T = TypeVar("T")
_FACES = {
    "access": "AccessApi",
    "approvals": "ApprovalsApi",
    "audit": "AuditApi",
    "backtests": "BacktestsApi",
    "bundles": "BundlesApi",
    "datasets": "DatasetsApi",
    "delivery": "DeliveryApi",
    "endpoints": "EndpointsApi",
    "explanations": "ExplanationsApi",
    "incidents": "IncidentsApi",
    "jobs": "JobsApi",
    "models": "ModelsApi",
    "webhooks": "WebhooksApi",
    "monitors": "MonitorsApi",
    "pipelines": "PipelinesApi",
    "policies": "PoliciesApi",
    "predictions": "PredictionsApi",
    "releases": "ReleasesApi",
    "reproduction": "ReproductionApi",
    "runs": "RunsApi",
    "schedules": "SchedulesApi",
    "views": "ViewsApi",
}


class Page(msgspec.Struct, frozen=True):
    """One page of a list as it comes over the wire."""

    items: list[Any]
    next: str | None = None


class Client:
    """Speaks to one control plane as one actor in one project.

    Args:
        url: a server's address; None takes `EVERLINE_URL`, and without that the control plane runs in
            this process over `home`.
        home: directory of the embedded control plane and of the client's cache; None takes
            `EVERLINE_HOME`, else `./.everline`.
        token: an API token; None takes `EVERLINE_TOKEN`.
        project: what every call speaks of unless told otherwise.

    Each word of the API is an attribute: `client.datasets.add(…)`, `client.runs.list(…)`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        home: Path | str | None = None,
        token: str | None = None,
        project: str = "default",
    ) -> None:
        self.settings = Settings.load(url=url, home=home)
        self.project = project
        self.token = token or os.environ.get("EVERLINE_TOKEN")
        self._headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        self.is_local = not self.settings.url
        """Whether the control plane runs in this process."""

    def __getattr__(self, word: str) -> Any:
        if word not in _FACES:
            raise AttributeError(f"a client has no part {word!r}; it has {', '.join(sorted(_FACES))}")
        face = getattr(load(f"everline.sdk.{word}"), _FACES[word])(self)
        self.__dict__[word] = face
        return face

    @cached_property
    def transport(self) -> Transport:
        """The way to the control plane; one in this process is started by the first call, not before."""
        if self.settings.url:
            return HttpTransport(self.settings.url)
        opened: Transport = load("everline.sdk.local").open_local(self.settings)
        return opened

    @cached_property
    def blobs(self) -> Blobs:
        """Content-addressed bytes."""
        return Blobs(self)

    @overload
    def call(
        self,
        method: str,
        path: str,
        *,
        returns: type[T],
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T: ...
    @overload
    def call(
        self,
        method: str,
        path: str,
        *,
        returns: None = None,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None: ...
    def call(
        self,
        method: str,
        path: str,
        *,
        returns: Any = None,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """One call of the REST API.

        Args:
            path: below `/api/v1`, such as `/datasets`.
            body: a value to send as JSON.
            query: parameters, lists once for each value; None values are left out; `project` is added.
            returns: the type to read the answer as; None for no answer.

        Raises:
            EverlineError: what the server said, in the class of its code; UnavailableError if it said nothing.
        """
        if body is not None:
            content = msgspec.json.encode(body)
        response = self.send(method, "/api/v1" + path, query=query, content=content, headers=headers)
        return None if returns is None else msgspec.json.decode(response.content, type=returns)

    def list_all(self, path: str, *, kind: type[T], query: Mapping[str, Any] | None = None, limit: int) -> list[T]:
        """Follow the pages of a list until `limit` items came."""
        items: list[T] = []
        cursor: str | None = None
        while len(items) < limit:
            asked = dict(query or {}) | {"limit": min(1000, limit - len(items)), "cursor": cursor}
            page = self.call("GET", path, query=asked, returns=Page)
            items += msgspec.convert(page.items, list[kind])  # type: ignore[valid-type]
            cursor = page.next
            if cursor is None:
                break
        return items

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        content: Content | None = None,
        headers: Mapping[str, str] | None = None,
        into: Sink | None = None,
        connect_s: float = CONNECT_S,
    ) -> Answer:
        """One HTTP exchange; an error answer is raised. `into` takes the body piece by piece, instead of the answer."""
        if any(part in (".", "..") for part in path.split("/")) or any(mark in path for mark in "?#\\\0\r\n"):
            # Sent, it would be another address than the one meant.
            raise InvalidInputError(
                f"The name in {path[:80]!r} cannot be one of ours.", hint="List commands print names and identifiers."
            )
        parameters = {"project": self.project} | dict(query or {})
        parameters = {name: _text(value) for name, value in parameters.items() if value is not None}
        answer = self.transport.exchange(
            method,
            # Names that a face has quoted already, because they may hold a slash, are left as they are.
            f"{quote(path, safe='/%')}?{urlencode(parameters, doseq=True)}",
            headers=self._headers | dict(headers or {}),
            content=content,
            into=into,
            connect_s=connect_s,
        )
        if answer.is_error:
            raise from_problem(_problem(answer), status=answer.status)
        return answer

    def close(self) -> None:
        """Close the connection, or the embedded control plane."""
        if "transport" in self.__dict__:
            self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    url: str | None = None, *, home: Path | str | None = None, token: str | None = None, project: str = "default"
) -> Client:
    """Open a client; see `Client`."""
    return Client(url, home=home, token=token, project=project)


def _text(value: Any) -> str | list[str]:
    if isinstance(value, list):
        return [str(one) for one in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _problem(answer: Answer) -> dict[str, Any]:
    try:
        body = answer.json()
    except msgspec.DecodeError:
        body = None
    if isinstance(body, dict):
        # MLflow's addresses answer with errors in MLflow's form.
        return body if "detail" in body or "message" not in body else {"detail": body["message"]}
    return {"detail": f"The server answered {answer.status} {answer.reason}."}
