"""Other drift tools at their defaults, each in its own environment: pairs of Parquet files in, verdicts out.

A peer takes part when BENCH_PEERS names it (evidently,nannyml,whylogs,alibi-detect); its first time installs it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers import python_of

_HEAD = """
import json, os, sys, time, warnings, logging
warnings.filterwarnings("ignore"); logging.disable(logging.CRITICAL)
import pandas as pd
"""
_TAIL = """
for line in sys.stdin:
    old, new = (pd.read_parquet(path) for path in json.loads(line))
    start = time.perf_counter()
    try:
        named = judge(old, new)
        answer = {"drifted": bool(named), "named": named}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"[:200]}
    print("@" + json.dumps(answer | {"seconds": time.perf_counter() - start}), flush=True)
"""
_JUDGES = {
    "evidently": """
from evidently import Dataset, Report
from evidently.presets import DataDriftPreset
def judge(old, new):
    found = Report([DataDriftPreset()]).run(Dataset.from_pandas(new), Dataset.from_pandas(old)).dict()
    named = []
    for metric in found["metrics"]:
        config = metric["config"]
        if config["type"].endswith(":ValueDrift"):
            value, limit = float(metric["value"]), float(config["threshold"])
            if (value < limit) if "p_value" in config["method"] else (value >= limit):
                named.append((value, config["column"]))
    return [column for _, column in sorted(named)]
""",
    "nannyml": """
import nannyml
def judge(old, new):
    calculator = nannyml.UnivariateDriftCalculator(column_names=list(old.columns), chunk_size=len(new))
    rows = calculator.fit(old).calculate(new).filter(period="analysis").to_df()
    return [c for c in old.columns if any(rows[k].any() for k in rows.columns if k[0] == c and k[2] == "alert")]
""",
    "whylogs": """
import whylogs
from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores
def judge(old, new):
    views = [whylogs.log(pandas=one).view() for one in (new, old)]
    scores = calculate_drift_scores(*views, with_thresholds=True)
    return [name for name, one in scores.items() if one and one["drift_category"] == "DRIFT"]
""",
    "alibi-detect": """
import numpy as np
from alibi_detect.cd import TabularDrift
def judge(old, new):
    texts = [i for i, c in enumerate(old.columns) if not pd.api.types.is_numeric_dtype(old[c])]
    for i in texts:
        codes = {v: n for n, v in enumerate(sorted({*old.iloc[:, i].astype(str), *new.iloc[:, i].astype(str)}))}
        for one in (old, new):
            one[one.columns[i]] = one.iloc[:, i].astype(str).map(codes)
    detector = TabularDrift(old.to_numpy(float), p_val=0.05, categories_per_feature={i: None for i in texts} or None)
    found = detector.predict(new.to_numpy(float))["data"]
    return [c for c, p in zip(old.columns, found["p_val"]) if p < found["threshold"]] if found["is_drift"] else []
""",
}


class Verdict(NamedTuple):
    """What a tool said of one pair of tables; `error` where it raised."""

    drifted: bool
    named: list[str]
    seconds: float
    error: str | None = None


def present() -> list[str]:
    """The peers that take part."""
    asked = os.environ.get("BENCH_PEERS", "").split(",")
    return [peer for peer in _JUDGES if peer in asked]


def judged(peer: str, pairs: list[tuple[Path, Path]]) -> list[Verdict] | None:
    """The peer's verdicts on pairs of Parquet files, reference first; None where it cannot run here."""
    lines = "".join(json.dumps([str(old), str(new)]) + "\n" for old, new in pairs)
    try:
        command = [str(python_of(peer)), "-c", _HEAD + _JUDGES[peer] + _TAIL]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        told = (error.stderr or "").strip().splitlines()[-1:] or [str(error)]
        print(f"{peer} cannot run here: {told[0]}", file=sys.stderr)
        return None
    answers = [json.loads(line[1:]) for line in done.stdout.splitlines() if line.startswith("@")]
    return [
        Verdict(one.get("drifted", False), one.get("named", []), one["seconds"], one.get("error")) for one in answers
    ]
