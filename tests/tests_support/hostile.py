"""Requests that nobody should send, made from the declared routes: what stands in a route's place, field by field."""

from __future__ import annotations

import inspect
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from everline.ids import new_uid
from everline.server.http import Route
from everline.server.openapi import openapi_document

ANSWER_S_MAX = 30.0
"""How long an answer may take, however foolish the question."""

DIGEST = "sha256:" + "0" * 64
PATHS: dict[str, bytes | str] = {
    "path trick": "../../etc/passwd",
    "zero byte": "a\0b",
    "long": "x" * 10_000,
    "unicode": "ключ-🙂-\u202e",
    "quotes": "x'; DROP TABLE run; --\"",
    "empty": "",
    "beyond 64 bit": str(2**63),
    "more digits than Python reads": "9" * 5_000,
    "negative": "-1",
    "digits that are not ASCII": "²",
    "not UTF-8": b"\xed\xa0\x80\xff",
    "header trick": "a\r\nx: y",
    "unknown uid": new_uid(),
    "unknown run": "0" * 32,
}
QUERIES = [
    "", "abc", "-1", str(2**63), "a\0b", "../../x", "x" * 10_000, "1e999", "0001-01-01T00:00:00+14:00", "2013-13-45",
    "metrics.`x` > 1 AND (", "🙂'; --",
]  # fmt: skip
"""Values for every query parameter that a route's module reads."""

BODIES: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "list": b"[]",
    "object": b"{}",
    "NaN": b'{"name": NaN, "value": Infinity}',
    "nested": b"[" * 100_000,
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "half": b'{"name": "x',
    "lone surrogate": b'{"name": "\\ud800", "key": "\\udfff"}',
    "a form": b"name=x&project=..%2f..&form_token=%00%ff",
    "many fields": b"&".join(b"f%d=1" % n for n in range(500)),
    "long": b'{"name": "' + b"x" * 1_000_000 + b'"}',
}
FORMS = ("nothing", "not UTF-8", "a form", "many fields", "long")
"""Those of the bodies that mean something to a page, which reads forms."""

TEXTS: list[Any] = ["", "a\0b", "../../etc/passwd", "x" * 10_000, "🙂\u202e'; --\"", 7]
TIMES: list[Any] = [
    "no time", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2013-06-01T00:00:00", "a\0b", 10**18, None,
]  # fmt: skip
WHOLE: list[Any] = [-1, 0, 2**31, 2**63 - 1, 10**40, 1e308, "abc"]
NUMBERS: list[Any] = [-1, 1e308, float("nan"), float("inf"), 10**400, "abc", None]
LISTS: list[Any] = [None, {}, [None], [[]], ["a\0b"], [-1, 2**70]]
OBJECTS: list[Any] = [
    None, [], {"a\0b": "a\0b"}, {"": ""}, {"x" * 10_000: "y" * 10_000}, {"x": 2**70},
]  # fmt: skip

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_QUERY = re.compile(r'(?:query|query_params\.get|_\w+)\((?:request, )?"(\w+)"')
_FIELD = re.compile(r'\.(text|required|integer|double|boolean|texts|messages|message|pairs|choice)\(\s*"(\w+)"')


def path_of(route: Route, known: dict[str, Any], **changed: bytes | str) -> str:
    """The route's path with known values, some of them changed, percent-encoded as a client must."""

    def value(match: re.Match[str]) -> str:
        return quote(changed.get(match[1], str(known.get(match[1], "x1"))), safe="")

    return _PARAMETER.sub(value, route.path)


def hostile_paths(route: Route, known: dict[str, Any]) -> Iterator[str]:
    """The route's path with each parameter hostile in turn."""
    for name in _PARAMETER.findall(route.path):
        for value in PATHS.values():
            yield path_of(route, known, **{name: value})


def query_names(route: Route) -> list[str]:
    """Every query parameter that the handler reads, and those of every route; on MLflow's face the fields too."""
    source = inspect.getsource(route.handler)
    if route.method != "GET":
        return ["project"]
    asked = [name for _, name in _FIELD.findall(source)] if route.tag == "mlflow" else _QUERY.findall(source)
    return sorted({"project", *(["limit", "cursor"] if "limit" in source else []), *asked})


