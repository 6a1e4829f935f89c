"""From how many rows on a framework's own predictor is faster than the compiled model: microseconds per call.

python benchmarks/serving/crossover.py
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import xgboost
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from everline.models.package import build_package
from everline.models.signature import check_columns
from everline.models.signature_inference import infer_signature

ROWS = (1, 32, 128, 256, 512, 1000, 3000)
ROUNDS = 9


def models(table: pd.DataFrame, late: np.ndarray) -> Iterator[tuple[str, str, Any]]:
    """Each kind of model, fitted."""
    filled = table.fillna(0.0)
    yield "histogram boosting, 100 trees", "sklearn", HistGradientBoostingClassifier(max_iter=100).fit(table, late)
    yield "forest, 100 trees", "sklearn", RandomForestClassifier(100, max_depth=12).fit(filled, late)
    yield "logistic", "sklearn", LogisticRegression().fit(filled, late)
    yield "XGBoost, 100 trees", "xgboost", xgboost.XGBClassifier(n_estimators=100, max_depth=6).fit(table, late)
    yield "LightGBM, 100 trees", "lightgbm", lightgbm.LGBMClassifier(n_estimators=100, verbose=-1).fit(table, late)


def main() -> None:
    """Print one line for each model and runtime."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(5000, 14)), columns=[f"x{place}" for place in range(14)])
    table.loc[::9, "x1"] = np.nan
    late = (table["x0"] + table["x1"].fillna(-1) * table["x2"] + random.normal(0, 0.5, len(table)) > 0).to_numpy()
    print(f"{'model':32}{'runtime':>8}" + "".join(f"{rows:>9}" for rows in ROWS))
    for name, flavor, model in models(table, late):
        seen = table if flavor != "sklearn" or "histogram" in name else table.fillna(0.0)
        with tempfile.TemporaryDirectory() as folder:
            package = build_package(model, signature=infer_signature(seen), out_dir=Path(folder) / "p", flavor=flavor)
            predictor = package.load()
            for runtime in predictor.runtimes:
                taken = []
                for rows in ROWS:
                    part = {column: seen[column].iloc[:rows].to_numpy() for column in seen}
                    call = check_columns(predictor.signature, part)
                    taken.append(min(_timed(predictor.predict_checked, call, runtime) for _ in range(ROUNDS)))
                print(f"{name:32}{runtime:>8}" + "".join(f"{one:>9.0f}" for one in taken))


def _timed(ask: Any, *given: Any) -> float:
    started = time.perf_counter()
    ask(*given)
    return (time.perf_counter() - started) * 1e6


if __name__ == "__main__":
    main()
