"""The endpoints of MLflow's protocol: as its client publishes them, as we declare them, as docs/mlflow.md lists them.

An endpoint is written `GET /api/2.0/mlflow/runs/get`, with `{name}` for what varies.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from mlflow.protos import databricks_pb2, mlflow_artifacts_pb2, model_registry_pb2, service_pb2, webhooks_pb2
from starlette.routing import compile_path

from everline.server.mlflow_compat.faces import all_routes, not_supported

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "mlflow.md"
CONFORMANCE = ROOT / "tests" / "conformance"
EXAMPLES = ROOT / "tests" / "integration" / "examples"
_PUBLISHED = (service_pb2, model_registry_pb2, mlflow_artifacts_pb2, webhooks_pb2)
_CONVERTER = re.compile(r":\w+(?=})")
_ROW = re.compile(r"^\| `([A-Z]+ /\S+)` \| (.+) \|$", re.MULTILINE)
_UNSUPPORTED = re.compile(r"^## Not supported\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


class Row(NamedTuple):
    """A line of the table: an endpoint and the tests that drive it."""

    endpoint: str
    tests: tuple[str, ...]


@cache
def rows() -> tuple[Row, ...]:
    """The table of covered endpoints."""
    return tuple(Row(endpoint, tuple(re.findall(r"`(\w+)`", tests))) for endpoint, tests in _ROW.findall(_page()))


@cache
def tests_on_the_page() -> frozenset[str]:
    """Every test that the page names, in the table or elsewhere."""
    return frozenset(re.findall(r"`(test_\w+)`", _page()))


@cache
def unsupported() -> tuple[str, ...]:
    """The beginnings of paths that the page names as not supported, such as `/api/3.0/mlflow/traces`."""
    section = _UNSUPPORTED.search(_page())
    return tuple(re.findall(r"`(/api/\S+)`", section[1])) if section else ()


def is_unsupported(endpoint: str) -> bool:
    """Whether the endpoint lies below a path that is named as not supported."""
    path = endpoint.split(" ")[1]
    return any(path == beginning or path.startswith(f"{beginning}/") for beginning in unsupported())


@cache
def declared() -> dict[str, re.Pattern[str]]:
    """Every endpoint that has a handler of its own, with the pattern of its path."""
    routes = [route for face in all_routes for route in face.all if route.handler is not not_supported]
    return {f"{route.method} {_CONVERTER.sub('', route.path)}": compile_path(route.path)[0] for route in routes}


@cache
def published() -> frozenset[str]:
    """Every endpoint in the service definitions of the installed client."""
    return frozenset(
        f"{endpoint.method} /api/{endpoint.since.major}.0/{_path(endpoint.path)}"
        for module in _PUBLISHED
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        for endpoint in method.GetOptions().Extensions[databricks_pb2.rpc].endpoints
    )


@cache
def names_of_tests(folder: Path) -> frozenset[str]:
    """The names of the tests directly in a folder."""
    return frozenset(
        node.name
        for module in folder.glob("test_*.py")
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def shape(endpoint: str) -> str:
    """The endpoint without the names of what varies, which differ between MLflow and us."""
    return re.sub(r"{[^}]*}", "{}", endpoint)


@contextmanager
def called() -> Iterator[set[str]]:
    """The declared endpoints that this process calls meanwhile, with httpx or with MLflow's client."""
    found: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        # One function below all of requests and urllib3, and one below all of httpx.
        for owner, name, address in (
            (HTTPConnection, "putrequest", lambda method, url: (method, httpx.URL(url).path)),
            (httpx.Client, "send", lambda request: (request.method, request.url.path)),
        ):
            patch.setattr(owner, name, _telling(getattr(owner, name), address, found))
        yield found


def _telling(original: Any, address: Any, found: set[str]) -> Any:
    def call(self: Any, *args: Any, **options: Any) -> Any:
        try:
            method, path = address(*args)
        except httpx.InvalidURL:  # an attacker's address is no endpoint
            return original(self, *args, **options)
        path = path.replace("/ajax-api/", "/api/", 1)
        found.update(
            name for name, pattern in declared().items() if name.startswith(f"{method} ") and pattern.match(path)
        )
        return original(self, *args, **options)

    return call


def _path(path: str) -> str:
    return re.sub(r"<path:(\w+)>", r"{\1}", path).lstrip("/")


@cache
def _page() -> str:
    return PAGE.read_text()
