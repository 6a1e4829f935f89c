"""Replay of 10,000 logged predictions, beside scoring the same rows in one batch."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.timing import paired, row
from everline.config import Settings
from everline.models.package import Package, build_package, fetch_package
from everline.models.signature_inference import infer_signature
from everline.sdk.client import Client
from everline.server.application import Application

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from tests_support.live import Live

ROWS = int(os.environ.get("BENCH_REPLAYS", "10000"))
RUNS = 5


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="everline-bench-") as name:
        home = Path(name)
        for features in (2, 20):
            _compare(home / f"home-{features}", features)


def _compare(home: Path, features: int) -> None:
    package = _package(home.with_name(f"package-{features}"), features)
    application = Application(Settings(home=home))
    live = Live(application.begin, package)
    rows = [{name: float(value) for name, value in one.items()} for one in _table(ROWS, features).to_dict("records")]
    for start in range(0, ROWS, 2_000):
        live.log_rows(rows[start : start + 2_000])
    application.close()
    file = home.with_name(f"rows-{features}.parquet")
    _table(ROWS, features).to_parquet(file)
    with Client(home=home) as client:

        def replay() -> None:
            batch = client.reproduction.replay_many("flight-delay", sample=ROWS)
            assert (batch.n, batch.bit_equal) == (ROWS, ROWS), batch.reason

        def score() -> None:
            _score(client, package.digest, home.with_name(f"fetched-{features}"), file)

        print(f"\n{ROWS:,} rows, {features} features\n")
        print("| what | replay | batch scoring | speed of replay / of scoring |\n| --- | --- | --- | --- |")
        print(
            row(
                "package fetched, loaded, asked once; replay also reads the log and compares bits",
                *paired(replay, score, runs=RUNS),
            )
        )


def _score(client: Client, digest: str, folder: Path, file: Path) -> None:
    """What a batch job does: fetch and load the package, read a Parquet file, ask."""
    package = fetch_package(digest, download=client.blobs.fetch, out_dir=folder)
    predictor = package.load()
    table = pq.read_table(file)
    predictor.predict({name: table[name].to_numpy() for name in table.column_names})


def _table(rows: int, features: int) -> pd.DataFrame:
    random = np.random.default_rng(3)
    return pd.DataFrame({f"x{n}": random.normal(0, 1, rows) for n in range(features)})


def _package(folder: Path, features: int) -> Package:
    table = _table(20_000, features)
    late = (table.sum(axis=1) + np.random.default_rng(4).normal(0, 1, len(table)) > 0).to_numpy()
    model = HistGradientBoostingClassifier(max_iter=100, random_state=0).fit(table, late)
    return build_package(model, signature=infer_signature(table), out_dir=folder)
