"""MLflow's genuine server and Everline get the same calls; their answers are the same, or differ on purpose."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import scripts_experiments
import scripts_logged_models
import scripts_metrics
import scripts_registry
import scripts_runs
import scripts_search
import scripts_webhooks
import scripts_wire
from known import is_known
from wire import Exchange, Wire

SCRIPTS = [
    pytest.param(
        script,
        f"{module.__name__.removeprefix('scripts_')} {name}",
        id=f"{module.__name__.removeprefix('scripts_')}-{name}",
    )
    for module in (
        scripts_experiments,
        scripts_runs,
        scripts_metrics,
        scripts_registry,
        scripts_logged_models,
        scripts_webhooks,
        scripts_search,
        scripts_wire,
    )  # fmt: skip
    for name, script in inspect.getmembers(module, inspect.isfunction)
    if script.__module__ == module.__name__ and not name.startswith("_")
]


@pytest.mark.parametrize(("script", "name"), SCRIPTS)
def test_the_answers_are_the_same(
    peer: Any, play_ours: Callable[..., list[Exchange]], script: Callable[[Wire], None], name: str
) -> None:
    theirs = peer.answers(script, name)
    found = list(_differences(theirs, play_ours(script, name)))
    if found:
        pytest.fail("\n".join([f"{len(found)} of {len(theirs)} answers differ:", *found]), pytrace=False)


def _differences(peer: list[Exchange], ours: list[Exchange]) -> Iterator[str]:
    for one, other in itertools.zip_longest(peer, ours):
        if one is None or other is None or one.call.split()[:2] != other.call.split()[:2]:
            yield f"the scripts part: {one} / {other}"
            return
        for part, theirs, mine in _parts(one, other):
            if not is_known(one.call, part, theirs, mine):
                yield f"{one.call}\n    {part}\n      MLflow:   {str(theirs)[:400]}\n      Everline: {str(mine)[:4000]}"


def _parts(one: Exchange, other: Exchange) -> Iterator[tuple[str, Any, Any]]:
    if one.status != other.status:
        yield "status", f"{one.status} {_short(one.body)}", f"{other.status} {_short(other.body)}"
        return
    if one.kind != other.kind:
        yield "kind", one.kind, other.kind
        return
    if isinstance(one.body, dict) and isinstance(other.body, dict) and "error_code" in one.body:
        if one.body.get("error_code") != other.body.get("error_code"):
            yield "code", one.body, other.body
        elif not str(other.body.get("message")).startswith(str(one.body.get("message")).rstrip()):  # a hint may follow
            yield "message", one.body.get("message"), other.body.get("message")
        return
    if one.body != other.body:
        yield "body", one.body, other.body


def _short(body: Any) -> str:
    return (
        f"{body.get('error_code')}: {body.get('message')}"
        if isinstance(body, dict) and "error_code" in body
        else str(body)
    )
