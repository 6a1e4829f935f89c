"""Users, roles and tokens: who may do what, on both databases."""

from __future__ import annotations

import pytest

from everline.access import service
from everline.access.types import LOCAL, Permission, Role
from everline.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError, UnauthenticatedError


def test_a_token_lets_its_user_act_until_it_is_revoked(begin):
    with begin() as uow:
        service.create_user(uow, "maya")
        service.grant_role(uow, "maya", role=Role.CONTRIBUTOR, project="default")
        made = service.create_token(uow, "maya", name="laptop")
    with begin() as uow:
        actor = service.actor_of_token(uow, made.secret)
        assert actor.name == "maya"
        assert actor.may(Permission.RUN_WRITE, "default")
        assert not actor.may(Permission.RELEASE_APPROVE, "default")
    with begin() as uow:
        service.revoke_token(uow, made.token.uid)
    with begin() as uow, pytest.raises(UnauthenticatedError):
        service.actor_of_token(uow, made.secret)


def test_the_secret_of_a_token_is_not_kept(begin, app):
    with begin() as uow:
        service.create_user(uow, "maya")
        secret = service.create_token(uow, "maya", name="laptop").secret
    with app.database.begin(read_only=True) as connection:
        rows = connection.exec_driver_sql("SELECT * FROM access_token").all()
    assert secret not in repr(rows)


def test_a_locked_user_is_out_at_once(begin):
    with begin() as uow:
        service.create_user(uow, "maya", password="correct horse battery")
        secret = service.create_token(uow, "maya", name="laptop").secret
        service.set_active(uow, "maya", active=False)
    with begin() as uow:
        with pytest.raises(UnauthenticatedError):
            service.actor_of_token(uow, secret)
        with pytest.raises(UnauthenticatedError):
            service.actor_of_password(uow, "maya", "correct horse battery")


def test_a_session_opens_with_the_password_and_ends_with_logout(begin):
    with begin() as uow:
        service.create_user(uow, "ravi", password="correct horse battery")
    with begin() as uow, pytest.raises(UnauthenticatedError, match="do not match"):
        service.open_session(uow, "ravi", "wrong")
    with begin() as uow:
        actor, secret, _ = service.open_session(uow, "ravi", "correct horse battery")
        assert actor.name == "ravi"
    with begin() as uow:
        assert service.actor_of_session(uow, secret).name == "ravi"
        service.close_session(uow, secret)
    with begin() as uow, pytest.raises(UnauthenticatedError):
        service.actor_of_session(uow, secret)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.CONTRIBUTOR, Role.APPROVER, Role.AUDITOR])
def test_only_an_admin_changes_access(begin, role):
    with begin(role=role) as uow, pytest.raises(ForbiddenError, match="access.write"):
        service.create_user(uow, "mallory")


def test_a_project_without_a_role_looks_as_if_it_did_not_exist(begin):
    with begin() as uow:
        service.create_project(uow, "secret-project")
    with begin(role=Role.VIEWER) as uow:
        assert [project.name for project in service.list_projects(uow)] == ["default"]
        with pytest.raises(NotFoundError):
            uow.require(Permission.RUN_READ, "secret-project")


def test_names_are_unique_and_harmless(begin):
    with begin() as uow:
        service.create_user(uow, "maya")
        with pytest.raises(ConflictError):
            service.create_user(uow, "maya")
        for name in ("../etc", "a b", "", "x" * 200, LOCAL.name):
            with pytest.raises((InvalidInputError, ConflictError)):
                service.create_user(uow, name)


def test_a_short_password_is_refused(begin):
    with begin() as uow, pytest.raises(InvalidInputError, match="fewer than 10"):
        service.create_user(uow, "maya", password="short")
