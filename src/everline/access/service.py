"""Users, tokens, sessions, roles and projects: the one place that says who is who."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, delete, select, update

from everline.access import tables
from everline.access.declare import act, read
from everline.access.types import ALL_PROJECTS, LOCAL, SYSTEM, Actor, NewToken, Permission, Project, Role, Token, User
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, InvalidInputError, NotFoundError, UnauthenticatedError
from everline.ids import check_name, new_uid

_TOKEN_MARK = "evl_"  # noqa: S105  (a mark that secret scanners can look for, not a secret)
_PASSWORD_CHARACTERS_MIN = 10
# scrypt at OWASP's 2025 floor: 64 MiB and about 0.15 s for each guess.
_SCRYPT = {"n": 1 << 16, "r": 8, "p": 1, "maxmem": 128 << 20}


# --- projects -------------------------------------------------------------------------------------


@act
def create_project(uow: UnitOfWork, name: str, *, description: str = "") -> Project:
    """Create a project.

    Raises:
        ConflictError: the name is taken.
    """
    uow.require_anywhere(Permission.ACCESS_WRITE)
    check_name(name, field="project")
    if _find_project(uow, name):
        raise ConflictError(f"The project {name!r} exists already.", hint="Choose another name.", field="project")
    made = Project(uid=new_uid(), name=name, description=description, created_at=uow.clock.now())
    uow.conn.execute(tables.project.insert().values(**{f: getattr(made, f) for f in made.__struct_fields__}))
    uow.record("project.create", subject=f"project:{made.uid}", project=name, name=name)
    return made


@read
def list_projects(uow: UnitOfWork) -> list[Project]:
    """The projects in which the actor has a role, by name."""
    uow.checks += 1  # the filter below is the permission
    rows = uow.conn.execute(select(tables.project).order_by(tables.project.c.name))
    return [_project(row) for row in rows if uow.actor.roles_in(row.name)]


def _find_project(uow: UnitOfWork, name: str) -> Project | None:
    row = uow.conn.execute(select(tables.project).where(tables.project.c.name == name)).first()
    return _project(row) if row else None


def _project(row: Row[Any]) -> Project:
    return Project(uid=row.uid, name=row.name, description=row.description, created_at=row.created_at)


# --- users and roles ------------------------------------------------------------------------------


@act
def create_user(uow: UnitOfWork, name: str, *, full_name: str = "", password: str | None = None) -> User:
    """Create a user without any role.

    Args:
        password: at least 10 characters; None makes a user that can only act through tokens.
    """
    uow.require_anywhere(Permission.ACCESS_WRITE)
    check_name(name, field="user")
    if name in (LOCAL.name, SYSTEM.name) or _user_row(uow, name) is not None:
        raise ConflictError(f"The user {name!r} exists already.", hint="Choose another name.", field="user")
    uid, now = new_uid(), uow.clock.now()
    hashed = None if password is None else _hash_password(password)
    uow.conn.execute(
        tables.user.insert().values(
            uid=uid, name=name, full_name=full_name, password=hashed, active=True, created_at=now
        )
    )
    uow.record("user.create", subject=f"user:{uid}", project=ALL_PROJECTS, name=name, can_log_in=bool(hashed))
    return User(uid=uid, name=name, full_name=full_name, active=True, created_at=now)


@read
def list_users(uow: UnitOfWork) -> list[User]:
    """Every user with roles, by name."""
    uow.require_anywhere(Permission.ACCESS_READ)
    rows = uow.conn.execute(select(tables.user).order_by(tables.user.c.name)).all()
    return [_user(uow, row) for row in rows]


@act
def grant_role(uow: UnitOfWork, user: str, *, role: Role, project: str) -> User:
    """Give a user a role in a project, or in all with `*`."""
    uow.require_anywhere(Permission.ACCESS_WRITE)
    row = _require_user(uow, user)
    if project != ALL_PROJECTS and _find_project(uow, project) is None:
        raise NotFoundError(f"There is no project {project!r}.", hint="`everline projects list`.", field="project")
    if project in _roles_of(uow, row.uid) and role in _roles_of(uow, row.uid)[project]:
        uow.unchanged()
        return _user(uow, row)
    uow.conn.execute(
        tables.role_grant.insert().values(
            uid=new_uid(), user=row.uid, project=project, role=role.value, granted_at=uow.clock.now()
        )
    )
    uow.record("role.grant", subject=f"user:{row.uid}", project=project, role=role.value, name=user)
    return _user(uow, row)


@act
def revoke_role(uow: UnitOfWork, user: str, *, role: Role, project: str) -> User:
    """Take a role from a user."""
    uow.require_anywhere(Permission.ACCESS_WRITE)
    row = _require_user(uow, user)
    grant = tables.role_grant.c
    where = (grant.user == row.uid, grant.project == project, grant.role == role.value)
    if uow.conn.execute(delete(tables.role_grant).where(*where)).rowcount == 0:
        raise NotFoundError(f"{user} does not hold the role {role.value} in {project}.", hint="`everline users list`.")
    uow.record("role.revoke", subject=f"user:{row.uid}", project=project, role=role.value, name=user)
    return _user(uow, row)


@act
def set_active(uow: UnitOfWork, user: str, *, active: bool) -> User:
    """Lock a user out, or let one in again; tokens and sessions of a locked user stop working at once."""
    uow.require_anywhere(Permission.ACCESS_WRITE)
    row = _require_user(uow, user)
    uow.conn.execute(update(tables.user).where(tables.user.c.uid == row.uid).values(active=active))
    uow.record("user.activate" if active else "user.lock", subject=f"user:{row.uid}", project=ALL_PROJECTS, name=user)
    return _user(uow, _require_user(uow, user))


def _user_row(uow: UnitOfWork, name: str) -> Row[Any] | None:
    return uow.conn.execute(select(tables.user).where(tables.user.c.name == name)).first()


def _require_user(uow: UnitOfWork, name: str) -> Row[Any]:
    row = _user_row(uow, name)
    if row is None:
        raise NotFoundError(f"There is no user {name!r}.", hint="`everline users list` shows them.", field="user")
    return row


def _roles_of(uow: UnitOfWork, user_uid: str) -> dict[str, list[Role]]:
    grant = tables.role_grant.c
    query = select(grant.project, grant.role).where(grant.user == user_uid).order_by(grant.project, grant.role)
    roles: dict[str, list[Role]] = {}
    for project, role in uow.conn.execute(query):
        roles.setdefault(project, []).append(Role(role))
    return roles


def _user(uow: UnitOfWork, row: Row[Any]) -> User:
    return User(
        uid=row.uid,
        name=row.name,
        full_name=row.full_name,
        active=row.active,
        created_at=row.created_at,
        roles=_roles_of(uow, row.uid),
    )


# --- tokens ---------------------------------------------------------------------------------------


@act
def create_token(uow: UnitOfWork, user: str, *, name: str, days: int | None = 90) -> NewToken:
    """Make an API token for a user; only its SHA-256 is kept, its secret is shown this once.

    Args:
        days: 1 to 3650 days of life, or None for no end.
    """
    uow.require_anywhere(Permission.ACCESS_WRITE)
    row = _require_user(uow, user)
    check_name(name, field="token")
    if days is not None and not 1 <= days <= 3650:
        raise InvalidInputError(f"A token cannot live {days} days.", hint="Give 1 to 3650, or none.", field="days")
    secret = _TOKEN_MARK + secrets.token_urlsafe(32)
    now = uow.clock.now()
    made = Token(
        uid=new_uid(),
        user=user,
        name=name,
        prefix=secret[:10],
        created_at=now,
        expires_at=None if days is None else now + timedelta(days=days),
        revoked_at=None,
        last_used_at=None,
    )
    values = {f: getattr(made, f) for f in made.__struct_fields__} | {"user": row.uid, "hash": _hash_secret(secret)}
    uow.conn.execute(tables.token.insert().values(**values))
    uow.record("token.create", subject=f"token:{made.uid}", project=ALL_PROJECTS, user=user, name=name)
    return NewToken(token=made, secret=secret)


@read
def list_tokens(uow: UnitOfWork, user: str) -> list[Token]:
    """A user's tokens, newest first."""
    uow.require_anywhere(Permission.ACCESS_READ)
    row = _require_user(uow, user)
    query = select(tables.token).where(tables.token.c.user == row.uid).order_by(tables.token.c.uid.desc())
    return [_token(found, user) for found in uow.conn.execute(query)]


