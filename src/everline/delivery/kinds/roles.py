"""Roles: which user has which role in this project. Roles that were given by hand are left alone."""

from __future__ import annotations

from everline.access import service
from everline.access.types import Permission, Role
from everline.delivery.kinds.kind import Compared, Scope, Spec
from everline.errors import NotFoundError


class Roles:
    """`[roles]`: a list of roles for each user; each role of each user is a thing of its own, `USER/ROLE`."""

    section = "roles"
    reads = Permission.ACCESS_READ
    writes = Permission.ACCESS_WRITE
    everywhere = True

    def compare(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> Compared:
        """Whether the user holds the role here.

        Raises:
            NotFoundError: there is no such user: people are not made by a file.
        """
        user, _, role = name.partition("/")
        held = self._held(scope).get(user)
        if held is None:
            raise NotFoundError(
                f"There is no user {user!r}.", hint=f"Create the user first: `everline users create {user}`."
            )
        return Compared({"role": role}, {"role": role} if role in held else None)

    def put(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> None:
        """Give it."""
        user, _, role = name.partition("/")
        service.grant_role(scope.uow, user, role=Role(role), project=scope.project)

    def remove(self, scope: Scope, name: str, before: Spec) -> None:
        """Take it."""
        user, _, role = name.partition("/")
        service.revoke_role(scope.uow, user, role=Role(role), project=scope.project)

    def _held(self, scope: Scope) -> dict[str, set[str]]:
        if "roles" not in scope.cache:
            scope.cache["roles"] = {
                user.name: {role.value for role in user.roles.get(scope.project, [])}
                for user in service.list_users(scope.uow)
            }
        held: dict[str, set[str]] = scope.cache["roles"]
        return held
