"""The OpenAPI 3.1 document, made from the declared routes and their types."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from everline.server.http import Page, Route

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


def openapi_document(routes: list[Route]) -> dict[str, Any]:
    """Describe the REST routes; faces of other protocols and pages are left out."""
    described = [route for route in routes if route.path.startswith("/api/v1/")]
    types = [kind for route in described for kind in (route.body, route.returns) if kind not in (None, bytes)]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema_of = iter(schemas)
    paths: dict[str, Any] = {}
    for route in described:
        body = next(schema_of) if route.body not in (None, bytes) else None
        answer = next(schema_of) if route.returns not in (None, bytes) else None
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, body, answer)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Everline", "version": "1", "description": "The control plane's REST API."},
        "paths": paths,
        "components": {
            "schemas": components | {"Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, body: Any, answer: Any) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    parameters.append(
        {"name": "project", "in": "query", "required": False, "schema": {"type": "string", "default": "default"}}
    )
    if getattr(route.returns, "__origin__", None) is Page:
        for name, kind in (("limit", "integer"), ("cursor", "string")):
            parameters.append({"name": name, "in": "query", "required": False, "schema": {"type": kind}})
    content = {"application/json": {"schema": answer}} if answer is not None else None
    operation: dict[str, Any] = {
        "tags": [route.tag],
        "summary": route.summary,
        "operationId": f"{route.tag}_{route.handler.__name__}",
        "parameters": parameters,
        "responses": {
            str(route.status if route.returns is not None else 204): {"description": "Done."}
            | ({"content": content} if content else {}),
            "default": {
                "description": "A problem: what, why, and what to do.",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
        "security": [] if route.public else [{"token": []}],
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if route.body is bytes:
        operation["requestBody"] = {"required": True, "content": {"application/vnd.msgpack": {}}}
    if route.upload:
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    return operation


_PROBLEM = {
    "type": "object",
    "required": ["title", "status", "code", "detail"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
        "field": {"type": "string"},
    },
}