@act
def revoke_token(uow: UnitOfWork, uid: str) -> None:
    """End a token now."""
    uow.require_anywhere(Permission.ACCESS_WRITE)
    columns = tables.token.c
    where = (columns.uid == uid, columns.revoked_at.is_(None))
    if uow.conn.execute(update(tables.token).where(*where).values(revoked_at=uow.clock.now())).rowcount == 0:
        raise NotFoundError(f"There is no token {uid!r} in force.", hint="`everline tokens list USER`.", field="token")
    uow.record("token.revoke", subject=f"token:{uid}", project=ALL_PROJECTS)


def _token(row: Row[Any], user: str) -> Token:
    values = {name: getattr(row, name) for name in Token.__struct_fields__}
    return Token(**(values | {"user": user}))


def _hash_secret(secret: str) -> bytes:
    # 32 random bytes need no salt and no slow hash: there is nothing to guess.
    return hashlib.sha256(secret.encode()).digest()


# --- who is speaking ------------------------------------------------------------------------------


def actor_of_token(uow: UnitOfWork, secret: str) -> Actor:
    """Who holds an API token.

    Raises:
        UnauthenticatedError: unknown, revoked or expired, or its user is locked; which one is not told.
    """
    now, column = uow.clock.now(), tables.token.c
    query = (
        select(tables.user, column.uid.label("token"))
        .join(tables.token, column.user == tables.user.c.uid)
        .where(column.hash == _hash_secret(secret), column.revoked_at.is_(None), tables.user.c.active)
        .where((column.expires_at.is_(None)) | (column.expires_at > now))
    )
    return _actor(uow, query, hint="Make a new one with `everline tokens create USER`.", what="This token")


