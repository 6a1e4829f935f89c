"""From an incident to a better model: retrain, compare on the same rows, canary, promote, roll back."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from everline.clock import parse_rfc3339
from everline.demo import flight_delay, flights
from everline.demo.releasing import show_verdicts, wait_serving
from everline.demo.stage import ENDPOINT, MODEL, Stage
from everline.errors import ConflictError
from everline.models.package import fetch_package
from everline.monitoring.types import Incident

NEW_YORK = timedelta(hours=5)
"""How far New York's standard time is behind UTC."""


def retrain(stage: Stage, incident: Incident) -> int:
    """Let a worker run what the incident's trigger queued; return the new version."""
    done = stage.everline("worker", "--once", person="maya")
    candidates = [job["candidate"] for job in done if job["status"] == "succeeded" and job.get("candidate")]
    if not candidates:
        raise ConflictError(f"The incident {incident.uid} set no pipeline going: {done}.")
    version = int(candidates[-1]["version"])
    metrics = candidates[-1]["metrics"]
    stage.say(f"the incident queued a run, a worker trained {MODEL} version {version}: AUC {metrics['auc']:.4f}")
    stage.fact(
        "automation",
        f"an incident set the training pipeline going: {MODEL} version {version}",
        evidence=f"incident {incident.uid}, run {done[-1]['run']}",
        command=f"everline incidents show {incident.uid}",
    )
    return version


def compare(stage: Stage, version: int, *, until: datetime) -> None:
    """Champion and candidate on the same rows: the days since the candidate's data ended, seen by neither."""
    maya = stage.as_person("maya")
    run = maya.runs.get(maya.models.get(MODEL, version).run)
    start = parse_rfc3339(run.params["evaluate_to"]) + NEW_YORK
    columns: dict[str, list[Any]] = {name: [] for name in flight_delay.FEATURES}
    late: list[bool] = []
    days: list[str] = []
    for batch in flights.batches(start, until):
        kept = [row for row, outcome in enumerate(batch.late) if outcome is not None]
        for name, values in batch.columns.items():
            columns[name] += [values[row] for row in kept]
        late += [bool(batch.late[row]) for row in kept]
        days += [str((batch.at - NEW_YORK).date())] * len(kept)
    champion, challenger = (_probabilities(stage, v, columns) for v in (stage["champion_version"], version))
    outcome = np.asarray(late, dtype=float)
    for metric in ("auc", "log_loss"):
        found = maya.releases.compare(
            ENDPOINT,
            MODEL,
            version,
            outcome=outcome,
            champion=champion,
            challenger=challenger,
            metric=metric,
            blocks=days,
        )
        stage.say(
            f"{metric} on the same {found.n:,} flights: champion {found.champion_value:.4f}, "
            f"candidate {found.challenger_value:.4f}, difference {found.difference:+.4f} "
            f"[{found.low:+.4f}, {found.high:+.4f}]: {found.verdict}"
        )
    stage.fact(
        "reproducibility",
        f"version {version} against version {stage['champion_version']} on the same {found.n:,} flights",
        evidence=f"log loss {found.difference:+.4f}, 95 % interval [{found.low:+.4f}, {found.high:+.4f}] by days",
        command=f"everline models show {MODEL} {version}",
    )


def canary(stage: Stage, version: int) -> str:
    """Release a version as a canary of ten per cent."""
    maya, ravi = stage.as_person("maya"), stage.as_person("ravi")
    release = maya.releases.create(ENDPOINT, MODEL, version, canary_share=0.1)
    stage.say(f"release {release.uid} of version {version}: {release.state.value}")
    show_verdicts(stage, release)
    ravi.releases.approve(release.uid, meaning="validator", reason="Compared on days that neither has seen.")
    release = maya.releases.canary(release.uid)
    wait_serving(stage, release.revision)
    stage.say(f"ravi approved; version {version} answers 10 % of the requests.")
    return str(release.uid)


def promote(stage: Stage, uid: str) -> None:
    """Look at what the canary did beside its champion, then promote it."""
    maya = stage.as_person("maya")
    watched = maya.releases.watch(uid)
    stage.say(watched.text)
    release = maya.releases.promote(uid)
    wait_serving(stage, release.revision)
    stage.say(f"promoted: version {release.version} answers everything.")
    stage.note("champion_version", release.version)
    stage.note("second_release", uid)
    stage.fact(
        "deployment",
        f"version {release.version} promoted after a watched canary",
        evidence=f"canary {watched.canary.n:,} predictions beside {watched.champion.n:,} of the champion",
        command=f"everline release show {uid}",
    )


def roll_back(stage: Stage) -> None:
    """Take the promoted release back on purpose: an exercise, and it says so."""
    release = stage.as_person("ravi").releases.rollback(
        stage["second_release"], reason="Exercise: can we go back within seconds?"
    )
    wait_serving(stage, stage["first_revision"])
    stage.say(
        f"rolled back: release {release.uid} is {release.state.value}; version {stage['first_version']} answers again."
    )
    stage.fact(
        "deployment",
        f"a deliberate roll-back to version {stage['first_version']}",
        evidence="its reason and who ordered it are in the audit log",
        command=f"everline release show {release.uid}",
    )


def _probabilities(stage: Stage, version: int, columns: dict[str, list[Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    maya = stage.as_person("maya")
    digest = maya.models.get(MODEL, version).package
    folder: Path = stage.folder / "packages" / digest.removeprefix("sha256:")
    package = fetch_package(digest, download=maya.blobs.fetch, out_dir=folder)
    return np.asarray(package.load().predict(columns)["probability"], dtype=np.float64)
