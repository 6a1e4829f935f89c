"""A server process for each database, shared by the whole suite, and the official client before it.

Tests share the server, so that each names its own experiments and models.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator, Iterator
from pathlib import Path

import psycopg
import pytest

os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["EVERLINE_WEBHOOK_PRIVATE"] = "true"  # the receiver of webhooks listens on loopback

import mlflow
from mlflow import MlflowClient

from conftest import Server
from tests_support import mlflow_endpoints as endpoints
from tests_support import postgres


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Generator[None]:
    """Fail a test that docs/mlflow.md names for an endpoint which it does not call."""
    named = {row.endpoint for row in endpoints.rows() if item.originalname in row.tests}
    with endpoints.called() as called:
        yield
    if not named <= called:
        pytest.fail(f"docs/mlflow.md names this test for {sorted(named - called)}, which it does not call.")


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def mlflow_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running control plane over a fresh database."""
    home: Path = tmp_path_factory.mktemp("conformance")
    if request.param == "sqlite":
        url = f"sqlite:///{home / 'everline.db'}"
    else:
        postgres_url: str = request.getfixturevalue("postgres_server")
        name = f"conformance_{secrets.token_hex(4)}"
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = postgres.database_url(postgres_url, name)
    running = Server(home, url)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def mlflow_client(mlflow_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """The official client, unmodified; the fluent API speaks to the same server."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow.set_tracking_uri(mlflow_server.url)
    mlflow.set_registry_uri(mlflow_server.url)
    yield MlflowClient(mlflow_server.url)
    while mlflow.active_run() is not None:
        mlflow.end_run()


@pytest.fixture
def experiment(mlflow_client: MlflowClient) -> str:
    """The id of an experiment of this test's own."""
    return str(mlflow_client.create_experiment(f"e-{secrets.token_hex(6)}"))


@pytest.fixture
def unique() -> str:
    """A name that no other test uses."""
    return f"n-{secrets.token_hex(6)}"