def actor_of_session(uow: UnitOfWork, secret: str) -> Actor:
    """Who logged in with this session's cookie."""
    query = (
        select(tables.user)
        .join(tables.session, tables.session.c.user == tables.user.c.uid)
        .where(tables.session.c.hash == _hash_secret(secret), tables.user.c.active)
        .where(tables.session.c.expires_at > uow.clock.now())
    )
    return _actor(uow, query, hint="Log in again.", what="This session")


def _actor(uow: UnitOfWork, query: Select[Any], *, hint: str, what: str) -> Actor:
    row = uow.conn.execute(query).first()
    if row is None:
        raise UnauthenticatedError(f"{what} is not valid, or not any more.", hint=hint)
    roles = {project: frozenset(held) for project, held in _roles_of(uow, row.uid).items()}
    return Actor(uid=row.uid, name=row.name, roles=roles)


def actor_of_password(uow: UnitOfWork, name: str, password: str) -> Actor:
    """Who knows this name and password; used by HTTP Basic authentication and by the login page."""
    row = _user_row(uow, name)
    # An unknown name costs the same time as a known one, so that names cannot be listed by timing.
    known = row.password if row is not None and row.active and row.password else _NOBODY
    if not _password_matches(password, known) or row is None:
        raise UnauthenticatedError("This name and password do not match.", hint="Ask an admin for a new password.")
    roles = {project: frozenset(held) for project, held in _roles_of(uow, row.uid).items()}
    return Actor(uid=row.uid, name=row.name, roles=roles)


def open_session(uow: UnitOfWork, name: str, password: str) -> tuple[Actor, str, datetime]:
    """Log in: return the actor, the cookie's secret, and when it ends."""
    actor = actor_of_password(uow, name, password)
    secret, now = secrets.token_urlsafe(32), uow.clock.now()
    ends = now + timedelta(seconds=uow.settings.session_s)
    uow.conn.execute(delete(tables.session).where(tables.session.c.expires_at < now))
    uow.conn.execute(
        tables.session.insert().values(
            uid=new_uid(), user=actor.uid, hash=_hash_secret(secret), created_at=now, expires_at=ends
        )
    )
    uow.actor = actor
    uow.record("session.open", subject=f"user:{actor.uid}", project=ALL_PROJECTS)
    return actor, secret, ends


def close_session(uow: UnitOfWork, secret: str) -> None:
    """Log out; an unknown session is fine."""
    gone = uow.conn.execute(delete(tables.session).where(tables.session.c.hash == _hash_secret(secret))).rowcount
    if gone:
        uow.record("session.close", subject=f"user:{uow.actor.uid}", project=ALL_PROJECTS)


def _hash_password(password: str) -> str:
    if len(password) < _PASSWORD_CHARACTERS_MIN:
        raise InvalidInputError(
            f"The password has fewer than {_PASSWORD_CHARACTERS_MIN} characters.",
            hint="Use a longer one; a sentence is fine.",
            field="password",
        )
    salt = os.urandom(16)
    return f"scrypt${salt.hex()}${_scrypt(password, salt).hex()}"


def _password_matches(password: str, kept: str) -> bool:
    _, salt, expected = kept.split("$")
    return hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)), bytes.fromhex(expected))


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, dklen=32, **_SCRYPT)


_NOBODY = f"scrypt${bytes(16).hex()}${bytes(32).hex()}"
