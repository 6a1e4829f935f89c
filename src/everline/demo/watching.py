"""Monitors in the story: what is watched, and what was found."""

from __future__ import annotations

import time

from rich.markup import escape

from everline.demo.stage import ENDPOINT, PIPELINE, Stage
from everline.errors import UnavailableError
from everline.monitoring.types import Incident, Trigger

REFERENCE = "flight-delay-reference"
NEW_YORK_MIDNIGHT_S = 5 * 3600
"""Windows are New York's days: event times are UTC, and its standard time is five hours behind."""
_SHIPPED_S = 40.0


def monitors(stage: Stage) -> None:
    """Watch inputs, outputs and quality, day by day, against the days that the model learnt from."""
    api = stage.as_person("maya").monitors
    retrain = Trigger(
        pipeline=PIPELINE,
        directory=str(stage.folder / "project"),
        params={"train_to": "", "evaluate_to": "{window_end}"},
    )
    shared = {"endpoint": ENDPOINT, "reference": REFERENCE, "offset_s": NEW_YORK_MIDNIGHT_S}
    api.create("inputs", kind="drift", **shared)
    api.create("outputs", kind="prediction_drift", **shared)
    # What quality is normal is learnt from the first four weeks in service: April was an unusually bad month.
    quality = api.create("quality", kind="quality", baseline_windows=28, on_incident=retrain, **shared)
    promise = f"at most one false alarm in {quality.windows_between_false_alarms} days, on average, of each monitor"
    stage.say(f"inputs, outputs and quality are watched by the day: {promise}.")
    stage.say("an incident of quality sets the training pipeline going, unless the data are broken upstream.")
    stage.fact(
        "monitoring",
        "three monitors with a stated false-alarm rate",
        evidence=promise,
        command="everline monitors list",
    )


def look(stage: Stage) -> list[Incident]:
    """See every complete window of every monitor closed; return the incidents not told yet, oldest first.

    The control plane's worker closes windows by itself while the year is replayed; this closes what is left.
    """
    wait_shipped(stage)
    client = stage.as_person("maya")
    closed = 0
    with stage.progress() as progress:
        task = progress.add_task("closing monitored days", total=None)
        for monitor in client.monitors.list(endpoint=ENDPOINT):
            while client.monitors.run(monitor.name).more:
                progress.advance(task)
            closed += len(client.monitors.windows(monitor.name, limit=1000))
    known = set(stage.memory.notes.setdefault("incidents", []))
    opened = [found for found in client.incidents.list(endpoint=ENDPOINT) if found.uid not in known][::-1]
    stage["incidents"].extend(found.uid for found in opened)
    stage.say(f"{closed} monitored days closed so far, {len(opened)} new incidents.")
    return opened


def tell(stage: Stage, incident: Incident) -> None:
    """One incident in one sentence, with what to do."""
    stage.say(f"[bold]{incident.severity}[/bold] {escape(incident.monitor_name or '')}: {escape(incident.sentence)}")
    stage.say(f"  [dim]everline incidents show {incident.uid}[/dim]")


def wait_shipped(stage: Stage) -> None:
    """Wait until every logged prediction has reached the control plane."""
    deadline, asked = time.monotonic() + _SHIPPED_S, time.time()
    while time.monotonic() < deadline:
        replicas = stage.as_person().endpoints.replicas()
        if any(r.spool_bytes == 0 and r.at and r.at.timestamp() > asked for r in replicas):
            return
        time.sleep(0.2)
    raise UnavailableError("The data plane did not ship its prediction log in time.", hint=str(stage.home / "logs"))
