"""What `everline.toml` may say: one struct for each table, whose fields are the table's keys."""

from __future__ import annotations

from typing import Any

import msgspec

from everline.access.types import Role
from everline.monitoring.types import CreateMonitor, MonitorKind, Reference, Trigger
from everline.pipelines.schedules.types import ScheduleSpec
from everline.releases.types import Plan
from everline.serving.types import DurabilitySpec, EndpointAccess, Guard, LogSpec

DEFAULT_STACK = "default"


class DatasetTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[datasets.NAME]`.

    Attributes:
        description, owner: kept as the dataset's tags of those names.
        tags: further tags.
        contract: path of a contract's TOML file, or the contract itself; `owner` and `description` are the
            dataset's unless it has its own.
    """

    description: str | None = None
    owner: str | None = None
    tags: dict[str, str] = {}
    contract: str | dict[str, Any] | None = None


class PipelineTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[pipelines.NAME]`.

    Attributes:
        pipeline: address, as `module:pipeline`.
        directory: folder in which a worker finds the module.
        params: parameters by name.
    """

    pipeline: str
    directory: str = "."
    params: dict[str, Any] = {}
    description: str = ""


class EndpointTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[endpoints.NAME]`.

    Attributes:
        guard: what becomes of a row that the signature does not allow: `reject` or `flag`.
        rollout: the plan of releases that do not bring their own.
        access: `open`, or `key`: only who has an API key may ask.
        log: `full`, or the share of the requests that are logged.
        durability: `every`, or for how many seconds logged rows may be in memory only.
    """

    guard: Guard = Guard.REJECT
    rollout: Plan | None = None
    access: EndpointAccess = EndpointAccess.OPEN
    log: LogSpec = "full"
    durability: DurabilitySpec = "every"


class MonitorTable(CreateMonitor, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[monitors.NAME]`: the fields of a monitor.

    Attributes:
        on_incident: name of a pipeline of this file, or a trigger with an address of its own.
    """

    name: str = ""
    endpoint: str
    kind: MonitorKind = MonitorKind.DRIFT
    reference: Reference
    on_incident: str | Trigger | None = None  # type: ignore[assignment]


class ScheduleTable(ScheduleSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[schedules.NAME]`: the fields of a schedule.

    Attributes:
        pipeline: name of a pipeline of this file, whose directory and parameters hold where the schedule says
            nothing else; or an address, `module:pipeline`.
    """

    name: str = ""


class PolicyTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[policies.NAME]`: exactly one of `file` and `source`.

    Attributes:
        file: path of the policy's TOML document.
        source: the document itself.
        active: whether it is in force; taking it out of force asks for a reason.
    """

    file: str | None = None
    source: str | None = None
    active: bool = True
    reason: str = ""


class WebhookTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[webhooks.NAME]`: exactly one of `url` and `url_env`.

    Attributes:
        url: the address, if nothing in it is secret.
        url_env: environment variable that holds the address.
        secret_env: environment variable that holds the secret which signs.
        active: whether it is told anything.
    """

    url: str | None = None
    url_env: str | None = None
    events: list[str]
    description: str = ""
    secret_env: str | None = None
    active: bool = True


class TemplateTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[templates]]`: tables as at the top, once for each row; exactly one of `rows` and `table`.

    Attributes:
        rows: parameters by name, for each row.
        table: path of a CSV file whose header names the parameters.
    """

    name: str
    rows: list[dict[str, Any]] | None = None
    table: str | None = None
    datasets: dict[str, Any] = {}
    pipelines: dict[str, Any] = {}
    endpoints: dict[str, Any] = {}
    monitors: dict[str, Any] = {}
    schedules: dict[str, Any] = {}
    policies: dict[str, Any] = {}
    webhooks: dict[str, Any] = {}


TABLES: dict[str, Any] = {
    "datasets": DatasetTable,
    "pipelines": PipelineTable,
    "policies": PolicyTable,
    "endpoints": EndpointTable,
    "webhooks": WebhookTable,
    "monitors": MonitorTable,
    "schedules": ScheduleTable,
    "roles": list[Role],
}
"""The file's tables of things by name, in the order in which they are made; they are removed the other way round."""

TOP_KEYS = ("stack", *TABLES, "templates")


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the file declares.

    Attributes:
        kind: its table, such as `monitors`.
        spec: what is wanted of it, as plain values; references to files are resolved, secrets are only named.
        line: where it stands in the file; a thing of a template stands where the template says it.
        origin: the template and row that it was made from, or nothing.
    """

    kind: str
    name: str
    spec: dict[str, Any]
    line: int | None = None
    origin: str = ""

    @property
    def address(self) -> str:
        """Its table's name in the file."""
        return f"{self.kind}.{self.name}"


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file, read, with templates expanded."""

    stack: str
    things: list[Declared]
    variables: list[str]
    """Environment variables that hold what must not stand in the file."""
