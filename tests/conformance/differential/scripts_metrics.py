"""Metrics: values, times, steps, histories."""

from __future__ import annotations

from scripts_runs import KEYS
from wire import Wire


def values(wire: Wire) -> None:
    run = wire.run(wire.experiment(), run_name="r")
    for index, value in enumerate(
        (0, 1, -1, 1.5, "1.5", "1e3", "NaN", "Infinity", "-Infinity", "inf", "-inf", "+Infinity", "INFINITY",
         1e308, "1e309", "-1e309", 5e-324, 1e-400, 2**53 + 1, 10**400, -0.0, "", " 1", "1 ", "0x10", "1_000", "x",
         None, "true", [1], {"a": 1}, "١", 0.1, 1 / 3)
    ):  # fmt: skip
        wire.post("runs/log-metric", {"run_id": run, "key": f"v{index}", "value": value, "timestamp": 1})
    spoilt = wire.run(wire.experiment("spoilt"), run_name="spoilt")  # a part of what is wrong may be kept
    for wrong in ("nan", float("nan"), float("inf"), float("-inf"), True, False):
        wire.post("runs/log-metric", {"run_id": spoilt, "key": str(wrong), "value": wrong, "timestamp": 1})
    wire.get("runs/get", {"run_id": run})
    for key in ("v6", "v7", "v16"):
        wire.get("metrics/get-history", {"run_id": run, "metric_key": key})


def keys(wire: Wire) -> None:
    run = wire.run(wire.experiment(), run_name="r")
    for key in KEYS:
        wire.post("runs/log-metric", {"run_id": run, "key": key, "value": 1, "timestamp": 1})
    wire.post("runs/log-metric", {"run_id": run, "value": 1, "timestamp": 1})
    wire.get("runs/get", {"run_id": run})


def times_and_steps(wire: Wire) -> None:
    run = wire.run(wire.experiment(), run_name="r")
    spoilt = wire.run(wire.experiment("spoilt"), run_name="spoilt")  # a part of what is wrong may be kept
    good = (0, 5, "5", 5.0, -1, "-1", 2**63 - 1, -(2**63), "x", "", None, [1], 1.7e12, "5.5", "+5", "05")
    wrong = (1.5, 2**63, True, "1.0", "1e3", 1e19, " 5", 10**30)
    for target, values in ((run, good), (spoilt, wrong)):
        for index, value in enumerate(values):
            wire.post("runs/log-metric", {"run_id": target, "key": f"t{index}", "value": 1, "timestamp": value})
            step = {"run_id": target, "key": f"s{index}", "value": 1, "timestamp": 1, "step": value}
            wire.post("runs/log-metric", step)
    wire.post("runs/log-metric", {"run_id": run, "key": "nothing", "value": 1})
    wire.post("runs/log-metric", {"run_id": run, "key": "nothing"})
    wire.get("runs/get", {"run_id": run})


def newest(wire: Wire) -> None:
    run = wire.run(wire.experiment(), run_name="r")
    for value, timestamp, step in (
        (1, 10, 5),
        (2, 20, 4),
        (3, 5, 5),
        (4, 10, 5),
        (0, 10, 5),
        ("NaN", 10, 5),
        (9, 9, 5),
        (1, 1, -5),
        (7, 10, 6),
        (7, 10, 6),
        ("NaN", 11, 6),
        (-3, 11, 6),
        (-3, 11, 6),
    ):
        wire.post("runs/log-metric", {"run_id": run, "key": "m", "value": value, "timestamp": timestamp, "step": step})
        wire.get("runs/get", {"run_id": run})
    wire.get("metrics/get-history", {"run_id": run, "metric_key": "m"})


def newest_of_batches(wire: Wire) -> None:
    run = wire.run(wire.experiment(), run_name="r")
    for points in (
        [(1, 1, 1), (2, 1, 1), ("NaN", 1, 1)], [("NaN", 1, 1), (-1, 1, 1)],
        [(5, 0, 2), (4, 1, 2), ("Infinity", 1, 2)], [("NaN", 5, 2), ("NaN", 5, 2)], [(1, 1, 1), (1, 1, 1)],
    ):  # fmt: skip
        metrics = [{"key": "m", "value": value, "timestamp": at, "step": step} for value, at, step in points]
        wire.post("runs/log-batch", {"run_id": run, "metrics": metrics})
        wire.get("runs/get", {"run_id": run})
    wire.get("metrics/get-history", {"run_id": run, "metric_key": "m"})


