"""Users, tokens, roles and projects through the client."""

from __future__ import annotations

from everline.access.types import NewToken, Project, Role, Token, User
from everline.sdk.client import Client


class AccessApi:
    """Users, tokens, roles and projects."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create_project(self, name: str, *, description: str = "") -> Project:
        """Create a project."""
        body = {"name": name, "description": description}
        return self._client.call("POST", "/projects", body=body, returns=Project)

    def list_projects(self) -> list[Project]:
        """The projects that you have a role in."""
        return self._client.list_all("/projects", kind=Project, limit=10_000)

    def create_user(self, name: str, *, full_name: str = "", password: str | None = None) -> User:
        """Create a user; without a password it acts only through tokens."""
        body = {"name": name, "full_name": full_name, "password": password}
        return self._client.call("POST", "/users", body=body, returns=User)

    def list_users(self) -> list[User]:
        """Users with their roles."""
        return self._client.list_all("/users", kind=User, limit=10_000)

    def set_active(self, user: str, *, active: bool) -> User:
        """Lock a user out, or let one in again."""
        return self._client.call("PUT", f"/users/{user}/active", body={"active": active}, returns=User)

    def grant_role(self, user: str, *, role: Role | str, project: str | None = None) -> User:
        """Give a user a role, in the client's project unless told otherwise; `*` for all."""
        body = {"role": role, "project": project or self._client.project}
        return self._client.call("POST", f"/users/{user}/roles", body=body, returns=User)

    def revoke_role(self, user: str, *, role: Role | str, project: str | None = None) -> User:
        """Take a role from a user."""
        body = {"role": role, "project": project or self._client.project}
        return self._client.call("DELETE", f"/users/{user}/roles", body=body, returns=User)

    def create_token(self, user: str, *, name: str, days: int | None = 90) -> NewToken:
        """Make an API token; its secret is shown this once."""
        body = {"name": name, "days": days}
        return self._client.call("POST", f"/users/{user}/tokens", body=body, returns=NewToken)

    def list_tokens(self, user: str) -> list[Token]:
        """A user's tokens, without their secrets."""
        return self._client.list_all(f"/users/{user}/tokens", kind=Token, limit=10_000)

    def revoke_token(self, uid: str) -> None:
        """End a token now."""
        self._client.call("DELETE", f"/tokens/{uid}")
