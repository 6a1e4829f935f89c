"""Bad input is harmless: every declared route answers it with a clear error, soon, and lives on."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everline.config import Settings
from everline.sdk.local import InProcess
from everline.server.app import declared_routes
from everline.server.application import Application
from everline.server.http import Route
from everline.testing.in_process import InProcessTransport
from tests_support import console_story, hostile, postgres

ROUTES = {
    f"{route.method} {route.path}": route
    for route in declared_routes()
    # One handler says "not supported" for whole families of addresses; asking it once under each method is enough.
    if not route.path.endswith("{rest:path}") or route.path.startswith("/api/2.0/mlflow/")
}
WRITERS = [
    name
    for name, route in ROUTES.items()
    if route.method not in ("GET", "HEAD") and route.tag != "console" and hostile.body_fields(route).get("properties")
]


class World:
    """A control plane where something has happened, and a client of it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        application = Application(settings)
        story = console_story.tell(application, folder)
        transport = InProcessTransport(InProcess(application))
        self.client = httpx.Client(transport=transport, base_url="http://127.0.0.1", follow_redirects=False)
        self.known: dict[str, Any] = {
            "project": "default", "run": story.run, "run_id": story.run, "run_uuid": story.run, "experiment_id": "0",
            "model": "flight-delay", "version": "1", "endpoint": "flight-delay", "release": story.waiting,
            "uid": story.incident, "incident": story.incident, "prediction": story.prediction, "name": "flight-delay",
            "revision": story.revision, "dataset": "flights", "index": "1", "digest": hostile.DIGEST,
            "package": hostile.DIGEST, "key": "auc", "metric_key": "auc", "timestamp": 1, "value": "1", "path": "a/b",
            "pipeline": "flight_delay:flight_delay", "directory": "/nowhere", "window": "1d",
            "subject": f"release:{story.waiting}", "kind": "evaluation", "rest": "x", "role": "viewer",
        }  # fmt: skip
        self.step = story.step
        self.by_tag = {
            "releases": {"uid": story.waiting}, "datasets": {"name": "flights"}, "monitors": {"name": "inputs"},
            "access": {"name": "maya"}, "policies": {"name": "baseline"},
        }  # fmt: skip

    def of(self, route: Route) -> dict[str, Any]:
        """What a request to this route may speak of and find."""
        known = self.known | self.by_tag.get(route.tag, {})
        if route.tag == "monitors":
            known["kind"] = "drift"
        if "/steps/{step}" in route.path:
            known["step"] = self.step
        if route.path.startswith("/datasets"):
            known["name"] = "flights"
        return known


@pytest.fixture(scope="module")
def world(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """On SQLite."""
    home = tmp_path_factory.mktemp("home")
    (home / "everline.db").write_bytes(sqlite_template.read_bytes())
    made = World(Settings(home=home, worker=False, dataplane_wait_s_max=0.05), tmp_path_factory.mktemp("story"))
    yield made
    made.client.close()


@pytest.fixture(scope="module")
def strict_world(
    postgres_server: str, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """On PostgreSQL, which refuses zero bytes, long texts and numbers beyond their column."""
    name = f"t_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {postgres_template}")
    url = postgres.database_url(postgres_server, name)
    settings = Settings(home=tmp_path_factory.mktemp("home"), database_url=url, worker=False)
    made = World(settings, tmp_path_factory.mktemp("story"))
    yield made
    made.client.close()
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("name", ROUTES)
def test_hostile_addresses_are_answered(world: World, name: str) -> None:
    route = ROUTES[name]
    known = world.of(route)
    for path in hostile.hostile_paths(route, known):
        hostile.ask(world.client, route, path, content=b"{}")
    valid = hostile.path_of(route, known)
    for query in hostile.query_names(route):
        for value in hostile.QUERIES if query != "project" else hostile.QUERIES[:8:2]:
            hostile.ask(world.client, route, valid, query={query: value})


@pytest.mark.parametrize("name", [name for name, route in ROUTES.items() if route.method not in ("GET", "HEAD")])
def test_hostile_bodies_are_answered(world: World, name: str) -> None:
    route = ROUTES[name]
    path = hostile.path_of(route, world.of(route))
    for kind in hostile.FORMS if route.tag == "console" else hostile.BODIES:
        hostile.ask(world.client, route, path, content=hostile.BODIES[kind])
    for body in hostile.hostile_bodies(hostile.body_fields(route), world.of(route)):
        hostile.ask(world.client, route, path, content=body)


@pytest.mark.parametrize("name", WRITERS)
def test_hostile_bodies_are_answered_on_postgresql(strict_world: World, name: str) -> None:
    route = ROUTES[name]
    path = hostile.path_of(route, strict_world.of(route))
    for body in hostile.hostile_bodies(hostile.body_fields(route), strict_world.of(route)):
        hostile.ask(strict_world.client, route, path, content=body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_bodies_that_nearly_fit_are_answered(world: World, name: str, data: st.DataObject) -> None:
    route = ROUTES[name]
    schema = hostile.body_fields(route)
    body = hostile.example(schema, world.of(route))
    for field in data.draw(st.sets(st.sampled_from(sorted(schema["properties"])), min_size=1, max_size=3)):
        values = hostile.hostile_values(schema["properties"][field])
        body[field] = data.draw(JSON | st.sampled_from([one for one in values if one == one and one != float("inf")]))
    content = msgspec.json.encode(body) if _fits(body) else repr(body).encode(errors="replace")
    hostile.ask(world.client, route, hostile.path_of(route, world.of(route)), content=content)


def _fits(body: Any) -> bool:
    try:
        msgspec.json.encode(body)
    except (UnicodeEncodeError, OverflowError):
        return False
    return True


@pytest.mark.parametrize("database", ["world", "strict_world"])
def test_what_was_kept_of_all_that_can_still_be_read(database: str, request: pytest.FixtureRequest) -> None:
    """No accepted value makes a later page or list fail."""
    after: World = request.getfixturevalue(database)
    for route in ROUTES.values():
        if route.method == "GET":
            hostile.ask(after.client, route, hostile.path_of(route, after.of(route)))
