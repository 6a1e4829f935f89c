"""REST face of users, tokens, roles and projects."""

from __future__ import annotations

import msgspec

from everline.access import service
from everline.access.types import NewToken, Project, Role, Token, User
from everline.server.http import Page, Request, Routes, begin, decode

routes = Routes(tag="access")


class CreateProject(msgspec.Struct, forbid_unknown_fields=True):
    """A project to be."""

    name: str
    description: str = ""


class CreateUser(msgspec.Struct, forbid_unknown_fields=True):
    """A user to be; without a password it acts only through tokens."""

    name: str
    full_name: str = ""
    password: str | None = None


class GrantRole(msgspec.Struct, forbid_unknown_fields=True):
    """A role in a project, or in all with `*`."""

    role: Role
    project: str


class CreateToken(msgspec.Struct, forbid_unknown_fields=True):
    """A token to be; `days` null never ends."""

    name: str
    days: int | None = 90


class SetActive(msgspec.Struct, forbid_unknown_fields=True):
    """Whether a user may act."""

    active: bool


@routes.post("/projects", body=CreateProject, returns=Project, status=201)
def create_project(request: Request) -> Project:
    """Create a project."""
    body = decode(CreateProject, request)
    with begin(request) as uow:
        return service.create_project(uow, body.name, description=body.description)


@routes.get("/projects", returns=Page[Project])
def list_projects(request: Request) -> Page[Project]:
    """List the projects that the caller has a role in."""
    with begin(request) as uow:
        return Page(items=service.list_projects(uow))


@routes.post("/users", body=CreateUser, returns=User, status=201)
def create_user(request: Request) -> User:
    """Create a user."""
    body = decode(CreateUser, request)
    with begin(request) as uow:
        return service.create_user(uow, body.name, full_name=body.full_name, password=body.password)


@routes.get("/users", returns=Page[User])
def list_users(request: Request) -> Page[User]:
    """List users with their roles."""
    with begin(request) as uow:
        return Page(items=service.list_users(uow))


@routes.put("/users/{name}/active", body=SetActive, returns=User)
def set_active(request: Request) -> User:
    """Lock a user out, or let one in again."""
    body = decode(SetActive, request)
    with begin(request) as uow:
        return service.set_active(uow, request.path["name"], active=body.active)


@routes.post("/users/{name}/roles", body=GrantRole, returns=User)
def grant_role(request: Request) -> User:
    """Give a user a role."""
    body = decode(GrantRole, request)
    with begin(request) as uow:
        return service.grant_role(uow, request.path["name"], role=body.role, project=body.project)


@routes.delete("/users/{name}/roles", body=GrantRole, returns=User)
def revoke_role(request: Request) -> User:
    """Take a role from a user."""
    body = decode(GrantRole, request)
    with begin(request) as uow:
        return service.revoke_role(uow, request.path["name"], role=body.role, project=body.project)


@routes.post("/users/{name}/tokens", body=CreateToken, returns=NewToken, status=201)
def create_token(request: Request) -> NewToken:
    """Make an API token; its secret is in this answer only."""
    body = decode(CreateToken, request)
    with begin(request) as uow:
        return service.create_token(uow, request.path["name"], name=body.name, days=body.days)


@routes.get("/users/{name}/tokens", returns=Page[Token])
def list_tokens(request: Request) -> Page[Token]:
    """List a user's tokens, without their secrets."""
    with begin(request) as uow:
        return Page(items=service.list_tokens(uow, request.path["name"]))


@routes.delete("/tokens/{uid}")
def revoke_token(request: Request) -> None:
    """End a token now."""
    with begin(request) as uow:
        service.revoke_token(uow, request.path["uid"])
