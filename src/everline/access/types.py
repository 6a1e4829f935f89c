"""Permissions, roles and actors."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec


class Permission(StrEnum):
    """What an actor may do in a project."""

    DATA_READ = "data.read"
    DATA_WRITE = "data.write"
    RUN_READ = "run.read"
    RUN_WRITE = "run.write"
    MODEL_READ = "model.read"
    MODEL_WRITE = "model.write"
    MODEL_DELETE = "model.delete"
    """Take models and versions off the shelf that others made; what is one's own, `model.write` is enough for."""
    PIPELINE_READ = "pipeline.read"
    PIPELINE_WRITE = "pipeline.write"
    RELEASE_READ = "release.read"
    RELEASE_CREATE = "release.create"
    RELEASE_APPROVE = "release.approve"
    RELEASE_OPERATE = "release.operate"
    RELEASE_BREAK_GLASS = "release.break_glass"
    """Bring a release live past its policies; opens a review."""
    POLICY_READ = "policy.read"
    POLICY_WRITE = "policy.write"
    POLICY_ACTIVATE = "policy.activate"
    """Be the second pair of eyes on a change of policy."""
    EVIDENCE_READ = "evidence.read"
    EVIDENCE_WRITE = "evidence.write"
    ENDPOINT_READ = "endpoint.read"
    ENDPOINT_WRITE = "endpoint.write"
    PREDICTION_READ = "prediction.read"
    FEEDBACK_WRITE = "feedback.write"
    MONITOR_READ = "monitor.read"
    MONITOR_WRITE = "monitor.write"
    INCIDENT_READ = "incident.read"
    INCIDENT_WRITE = "incident.write"
    AUDIT_READ = "audit.read"
    JOB_READ = "job.read"
    JOB_WRITE = "job.write"
    ACCESS_READ = "access.read"
    ACCESS_WRITE = "access.write"
    WEBHOOK_READ = "webhook.read"
    """See where events are sent to: addresses may hold tokens, so that viewers do not."""
    WEBHOOK_WRITE = "webhook.write"
    DELIVERY_READ = "delivery.read"
    """See what `everline.toml` declares, its plans and history; of each kind only what one may see anyway."""
    DELIVERY_WRITE = "delivery.write"
    """Apply `everline.toml`; each change asks for its own kind's permission as well."""
    STORAGE_COLLECT = "storage.collect"
    """Remove bytes that nothing refers to, of all projects."""
    DATAPLANE = "dataplane"
    """For machines: fetch desired state and packages, ship prediction segments and health."""


_READS = frozenset(p for p in Permission if p.value.endswith(".read")) - {
    Permission.AUDIT_READ,
    Permission.ACCESS_READ,
    Permission.WEBHOOK_READ,
}
_CONTRIBUTES = frozenset({
    Permission.DATA_WRITE, Permission.RUN_WRITE, Permission.MODEL_WRITE, Permission.PIPELINE_WRITE,
    Permission.RELEASE_CREATE, Permission.RELEASE_OPERATE, Permission.EVIDENCE_WRITE, Permission.ENDPOINT_WRITE,
    Permission.FEEDBACK_WRITE, Permission.MONITOR_WRITE, Permission.INCIDENT_WRITE, Permission.JOB_WRITE,
    Permission.DELIVERY_WRITE,
})  # fmt: skip


class Role(StrEnum):
    """A named set of permissions, granted to a user in one project or in all."""

    VIEWER = "viewer"
    CONTRIBUTOR = "contributor"
    APPROVER = "approver"
    AUDITOR = "auditor"
    DATAPLANE = "dataplane"
    ADMIN = "admin"


PERMISSIONS_OF: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _READS,
    Role.CONTRIBUTOR: _READS | _CONTRIBUTES,
    Role.APPROVER: _READS
    | {
        Permission.RELEASE_APPROVE,
        Permission.RELEASE_OPERATE,
        Permission.POLICY_ACTIVATE,
        Permission.RELEASE_BREAK_GLASS,
        Permission.MODEL_DELETE,
        Permission.INCIDENT_WRITE,
        Permission.EVIDENCE_WRITE,
        Permission.AUDIT_READ,
    },
    Role.AUDITOR: _READS | {Permission.AUDIT_READ, Permission.ACCESS_READ, Permission.WEBHOOK_READ},
    Role.DATAPLANE: frozenset({Permission.DATAPLANE}),
    Role.ADMIN: frozenset(Permission),
}

ALL_PROJECTS = "*"
"""The project name of a grant that holds everywhere."""


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who acts: a person, a token's owner, the local user of an embedded server, or the server itself."""

    uid: str
    name: str
    roles: dict[str, frozenset[Role]]
    """Roles by project name; `*` holds everywhere."""

    def roles_in(self, project: str) -> frozenset[Role]:
        """The roles in force in a project."""
        return self.roles.get(project, frozenset()) | self.roles.get(ALL_PROJECTS, frozenset())

    def may(self, permission: Permission, project: str) -> bool:
        """Whether any role of the actor in the project allows it."""
        return any(permission in PERMISSIONS_OF[role] for role in self.roles_in(project))


LOCAL = Actor(uid="local", name="local", roles={ALL_PROJECTS: frozenset({Role.ADMIN})})
"""The one user of an embedded server, and of a server on loopback without login."""

SYSTEM = Actor(uid="system", name="everline", roles={ALL_PROJECTS: frozenset({Role.ADMIN})})
"""The server itself, at work on jobs."""


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """The unit of isolation and access."""

    uid: str
    name: str
    description: str
    created_at: datetime


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person or a machine that may log in."""

    uid: str
    name: str
    full_name: str
    active: bool
    created_at: datetime
    roles: dict[str, list[Role]] = {}
    """Role names by project."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """An API token as it is kept: its hash stays inside, its prefix tells it from others."""

    uid: str
    user: str
    name: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """An API token at birth: the only time its secret is shown."""

    token: Token
    secret: str
