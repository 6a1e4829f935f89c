"""What integration tests stand on: both databases, an application, a server process, a client."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import psycopg
import pytest
from starlette.testclient import TestClient

from everline.access import service as access
from everline.access.types import LOCAL, Actor, Role
from everline.access.unit_of_work import UnitOfWork
from everline.config import Settings
from everline.sdk.client import Client
from everline.server.app import create_app
from everline.server.application import Application
from tests_support import memory, postgres

Begin = Callable[..., AbstractContextManager[UnitOfWork]]
FOLDER = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Everything in memory where there is room, and one PostgreSQL for all workers of a parallel run."""
    if hasattr(config, "workerinput"):
        return  # a worker: it has been told by its parent
    folder = memory.use_memory()
    if folder is not None:
        config.stash[FOLDER] = folder
        config.add_cleanup(lambda: FOLDER in config.stash and shutil.rmtree(folder, ignore_errors=True))
    if getattr(config.option, "numprocesses", None) and postgres.find_binaries() is not None:
        stack = contextlib.ExitStack()
        os.environ[postgres.URL_VARIABLE] = stack.enter_context(postgres.running())
        config.add_cleanup(stack.close)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """What failed tests left can be looked at until the next run."""
    if exitstatus != 0 and FOLDER in session.config.stash:
        del session.config.stash[FOLDER]


@pytest.fixture(autouse=True)
def forget_what_mlflow_was_told() -> Iterator[None]:
    """MLflow's client keeps server, registry and experiment in variables, which processes of later tests inherit."""
    before = _of_mlflow()
    yield
    for name in _of_mlflow().keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _of_mlflow() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if "MLFLOW" in name}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a real PostgreSQL server of our own, on loopback."""
    with postgres.running() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a migrated database that tests copy: cheaper than migrating for each."""
    name = f"template_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    home = tmp_path_factory.mktemp("template")
    Application(Settings(home=home, database_url=postgres.database_url(postgres_server, name))).close()
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file that tests copy."""
    home = tmp_path_factory.mktemp("template")
    Application(Settings(home=home)).close()
    return home / "everline.db"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh, migrated database; every test that uses it runs on both."""
    if request.param == "sqlite":
        source: Path = request.getfixturevalue("sqlite_template")
        target = tmp_path / "home" / "everline.db"
        target.parent.mkdir()
        target.write_bytes(source.read_bytes())
        yield f"sqlite:///{target}"
        return
    server: str = request.getfixturevalue("postgres_server")
    template: str = request.getfixturevalue("postgres_template")
    name = f"t_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield postgres.database_url(server, name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings over the test's own database and home."""
    return Settings(home=tmp_path / "home", database_url=database_url, worker=False)


@pytest.fixture
def app(settings: Settings) -> Iterator[Application]:
    """The application over a fresh database."""
    application = Application(settings)
    yield application
    application.close()


@pytest.fixture
def begin(app: Application) -> Begin:
    """`with begin() as uow` works as the local admin; `begin(role=…)` as a person with that role in `default`."""

    def start(actor: Actor | None = None, *, role: Role | None = None) -> AbstractContextManager[UnitOfWork]:
        return app.begin(actor or (person(role) if role else LOCAL))

    return start


def person(role: Role | None, *, name: str = "someone") -> Actor:
    """An actor with one role in the project `default`, or with none at all."""
    roles = {"default": frozenset({role})} if role else {}
    return Actor(uid=f"00000000-0000-7000-8000-{abs(hash(name)) % 10**12:012d}", name=name, roles=roles)


@pytest.fixture
def client(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """The SDK over the same database, in this process."""
    monkeypatch.setenv("EVERLINE_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("EVERLINE_WORKER", "false")
    with Client(home=settings.home) as opened:
        yield opened


@pytest.fixture
def browser(app: Application) -> Iterator[TestClient]:
    """The faces of the control plane in this process, as the local admin's browser asks them."""
    with TestClient(create_app(app), base_url="http://127.0.0.1") as opened:
        yield opened


class Server:
    """A real control-plane process."""

    def __init__(self, home: Path, database_url: str, *, options: tuple[str, ...] = ()) -> None:
        self.home, self.database_url, self.options = home, database_url, options
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        environment = os.environ | {"EVERLINE_DATABASE_URL": self.database_url}
        command = [sys.executable, "-m", "everline", "server", "--port", str(self.port), "--home", str(self.home)]
        self.process = subprocess.Popen([*command, *self.options], env=environment)
        wait_ready(self.url, self.process)

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[Server]:
    """A running control plane on loopback, over a fresh database."""
    running = Server(tmp_path / "home", database_url)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def tokens(app: Application) -> Callable[[str, Role], str]:
    """`tokens("maya", Role.CONTRIBUTOR)` makes the user and returns an API token."""

    def make(name: str, role: Role | None) -> str:
        with app.begin(LOCAL) as uow:
            access.create_user(uow, name)
            if role is not None:
                access.grant_role(uow, name, role=role, project="default")
            return access.create_token(uow, name, name="test").secret

    return make


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_ready(url: str, process: subprocess.Popen[bytes], *, seconds: float = 60.0) -> None:
    """Wait for 200 at /health, or fail with what happened."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the process ended with {process.returncode} before it was ready")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{url} was not ready within {seconds} s")
