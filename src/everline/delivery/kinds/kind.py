"""What every kind of declared thing can do: say what is and what shall be, make it so, and take it away."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.canonical import canonical_json
from everline.delivery.types import FieldChange
from everline.errors import InvalidInputError
from everline.webhooks.sealing import derived_key

Spec = dict[str, Any]


class Hidden(NamedTuple):
    """A value that is compared and never shown."""

    shown: str
    value: str


class Compared(NamedTuple):
    """What shall be and what is, in the same keys; `real` is None if there is no such thing."""

    target: Spec
    real: Spec | None
    note: str = ""


@dataclass
class Scope:
    """Where things are compared and changed.

    Attributes:
        environment: values of the variables that the file names, as far as they were sent.
        path: name of the file, for reasons in the audit log.
        fingerprints: of the values that came from the environment last, by address and field.
        cache: what kinds remember within one comparison.
    """

    uow: UnitOfWork
    project: str
    environment: Mapping[str, str]
    path: str = "everline.toml"
    fingerprints: dict[str, dict[str, str]] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)

    def fingerprint(self, address: str, value: Any) -> str:
        """What tells values apart and gives none away: keyed by the server, and by what it is of."""
        key = derived_key(self.uow.settings, b"everline delivery fingerprint v1")
        return hmac.new(key, canonical_json([self.project, address, value]), "sha256").hexdigest()

    def variable(self, name: str) -> str:
        """The value of an environment variable that the file names.

        Raises:
            InvalidInputError: it was not sent.
        """
        if not self.environment.get(name):
            raise InvalidInputError(
                f"The environment variable {name} is not set, and its value is needed now.",
                hint=f"Set {name} where `everline apply` runs.",
                field=name,
            )
        return self.environment[name]


class Kind(Protocol):
    """One kind of declared thing. What is declared no longer stays, and is only forgotten, unless it is `Removable`.

    Attributes:
        section: its table in the file.
        reads, writes: what it takes to compare and to change.
        everywhere: they are needed for all projects.
    """

    section: str
    reads: Permission
    writes: Permission
    everywhere: bool

    def compare(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> Compared:
        """What shall be beside what is; `before` is what this stack declared last."""

    def put(self, scope: Scope, name: str, spec: Spec, before: Spec | None) -> None:
        """Create it or change it."""


@runtime_checkable
class Removable(Kind, Protocol):
    """A kind of thing that is taken away when it is declared no longer."""

    def remove(self, scope: Scope, name: str, before: Spec) -> None:
        """Take it away."""


@runtime_checkable
class FourEyed(Kind, Protocol):
    """A kind of thing whose changes wait for a second person."""

    def waits(self, scope: Scope, name: str) -> bool:
        """Whether a change of it was asked for, and nobody else has agreed yet."""


def differences(compared: Compared) -> list[FieldChange]:
    """The fields that are not as they shall be; of a thing that is not there those that say something."""
    target = _flat(compared.target)
    if compared.real is None:
        return [FieldChange(field=key, after=_shown(value)) for key, value in target.items() if value not in _NOTHING]
    real = _flat(compared.real)
    found = []
    for key in dict.fromkeys([*target, *(key for key in real if key.split(".")[0] in compared.target)]):
        before, after = real.get(key), target.get(key)
        if not _same(before, after):
            found.append(FieldChange(field=key, before=_shown(before), after=_shown(after)))
    return found


_NOTHING: tuple[Any, ...] = (None, "", [], {})


def plain(value: Any) -> Any:
    """A comparison's value with hidden ones by what is compared, to be digested."""
    if isinstance(value, Hidden):
        return {"hidden": value.value}
    return {key: plain(one) for key, one in value.items()} if isinstance(value, dict) else value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Hidden) and isinstance(other, Hidden):
        return one.value == other.value
    if isinstance(one, bool) is not isinstance(other, bool):
        return False
    return bool(one == other) or (one in _NOTHING and other in _NOTHING and one is not False and other is not False)


def _shown(value: Any) -> Any:
    return value.shown if isinstance(value, Hidden) else value


def _flat(value: Spec, prefix: str = "") -> Spec:
    """Nested tables as dotted keys; empty ones and lists are values."""
    found: Spec = {}
    for key, one in value.items():
        name = f"{prefix}{key}"
        if isinstance(one, dict) and one:
            found |= _flat(one, f"{name}.")
        else:
            found[name] = one
    return found
