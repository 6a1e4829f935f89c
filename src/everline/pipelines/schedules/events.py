"""Events of the audit log that set schedules going: which, for whom, and the facts that they bring.

The log is the one place where every floor says what it did, numbered without gaps in the order of the commits: who
reads on from a position misses nothing and sees nothing twice. So nobody above has to call down, and nobody below has
to know of schedules.
"""

from __future__ import annotations

from typing import Any

from everline.governance.types import AuditEvent
from everline.pipelines.schedules.types import IncidentOpened, NewVersion, Promoted, Trigger

ACTION: dict[type, str] = {
    NewVersion: "dataset.add",
    IncidentOpened: "incident.open",
    Promoted: "release.promote",
}

_FACTS: dict[type, dict[str, Any]] = {
    NewVersion: {"dataset": "flights", "version": 3, "digest": "sha256:0", "label": "2013-06"},
    IncidentOpened: {
        "incident": "0192f5c4-7d2e-7c31-9d7e-0a4b5c6d7e8f", "endpoint": "flight-delay", "monitor": "inputs",
        "model": "flight-delay", "cause": "inputs", "sentence": "…", "since": "2013-09-01",
        "window_start": "2013-09-07", "window_end": "2013-09-08",
    },
    Promoted: {
        "release": "0192f5c4-7d2e-7c31-9d7e-0a4b5c6d7e8f", "endpoint": "flight-delay", "model": "flight-delay",
        "version": 3,
    },
}  # fmt: skip


def examples(trigger: Trigger) -> dict[str, Any]:
    """The facts that an event of this kind brings, with an example of each."""
    return _FACTS.get(type(trigger), {})


def matches(trigger: Trigger, event: AuditEvent) -> bool:
    """Whether an event is one that the trigger waits for."""
    if ACTION.get(type(trigger)) != event.action:
        return False
    said = event.data
    if isinstance(trigger, NewVersion):
        return bool(said.get("dataset") == trigger.dataset)
    if isinstance(trigger, IncidentOpened):
        return (
            said.get("monitor") is not None  # an incident about a schedule sets no schedule going
            and trigger.endpoint in (None, said.get("endpoint"))
            and trigger.monitor in (None, said["monitor"])
            and (trigger.model is None or trigger.model in said.get("models", ()))
            and said.get("proposed") not in trigger.unless
        )
    if isinstance(trigger, Promoted):
        return trigger.endpoint in (None, said.get("endpoint")) and trigger.model in (None, said.get("model"))
    return False


def facts(trigger: Trigger, event: AuditEvent) -> dict[str, Any]:
    """What parameters may name of an event."""
    said, uid = event.data, event.subject.partition(":")[2]
    found = {name: said.get(name) for name in examples(trigger)}
    if isinstance(trigger, IncidentOpened):
        models = said.get("models") or [None]
        return found | {"incident": uid, "model": trigger.model or models[0]}
    if isinstance(trigger, Promoted):
        return found | {"release": uid}
    return found


def sentence(trigger: Trigger, found: dict[str, Any]) -> str:
    """An event in words: why a run was started."""
    if isinstance(trigger, NewVersion):
        return f"version {found['version']} of dataset {found['dataset']}"
    if isinstance(trigger, IncidentOpened):
        return f"incident {found['incident']}: {found['sentence']}"
    return f"release {found['release']} promoted on {found.get('endpoint')}"
