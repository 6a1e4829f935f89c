"""Every public service function refuses an actor without power: called one by one, from the declarations."""

from __future__ import annotations

import inspect
import pkgutil
import secrets
import types
import typing
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import msgspec
import psycopg
import pyarrow as pa
import pytest

from everline.access.declare import DECLARED, UnguardedError, act, read
from everline.access.types import Permission
from everline.config import Settings
from everline.errors import ForbiddenError, NotFoundError
from everline.loader import load
from everline.server.application import Application
from tests_support import postgres

SLICES = (
    "access",
    "jobs",
    "governance",
    "datasets",
    "runs",
    "imports",
    "models",
    "models.logged",
    "pipelines",
    "pipelines.schedules",
    "reproduction",
    "serving",
    "monitoring",
    "releases",
    "webhooks",
    "delivery",
)
SHOWS_OWN_ONLY = {"everline.access.service.list_projects": "filters by the actor's own roles"}


def load_every_service() -> None:
    for word in SLICES:
        package = load(f"everline.{word}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if not module.ispkg:
                load(module.name)


load_every_service()


def example(annotation: Any, name: str) -> Any:
    """Some value of the annotated type: it only has to get past the door."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return None if type(None) in arguments else example(arguments[0], name)
    if origin is Literal:
        return arguments[0]
    if annotation is str:
        return "sha256:" + "0" * 64 if "digest" in name or "package" in name else "x"
    if annotation in (int, float, bool, bytes):
        return annotation(1) if annotation is not bytes else b"x"
    if annotation is datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)
    if annotation is Path:
        return Path("x")
    if annotation is pa.Table:
        return pa.table({"a": [1]})
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return next(iter(annotation))
    if inspect.isclass(annotation) and issubclass(annotation, msgspec.Struct):
        hints = typing.get_type_hints(annotation)
        needed = [field for field in msgspec.structs.fields(annotation) if field.required]
        return annotation(**{field.name: example(hints[field.name], field.name) for field in needed})
    if origin in (dict, typing.get_origin(typing.Mapping)) or annotation is dict:
        return {}
    return []


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def unchanged(request, tmp_path_factory):
    """One application for all of them: none may change anything."""
    home = tmp_path_factory.mktemp("unchanged")
    if request.param == "sqlite":
        source = request.getfixturevalue("sqlite_template")
        (home / "everline.db").write_bytes(source.read_bytes())
        url = ""
    else:
        server, template = request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres_template")
        name = f"unchanged_{secrets.token_hex(4)}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        url = postgres.database_url(server, name)
    application = Application(Settings(home=home, database_url=url, worker=False))
    yield application
    application.close()


@pytest.mark.parametrize("name", sorted(set(DECLARED) - set(SHOWS_OWN_ONLY)))
def test_a_powerless_actor_is_refused(unchanged, name):
    from conftest import person

    _, function = DECLARED[name]
    plain = inspect.unwrap(function)
    hints = typing.get_type_hints(plain)
    positional, keywords = [], {}
    for parameter in list(inspect.signature(plain).parameters.values())[1:]:
        if parameter.default is not parameter.empty:
            continue
        value = "default" if parameter.name == "project" else example(hints[parameter.name], parameter.name)
        if parameter.kind is parameter.KEYWORD_ONLY:
            keywords[parameter.name] = value
        else:
            positional.append(value)
    with pytest.raises((ForbiddenError, NotFoundError)), unchanged.begin(person(None)) as uow:
        function(uow, *positional, **keywords)


def test_a_function_that_forgets_its_permission_fails(begin):
    @read
    def careless(uow):
        return "secret"

    with begin() as uow, pytest.raises(UnguardedError, match="no permission"):
        careless(uow)


def test_an_act_that_forgets_its_audit_event_fails_and_changes_nothing(begin, app):
    from sqlalchemy import select

    from everline.access import tables

    @act
    def careless(uow):
        uow.require(Permission.DATA_WRITE, "default")
        uow.conn.execute(tables.project.update().values(description="changed behind your back"))

    with pytest.raises(UnguardedError, match="no audit event"), begin() as uow:
        careless(uow)
    with begin() as uow:
        assert uow.conn.execute(select(tables.project.c.description)).scalar() == "The first project."


def test_a_change_in_a_transaction_that_only_reads_fails(app):
    @act
    def careless(uow):
        uow.require(Permission.DATA_WRITE, "default")
        uow.record("project.describe", subject="project:default", project="default")

    with pytest.raises(UnguardedError, match="read-only transaction"), app.begin(read_only=True) as uow:
        careless(uow)