def histories(wire: Wire) -> None:
    number = wire.experiment()
    run, other = wire.run(number, run_name="r"), wire.run(number, run_name="other")
    points = [{"key": "m", "value": index % 3, "timestamp": 100 - index, "step": index // 2} for index in range(10)]
    wire.post("runs/log-batch", {"run_id": run, "metrics": points})
    wire.post("runs/log-batch", {"run_id": other, "metrics": points[:2]})
    for query in (
        {}, {"metric_key": "m"}, {"run_id": run}, {"run_id": run, "metric_key": ""},
        {"run_id": run, "metric_key": "m"}, {"run_id": run, "metric_key": "M"},
        {"run_id": run, "metric_key": "nothing"}, {"run_uuid": run, "metric_key": "m"},
        {"run_id": "0" * 32, "metric_key": "m"}, {"run_id": "x", "metric_key": "m"},
        {"run_id": "../x", "metric_key": "m"}, {"run_id": run, "metric_key": "a;b"},
        {"run_id": run, "metric_key": "m", "max_results": 3}, {"run_id": run, "metric_key": "m", "max_results": 10},
        {"run_id": run, "metric_key": "m", "max_results": 0}, {"run_id": run, "metric_key": "m", "max_results": -1},
        {"run_id": run, "metric_key": "m", "max_results": "x"}, {"run_id": run, "metric_key": "m", "max_results": ""},
        {"run_id": run, "metric_key": "m", "max_results": "1.5"},
        {"run_id": run, "metric_key": "m", "page_token": "x"},
        {"run_id": run, "metric_key": "m", "page_token": ""},
        {"run_id": run, "metric_key": "m", "max_results": 2, "page_token": "eyJvZmZzZXQiOiA4fQ=="},
        {"run_id": run, "metric_key": "m", "max_results": 2, "page_token": "eyJvZmZzZXQiOiA4MH0="},
        {"run_id": run, "metric_key": "m", "page_token": "eyJvZmZzZXQiOiA4fQ=="},
        {"run_id": run, "metric_key": "m", "max_results": 1_000_000},
        {"run_id": run, "metric_key": "m", "max_results": 2**31},
    ):  # fmt: skip
        wire.get("metrics/get-history", query)
    token: str | None = ""
    for _page in range(4):
        page = wire.get(
            "metrics/get-history",
            {"run_id": run, "metric_key": "m", "max_results": 4} | ({"page_token": token} if token else {}),
        )
        token = page.get("next_page_token", "")
    for query in (
        [("run_id", run), ("metric_key", "m")], [("run_id", run), ("run_id", run), ("metric_key", "m")],
        [("run_id", "0" * 32), ("metric_key", "m")], [("run_id", run), ("metric_key", "")], [("run_id", run)],
        [("metric_key", "m")], [("run_id", run), ("metric_key", "m"), ("max_results", "3")],
        [("run_id", run), ("metric_key", "m"), ("max_results", "0")],
        [("run_id", run), ("metric_key", "nothing")], [("run_id", "x")] * 101 + [("metric_key", "m")],
    ):  # fmt: skip
        wire.get("/ajax-api/2.0/mlflow/metrics/get-history-bulk", query)
    base = "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"
    for query in (
        [("run_ids", run), ("metric_key", "m")], [("run_ids", run), ("run_ids", other), ("metric_key", "m")],
        [("run_ids", run), ("metric_key", "m"), ("max_results", "3")],
        [("run_ids", run), ("metric_key", "m"), ("max_results", "1")],
        [("run_ids", run), ("metric_key", "m"), ("max_results", "2")],
        [("run_ids", run), ("metric_key", "m"), ("max_results", "4")],
        [("run_ids", run), ("metric_key", "m"), ("max_results", "9")],
        [("run_ids", run), ("metric_key", "m"), ("max_results", "0")],
        [("run_ids", run), ("metric_key", "m"), ("max_results", "2501")],
        [("run_ids", run), ("metric_key", "m"), ("max_results", "x")],
        [("run_ids", run), ("metric_key", "m"), ("start_step", "1"), ("end_step", "3")],
        [("run_ids", run), ("metric_key", "m"), ("start_step", "1")],
        [("run_ids", run), ("metric_key", "m"), ("end_step", "1")],
        [("run_ids", run), ("metric_key", "m"), ("start_step", "3"), ("end_step", "1")],
        [("run_ids", run), ("metric_key", "m"), ("start_step", "0"), ("end_step", "4"), ("max_results", "2")],
        [("metric_key", "m")], [("run_ids", run)],
        [("run_ids", "0" * 32), ("metric_key", "m")], [("run_ids", "x")] * 101 + [("metric_key", "m")],
        [("run_ids", run), ("metric_key", "nothing")],
    ):  # fmt: skip
        wire.get(base, query)
