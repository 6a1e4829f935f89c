"""Webhooks of the registry: asked for, listed, changed and taken away. Nothing is sent to anybody."""

from __future__ import annotations

from typing import Any

from wire import Wire

HOOKS = "webhooks"
CREATED = {"entity": "REGISTERED_MODEL", "action": "CREATED"}
TAGGED = {"entity": "MODEL_VERSION_TAG", "action": "SET"}
NOBODY = "00000000-0000-0000-0000-000000000000"


def _hook(wire: Wire, **fields: Any) -> str:
    given = {"name": "hook", "url": "http://127.0.0.1:9/hook", "events": [CREATED], **fields}
    return wire.know_webhook(wire.post(HOOKS, given))


def _empty(wire: Wire, *hooks: str) -> None:
    """Take them away: webhooks belong to no experiment, so that every script would see those of the others."""
    for hook in hooks:
        wire.call("DELETE", f"{HOOKS}/{hook}")


def making(wire: Wire) -> None:
    made = [
        _hook(wire, **fields)
        for fields in (
            {},
            {"description": "what it is for", "secret": "shared", "status": "DISABLED"},
            {"description": "", "secret": "", "status": None},
            {"description": None, "secret": None},
            {"events": [CREATED, TAGGED]},
            {"events": [{"entity": 2, "action": 1}]},
            {"status": 1},
            {"status": "ACTIVE"},
            {"name": "a.b_c-d9"},
            {"name": "a"},
            {"name": "x" * 63},
            {"url": "https://127.0.0.1:8080/a?b=c"},
        )
    ]
    for hook in made:
        wire.get(f"{HOOKS}/{hook}")
    for fields in (
        {"name": ""}, {"name": None}, {"name": 5}, {"name": "-a"}, {"name": "a-"}, {"name": "a b"}, {"name": "x" * 64},
        {"name": "ä"}, {"url": ""}, {"url": None}, {"url": 5}, {"url": "x"}, {"url": "ftp://127.0.0.1"},
        {"url": "https://"}, {"url": "//127.0.0.1"}, {"events": []}, {"events": None}, {"events": "x"},
        {"events": [{}]}, {"events": ["x"]}, {"events": [{"entity": "REGISTERED_MODEL"}]},
        {"events": [{"action": "CREATED"}]}, {"events": [{"entity": "REGISTERED_MODEL", "action": "DELETED"}]},
        {"events": [{"entity": "MODEL_VERSION_TAG", "action": "CREATED"}]},
        {"events": [{"entity": "x", "action": "SET"}]}, {"description": 5}, {"secret": 5},
        {"events": [{"entity": "REGISTERED_MODEL", "action": "x"}]},
    ):  # fmt: skip
        _hook(wire, **fields)
    wire.post(HOOKS, {})
    _empty(wire, *made)


def every_event(wire: Wire) -> None:
    for entity in ("REGISTERED_MODEL", "MODEL_VERSION", "MODEL_VERSION_TAG", "MODEL_VERSION_ALIAS"):
        for action in ("CREATED", "UPDATED", "DELETED", "SET"):
            _empty(wire, _hook(wire, events=[{"entity": entity, "action": action}]))


def changing(wire: Wire) -> None:
    hook = _hook(wire, description="first")
    address = f"{HOOKS}/{hook}"
    for body in (
        {"name": "other"}, {"url": "http://127.0.0.1:9/other"}, {"events": [TAGGED]}, {"description": "second"},
        {"description": ""}, {"description": None}, {"status": "DISABLED"}, {"status": "ACTIVE"}, {"secret": "x"},
        {"secret": ""}, {}, {"name": ""}, {"name": None}, {"name": "-a"}, {"name": 5}, {"url": ""}, {"url": "x"},
        {"url": "ftp://x"}, {"events": []}, {"events": [{}]}, {"events": "x"}, {"status": "x"}, {"status": ""},
        {"status": 9},
    ):  # fmt: skip
        wire.call("PATCH", address, json=body)
        wire.get(address)
    wire.call("PATCH", address, json={"events": [CREATED, CREATED]})
    _empty(wire, hook)
    for gone in (hook, NOBODY, "x"):
        wire.get(f"{HOOKS}/{gone}")
        wire.call("PATCH", f"{HOOKS}/{gone}", json={"name": "a"})
        wire.call("DELETE", f"{HOOKS}/{gone}")
        wire.post(f"{HOOKS}/{gone}/test", {})


def pages(wire: Wire) -> None:
    wire.get(HOOKS)
    made = [_hook(wire, name=f"hook-{letter}") for letter in "abc"]
    first = wire.get(HOOKS, {"max_results": 2})
    token = first.get("next_page_token", "")
    wire.call("GET", HOOKS, params={"max_results": 2, "page_token": token}, shown={"page": 2})
    for limit in ("0", "-1", "1000", "1001", "x", "1.5"):
        wire.get(HOOKS, {"max_results": limit})
    wire.get(HOOKS, {"page_token": "x"})
    _empty(wire, *made)