def body_fields(route: Route) -> dict[str, Any]:
    """JSON schema of the route's body: its own, or for MLflow's face the fields that its handler reads."""
    if route.body not in (None, bytes):
        document = openapi_document([route])
        operation = next(iter(next(iter(document["paths"].values())).values()))
        return _resolved(operation["requestBody"]["content"]["application/json"]["schema"], document, 0)
    if route.tag != "mlflow":
        return {}
    kinds = {"integer": "integer", "double": "number", "texts": "array", "messages": "array", "pairs": "array"}
    found = _FIELD.findall(inspect.getsource(route.handler))
    if found:
        found += [("required", "run_id"), ("required", "experiment_id"), ("required", "name")]
    return {"type": "object", "properties": {name: {"type": kinds.get(kind, "string")} for kind, name in found}}


def _resolved(schema: dict[str, Any], document: dict[str, Any], depth: int) -> dict[str, Any]:
    """The schema without references, down to a depth that every body of ours has."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _resolved(document["components"]["schemas"][name], document, depth) if depth < 6 else {}
    if "anyOf" in schema:
        real = [one for one in schema["anyOf"] if one.get("type") != "null"]
        return _resolved(real[0], document, depth)
    properties = {name: _resolved(one, document, depth + 1) for name, one in schema.get("properties", {}).items()}
    items = _resolved(schema["items"], document, depth + 1) if isinstance(schema.get("items"), dict) else {}
    return schema | {"properties": properties, "items": items}


def example(schema: dict[str, Any], known: dict[str, Any], *, name: str = "") -> Any:
    """A value that fits the schema; names that `known` has take its value."""
    kind = schema.get("type")
    if name in known and kind not in ("array", "object"):
        return int(known[name]) if kind == "integer" and str(known[name]).isdigit() else known[name]
    if "enum" in schema:
        return schema["enum"][0]
    if kind == "object":
        return {key: example(one, known, name=key) for key, one in schema["properties"].items()}
    if kind == "array":
        if schema.get("items"):
            return [example(schema["items"], known)]
        return [{"key": "k", "value": "1"}] if name in ("tags", "params", "metrics") else []
    if schema.get("format") == "date-time":
        return "2013-06-01T00:00:00Z"
    return {"integer": 1, "number": 0.5, "boolean": True}.get(str(kind), "x1")


def hostile_bodies(schema: dict[str, Any], known: dict[str, Any]) -> Iterator[bytes]:
    """The example with each field hostile in turn, at every depth."""
    whole = example(schema, known)
    for changed in _changes(schema, whole):
        yield json.dumps(changed).encode()


def _changes(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    yield from hostile_values(schema)
    if isinstance(value, dict):
        for key, one in schema.get("properties", {}).items():
            for changed in _changes(one, value[key]):
                yield value | {key: changed}
            yield {name: other for name, other in value.items() if name != key}
    elif isinstance(value, list) and value and schema.get("items"):
        for changed in _changes(schema["items"], value[0]):
            yield [changed]


def hostile_values(schema: dict[str, Any]) -> list[Any]:
    """What is sent instead of a value of this type."""
    if schema.get("format") == "date-time":
        return TIMES
    kinds = {"integer": WHOLE, "number": NUMBERS, "array": LISTS, "object": OBJECTS, "boolean": ["x", None, 7]}
    return kinds.get(str(schema.get("type")), TEXTS)


def ask(
    client: httpx.Client,
    route: Route,
    path: str,
    *,
    query: dict[str, str] | None = None,
    content: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """Send one request and hold its answer against what every answer keeps."""
    start = time.monotonic()
    response = client.request(route.method, path, params=query, content=content, headers=headers)
    took = time.monotonic() - start
    good = took < ANSWER_S_MAX and (response.status_code < 500 or response.status_code == 501)
    good = good and b"Traceback" not in response.content
    if response.status_code >= 400 and route.method != "HEAD":
        good = good and _is_told(route, response)
    if not good:
        asked = f"{route.method} {path[:200]} {str(query)[:200]} {(content or b'')[:300]!r}"
        raise AssertionError(f"{asked}: {response.status_code} after {took:.1f} s: {response.text[:600]}")
    return response


def _is_told(route: Route, response: httpx.Response) -> bool:
    kind = response.headers.get("content-type", "")
    if kind.startswith("text/html"):
        return route.tag == "console" and b"<h1" in response.content
    body = msgspec.json.decode(response.content)
    if kind.startswith("application/problem+json"):  # also where no route answers: an empty path parameter
        return bool(body["code"]) and " " in body["detail"] and body["status"] == response.status_code
    return route.tag == "mlflow" and bool(body["error_code"]) and " " in body["message"]
