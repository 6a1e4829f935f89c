"""Every route of the control plane is guarded: made from the declared routes, so that none is forgotten."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from everline.access.types import Role
from everline.config import Settings
from everline.server.app import create_app, declared_routes
from everline.server.application import Application

ANYBODY_LOGGED_IN = {
    "GET /api/v1/info": "says who you are",
    "GET /api/v1/projects": "lists only projects that you have a role in",
}
"""Routes that a user without a role may call, and why that tells nothing."""

ROUTES = {f"{route.method} {route.path}": route for route in declared_routes()}


def fill(path: str) -> str:
    """A path with every parameter given some harmless value."""
    digest = "sha256:" + "0" * 64
    return re.sub(r"\{(\w+):?(\w+)?\}", lambda m: digest if m[1] == "digest" else "1" if m[2] == "int" else "x1", path)


@pytest.fixture(scope="module")
def locked(sqlite_template, tmp_path_factory):
    """A control plane with login on, and a token of a user without any role."""
    home = tmp_path_factory.mktemp("locked")
    (home / "everline.db").write_bytes(sqlite_template.read_bytes())
    application = Application(Settings(home=home, login=True, worker=False))
    from everline.access import service

    with application.begin() as uow:
        service.create_user(uow, "nobody")
        token = service.create_token(uow, "nobody", name="t").secret
    with TestClient(create_app(application), follow_redirects=False) as client:
        yield client, token
    application.close()


@pytest.mark.parametrize("name", [name for name, route in ROUTES.items() if not route.public])
def test_a_stranger_is_refused(locked, name):
    client, _ = locked
    route = ROUTES[name]
    response = client.request(route.method, fill(route.path), content=b"{}")
    if response.status_code == 303:
        assert response.headers["location"].startswith("/login")
    else:
        assert response.status_code == 401, response.text


@pytest.mark.parametrize("name", [name for name, route in ROUTES.items() if not route.public])
def test_a_user_without_a_role_gets_nothing(locked, name):
    client, token = locked
    route = ROUTES[name]
    headers = {"Authorization": f"Bearer {token}"}
    response = client.request(route.method, fill(route.path), content=b"{}", headers=headers)
    if name in ANYBODY_LOGGED_IN:
        assert response.status_code == 200
    else:
        assert response.status_code in (303, 400, 403, 404, 405, 409, 415, 422, 501), response.text


def test_public_routes_are_few_and_known():
    public = {name for name, route in ROUTES.items() if route.public}
    assert public <= {
        "GET /health",
        "GET /api/v1/keys",
        "GET /login",
        "POST /login",
        "GET /version",
        "GET /api/3.0/mlflow/server-info",
        # asks for the schedule's own secret, since other programs have no account here
        "POST /api/v1/hooks/{schedule}",
        # asks for the upload's own secret, since MLflow's client sends parts without its credentials
        "PUT /api/2.0/mlflow-artifacts/mpu/parts/{upload}/{number:int}",
    }


def test_roles_are_enforced_through_the_api(locked):
    client, _ = locked
    application = client.app
    assert application is not None
    for method, path, body in (("POST", "/api/v1/users", {"name": "mallory"}), ("GET", "/api/v1/users", None)):
        assert client.request(method, path, json=body).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Host": "evil.example"}, 403),
    ],
)
def test_without_login_only_pages_of_this_machine_are_answered(app, headers, status):
    with TestClient(create_app(app), base_url="http://127.0.0.1") as client:
        assert client.get("/api/v1/info", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "not JSON"),
        (b'{"name": 1}', "Expected `str`"),
        (b'{"naem": "maya"}', "naem"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "Expected `object`"),
    ],
)
def test_a_bad_body_is_explained(app, content, says):
    with TestClient(create_app(app), base_url="http://127.0.0.1") as client:
        response = client.post("/api/v1/users", content=content)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert says in response.json()["detail"]


def test_an_oversized_body_is_refused_before_it_is_read(settings):
    import msgspec

    application = Application(msgspec.structs.replace(settings, json_body_bytes_max=1000))
    with TestClient(create_app(application), base_url="http://127.0.0.1") as client:
        response = client.post("/api/v1/users", content=b" " * 2000)
    application.close()
    assert response.status_code == 413


def test_an_unknown_path_says_where_to_look(app):
    with TestClient(create_app(app), base_url="http://127.0.0.1") as client:
        response = client.get("/api/v1/nonsense")
    assert response.status_code == 404
    assert "openapi.json" in response.json()["hint"]


def test_the_document_describes_every_rest_route(app):
    with TestClient(create_app(app), base_url="http://127.0.0.1") as client:
        paths = client.get("/api/v1/openapi.json").json()["paths"]
    described = {f"{method.upper()} {path}" for path, operations in paths.items() for method in operations}
    rest = {re.sub(r":\w+\}", "}", name) for name in ROUTES if " /api/v1/" in name}
    assert described == rest


def test_a_viewer_reads_and_changes_nothing(app, tokens):
    headers = {"Authorization": f"Bearer {tokens('vera', Role.VIEWER)}"}
    with TestClient(create_app(app), base_url="http://127.0.0.1") as client:
        assert client.get("/api/v1/jobs", headers=headers).status_code == 200
        refused = client.post("/api/v1/jobs/claim", headers=headers, json={"queue": "pipelines", "worker": "v"})
    assert refused.status_code == 403
    assert "job.write" in refused.json()["detail"]
