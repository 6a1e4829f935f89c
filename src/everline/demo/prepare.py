"""First chapters: people with different powers, data with an identity, a first model."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pyarrow.parquet as parquet

from everline.demo import flight_delay, flights
from everline.demo.stage import MODEL, PIPELINE, Stage

PEOPLE = {
    # maya may approve too: it is four eyes, not a missing role, that stops her from approving her own.
    "maya": ("Maya Lindqvist, data scientist", ("contributor", "approver")),
    "ravi": ("Ravi Shah, model risk", ("approver",)),
    "ines": ("Inês Duarte, auditor", ("auditor",)),
    "data-plane": ("the serving process", ("dataplane",)),
}

EVERYWHERE = frozenset({"dataplane", "auditor"})
"""A data plane serves every project and the audit log is one for all; other roles are held in one project."""


def people(stage: Stage) -> None:
    """Create users, roles and tokens; everybody later acts with their own."""
    access = stage.as_person().access
    for name, (full_name, roles) in PEOPLE.items():
        access.create_user(name, full_name=full_name)
        for role in roles:
            access.grant_role(name, role=role, project="*" if role in EVERYWHERE else None)
        stage.keep_token(name, access.create_token(name, name="demo", days=None).secret)
    stage.say("maya trains, maya and ravi may approve (never their own), ines reads the audit log; each has a token.")
    stage.fact(
        "collaboration",
        f"{len(PEOPLE)} users with different roles in one project",
        evidence="; ".join(f"{name}: {'/'.join(roles)}" for name, (_, roles) in PEOPLE.items()),
        command="everline users list",
    )


def data(stage: Stage) -> None:
    """Snapshot the year month by month, and the weather."""
    datasets = stage.as_person("maya").datasets
    rows = 0
    with tempfile.TemporaryDirectory(prefix="everline-") as folder, stage.progress() as progress:
        task = progress.add_task("dataset versions", total=len(flights.MONTHS) + 1)
        for month in flights.MONTHS:
            file = Path(folder) / f"flights-{month}.parquet"
            parquet.write_table(flights.flights_of(month), file, compression="zstd")
            version = datasets.add("flights", file, label=month)
            rows += version.rows
            progress.advance(task)
        file = Path(folder) / "weather.parquet"
        parquet.write_table(flights.weather(), file, compression="zstd")
        weather = datasets.add("weather", file, label="year-2013")
        progress.advance(task)
    stage.say(f"{rows:,} flights in {len(flights.MONTHS)} versions, {weather.rows:,} hours of weather.")
    stage.say(f"weather is {weather.digest}")
    stage.fact(
        "reproducibility",
        f"{rows:,} real flights in {len(flights.MONTHS)} immutable dataset versions",
        evidence=f"weather {weather.digest[:19]}…",
        command="everline data list",
    )


def first_model(stage: Stage) -> None:
    """Train on January to March, evaluate on April, register."""
    project = stage.folder / "project"
    project.mkdir(parents=True, exist_ok=True)
    shutil.copy(str(flight_delay.__file__), project / "flight_delay.py")
    result = stage.everline("run", PIPELINE, "--directory", str(project), person="maya")
    candidate = result["value"]
    stage.note("first_run", result["run"])
    stage.note("first_version", candidate["version"])
    shown = metrics_text(candidate["metrics"])
    stage.say(f"{MODEL} version {candidate['version']}: {shown} on April's flights")
    stage.fact(
        "automation",
        f"{len(result['steps'])} typed steps from data to {MODEL} version {candidate['version']}",
        evidence=shown,
        command=f"everline runs show {result['run']}",
    )


def metrics_text(metrics: dict[str, float]) -> str:
    """The three metrics that the story speaks of, in one line."""
    return (
        f"AUC {metrics['auc']:.4f}, log loss {metrics['log_loss']:.4f}, "
        f"calibration error {metrics['calibration_error']:.4f}"
    )
