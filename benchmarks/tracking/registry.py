"""The model registry: versions created one after the other."""

from __future__ import annotations

import functools
import time

from benchmarks.tracking import stage
from benchmarks.tracking.clients import client_of, one, run_of
from benchmarks.tracking.table import SECONDS, Target, head, row


def main() -> None:
    head()
    row(
        "create model versions, 1 client",
        everline=lambda: one(create_versions, stage.everline(), seconds=SECONDS),
        mlflow=lambda: one(create_versions, stage.mlflow(), seconds=SECONDS),
        unit="versions/s",
        target=Target(times=20),
    )


def create_versions(url: str, ends: float) -> int:
    """Versions of one model, each from the same run's artifacts."""
    client, done = client_of(url), 0
    name, source = _model(url)
    while time.time() < ends:
        client.create_model_version(name, source, run_id=run_of(url))
        done += 1
    return done


@functools.cache
def _model(url: str) -> tuple[str, str]:
    """The model's name, and a source that has something to be registered."""
    client, run = client_of(url), run_of(url)
    client.log_text(run, "flavors: {}\n", "model/MLmodel")
    client.create_registered_model("bench")
    return "bench", f"{client.get_run(run).info.artifact_uri}/model"
