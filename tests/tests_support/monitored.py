"""A small world to monitor: a reference by day, a real package, and days of logged predictions with outcomes."""

from __future__ import annotations

import functools
import io
import tempfile
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.ensemble import HistGradientBoostingClassifier

from everline.access.unit_of_work import UnitOfWork
from everline.datasets import service as datasets
from everline.datasets.inspection import inspect
from everline.datasets.types import DatasetFile
from everline.models.package import Predictor, build_package, open_package, store_package
from everline.models.signature_inference import infer_signature
from everline.serving import feedback, predictions
from everline.serving import service as serving
from everline.serving.types import Outcome
from tests_support.segments import segment

PROJECT, ENDPOINT = "default", "flight-delay"
FIRST = date(2013, 4, 1)
ROUTES = np.array([229.0, 404.0, 569.0, 733.0, 944.0, 1076.0, 1389.0, 1598.0, 2153.0, 2475.0])
FEATURES = ("distance", "wind", "gust")
ROWS = 120


def day_of(rng: np.random.Generator, rows: int = ROWS) -> dict[str, np.ndarray]:
    """One day's flights: wind is common to the day, long flights are late more often, gusts are often missing."""
    distance = rng.choice(ROUTES, rows)
    wind = 10 + 3 * rng.normal() + rng.normal(size=rows)
    gust = np.where(rng.random(rows) < 0.3, np.nan, wind + rng.gamma(2, 2, rows))
    chance = 1 / (1 + np.exp(-((distance - 1000) / 600 + (wind - 10) / 6)))
    return {"distance": distance, "wind": wind, "gust": gust, "late": (rng.random(rows) < chance).astype(float)}


@functools.cache
def package() -> tuple[Path, str]:
    """A model of lateness as a package on disk, built once per process."""
    rng = np.random.default_rng(7)
    days = [day_of(rng, 400) for _ in range(10)]
    frame = pd.DataFrame({name: np.concatenate([day[name] for day in days]) for name in ("distance", "wind")})
    trees = HistGradientBoostingClassifier(max_iter=30, early_stopping=False, random_state=7)
    model = trees.fit(frame, np.concatenate([day["late"] for day in days]) > 0.5)
    folder = Path(tempfile.mkdtemp(prefix="everline-test-")) / "package"
    return folder, build_package(model, signature=infer_signature(frame), out_dir=folder).digest


@functools.cache
def predictor() -> Predictor:
    """The same package, loaded."""
    return open_package(package()[0]).load()


def add_dataset(uow: UnitOfWork, name: str, *, days: int = 40, seed: int = 1) -> None:
    """A dataset version of some days, with the columns day, distance, wind, gust and late."""
    rng = np.random.default_rng(seed)
    tables = []
    for number in range(days):
        values = day_of(rng)
        day = [FIRST - timedelta(days=days - number)] * ROWS
        tables.append(
            pa.table({"day": day} | {key: pa.array(value, from_pandas=True) for key, value in values.items()})
        )
    content = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), content)
    digest = uow.blobs.put_bytes(content.getvalue())
    file = DatasetFile(path="days.parquet", digest=digest, bytes=len(content.getvalue()))
    datasets.add_version(uow, PROJECT, name, found=inspect(uow.blobs, [file]))


def world(uow: UnitOfWork) -> str:
    """Reference, endpoint and stored package; return the package's digest."""
    folder, digest = package()
    store_package(open_package(folder), put_bytes=uow.blobs.put_bytes, put_file=uow.blobs.put_file)
    add_dataset(uow, "past")
    serving.create_endpoint(uow, ENDPOINT, project=PROJECT)
    return digest


def serve_day(
    uow: UnitOfWork,
    number: int,
    *,
    change: Mapping[str, Any] | None = None,
    late: Any = None,
    outcomes: bool = True,
    rows: int = ROWS,
) -> list[str]:
    """Log one day's predictions (day `number` after FIRST), with outcomes.

    Args:
        change: inputs to replace, each a function of the true column.
        late: outcomes to replace, a function of the true ones.
    """
    digest = package()[1]
    true = day_of(np.random.default_rng(1_000 + number), rows)
    sent = {name: (change or {}).get(name, lambda column: column)(true[name]) for name in FEATURES}
    answers = predictor().predict({name: np.asarray(sent[name], dtype=float) for name in ("distance", "wind")})
    start = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC) + timedelta(days=number)
    lines = [
        {
            "inputs": {name: None if np.isnan(sent[name][n]) else float(sent[name][n]) for name in FEATURES},
            "outputs": {"probability": float(answers["probability"][n]), "label": bool(answers["label"][n])},
            "event_time": start + timedelta(minutes=(n * 1439) // rows),
            "package": digest,
        }
        for n in range(rows)
    ]
    data, ids = segment(lines, at=uow.clock.now(), endpoint=ENDPOINT)
    predictions.add_segment(uow, data, project=PROJECT, endpoint=ENDPOINT)
    if outcomes:
        came = true["late"] if late is None else late(true["late"])
        items = [Outcome(prediction=uid, outcome=bool(value)) for uid, value in zip(ids, came, strict=True)]
        feedback.log_feedback(uow, items, project=PROJECT, endpoint=ENDPOINT)
    return ids


def start_of(number: int) -> datetime:
    """Midnight UTC of day `number`."""
    return datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC) + timedelta(days=number)
