"""Runs: creation, update, deletion, tags, parameters."""

from __future__ import annotations

from wire import Wire

KEYS = (
    "plain", "a/b", "a b", "a.b", "a-b", "a:b", "a_b", "ü", "漢字", "🚀", "a;b", "a'b", 'a"b', "a`b", "a%b", "a,b",
    "a\nb", "a\n", "a\tb", "a\\b", "", " ", ".", "..", "./a", "../a", "/a", "a/", "a//b", "a/./b",
    "a/../b", "..a", "k" * 250, "k" * 251, "ü" * 250, None, 5, 1.5, True, ["a"], {"a": 1}, "٣", "a\u00a0b", "a+b",
    "a@b", "a(b)", "a[b]", "#a", "$a",
)  # fmt: skip
TEXTS = (
    "x",
    "",
    " ",
    None,
    5,
    1.5,
    True,
    ["a"],
    {"a": 1},
    "ü 漢字 🚀",
    "a\nb",
    "\t",
    "null",
    "'; DROP TABLE run; --",
    "NaN",
)


def creation(wire: Wire) -> None:
    number = wire.experiment()
    for fields in (
        {}, {"run_name": "named"}, {"run_name": ""}, {"run_name": None}, {"run_name": "ü 漢字 🚀"}, {"user_id": "maya"},
        {"user_id": ""}, {"user_id": None}, {"start_time": 0}, {"start_time": "5"},
        {"start_time": 1.7e12}, {"start_time": -1}, {"start_time": 2**63 - 1}, {"start_time": None}, {"tags": []},
        {"tags": None}, {"tags": [{"key": "a", "value": "b"}]},
        {"tags": [{"key": "mlflow.runName", "value": "tagged"}]},
        {"run_name": "same", "tags": [{"key": "mlflow.runName", "value": "same"}]},
        {"tags": [{"key": "mlflow.parentRunId", "value": "0" * 32}]},
        {"tags": [{"key": "mlflow.user", "value": "vera"}]}, {"tags": [{"key": "a"}]},
        {"tags": [{"key": "a", "value": ""}]},
        {"unknown": 1}, {"status": "FINISHED"}, {"end_time": 5}, {"source_name": "x"},
        {"run_name": "x" * 250}, {"userId": "camel"},
    ):  # fmt: skip
        made = wire.post("runs/create", {"experiment_id": number, "start_time": 1, **fields})
        wire.get("runs/get", {"run_id": wire.know_run(made)})
    for fields in (
        {"start_time": "x"}, {"start_time": 1.5}, {"start_time": 2**63}, {"start_time": [1]}, {"run_name": 5},
        {"run_name": ["a"]}, {"user_id": 5}, {"tags": "a"}, {"tags": {"a": "b"}}, {"tags": ["a"]},
        {"run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]}, {"tags": [{"key": "a", "value": 5}]},
        {"experiment_id": 5}, {"experiment_id": [1]},
    ):  # fmt: skip
        wire.post("runs/create", {"experiment_id": number, **fields})
    wire.know_run(wire.post("runs/create", {"start_time": 1}))
    wire.know_run(wire.post("runs/create", {"experiment_id": "", "start_time": 1, "run_name": "default"}))


def creation_tags(wire: Wire) -> None:
    number = wire.experiment()
    for tags in (
        [{"key": "mlflow.runName", "value": ""}], [{"key": "", "value": "x"}], [{"value": "x"}],
        [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}], [{"key": "a/../b", "value": "x"}],
        [{"key": "k" * 251, "value": "x"}], [{"key": "v", "value": "x" * 8001}],
        [{"key": f"t{index}", "value": "x"} for index in range(150)],
    ):  # fmt: skip
        made = wire.post("runs/create", {"experiment_id": number, "start_time": 1, "run_name": "r", "tags": tags})
        wire.know_run(made)


def identifiers(wire: Wire) -> None:
    for uid in ("0" * 32, "x", "", "../../x", "a" * 256, "a" * 257, "ü", "a b", "0" * 31 + "'"):
        wire.get("runs/get", {"run_id": uid})
        for path, rest in (
            ("runs/update", {"status": "FINISHED"}), ("runs/delete", {}), ("runs/restore", {}),
            ("runs/log-metric", {"key": "a", "value": 1, "timestamp": 1}),
            ("runs/log-parameter", {"key": "a", "value": "1"}),
            ("runs/set-tag", {"key": "a", "value": "1"}), ("runs/delete-tag", {"key": "a"}), ("runs/log-batch", {}),
            ("runs/log-inputs", {}),
        ):  # fmt: skip
            wire.post(path, {"run_id": uid, **rest})
    wire.get("runs/get")
    wire.get("runs/get", {"run_uuid": "0" * 32})
    wire.get("runs/get", {"runId": "0" * 32})
    for path in (
        "update",
        "delete",
        "restore",
        "log-metric",
        "log-parameter",
        "set-tag",
        "delete-tag",
        "log-batch",
        "log-inputs",
    ):
        wire.post(f"runs/{path}", {})
        wire.post(f"runs/{path}")
        wire.post(f"runs/{path}", {"run_id": None})
        wire.post(f"runs/{path}", {"run_id": 5})
        wire.post(f"runs/{path}", {"run_uuid": "0" * 32})


def update(wire: Wire) -> None:
    run = wire.run(wire.experiment(), run_name="first")
    for fields in (
        {}, {"status": "FINISHED"}, {"status": "RUNNING"}, {"status": 3}, {"status": "3"},
        {"status": "FAILED", "end_time": 5}, {"status": "KILLED", "end_time": "7"}, {"status": "SCHEDULED"},
        {"end_time": 0},
        {"end_time": None}, {"end_time": -1}, {"end_time": 2**63 - 1}, {"end_time": 1.0}, {"end_time": 3},
        {"run_name": "second"}, {"run_name": ""}, {"run_name": None}, {"run_name": "ü 🚀"}, {"run_name": "x" * 250},
    ):  # fmt: skip
        wire.post("runs/update", {"run_id": run, **fields})
    spoilt = wire.run(wire.experiment("spoilt"), run_name="spoilt")  # a part of what is wrong may be kept
    for fields in (
        {"status": "DONE"}, {"status": "finished"}, {"status": 0}, {"status": 9}, {"status": True},
        {"status": ["FINISHED"]}, {"status": ""}, {"end_time": "x"}, {"end_time": 1.5}, {"end_time": 2**63},
        {"run_name": 5}, {"end_time": ""},
    ):  # fmt: skip
        wire.post("runs/update", {"run_id": spoilt, **fields})
    wire.get("runs/get", {"run_id": run})
    wire.post("runs/update", {"run_uuid": run, "status": "FINISHED"})
    wire.post("runs/set-tag", {"run_id": run, "key": "mlflow.runName", "value": "by tag"})
    wire.get("runs/get", {"run_id": run})
    wire.post("runs/set-tag", {"run_id": run, "key": "mlflow.runName", "value": ""})
    wire.get("runs/get", {"run_id": run})
    wire.post("runs/delete-tag", {"run_id": run, "key": "mlflow.runName"})
    wire.get("runs/get", {"run_id": run})
    wire.post("runs/log-batch", {"run_id": run, "tags": [{"key": "mlflow.runName", "value": "by batch"}]})
    wire.get("runs/get", {"run_id": run})


def life(wire: Wire) -> None:
    run = wire.run(wire.experiment(), run_name="r", tags=[{"key": "t", "value": "1"}])
    wire.post("runs/restore", {"run_id": run})
    wire.post("runs/delete", {"run_id": run})
    wire.post("runs/delete", {"run_id": run})
    wire.get("runs/get", {"run_id": run})
    for path, rest in (
        ("runs/update", {"status": "FINISHED"}), ("runs/log-metric", {"key": "a", "value": 1, "timestamp": 1}),
        ("runs/log-parameter", {"key": "a", "value": "1"}), ("runs/set-tag", {"key": "a", "value": "1"}),
        ("runs/delete-tag", {"key": "t"}), ("runs/log-batch", {}),
        ("runs/log-batch", {"params": [{"key": "a", "value": "1"}]}), ("runs/log-inputs", {}),
    ):  # fmt: skip
        wire.post(path, {"run_id": run, **rest})
    wire.get("metrics/get-history", {"run_id": run, "metric_key": "a"})
    wire.get("artifacts/list", {"run_id": run})
    wire.post("runs/restore", {"run_id": run})
    wire.get("runs/get", {"run_id": run})


def params(wire: Wire) -> None:
    run = wire.run(wire.experiment(), run_name="r")
    for index, key in enumerate(KEYS):
        wire.post("runs/log-parameter", {"run_id": run, "key": key, "value": str(index)})
    for index, value in enumerate(TEXTS):
        wire.post("runs/log-parameter", {"run_id": run, "key": f"text{index}", "value": value})
    wire.post("runs/log-parameter", {"run_id": run, "key": "absent"})
    wire.post("runs/log-parameter", {"run_id": run, "value": "x"})
    for length in (6_000, 6_001, 100_000):
        wire.post("runs/log-parameter", {"run_id": run, "key": f"long{length}", "value": "x" * length})
    wire.post("runs/log-parameter", {"run_id": run, "key": "long6001", "value": "x" * 6_000})
    for value in ("1", "1", "2", "1.0", ""):
        wire.post("runs/log-parameter", {"run_id": run, "key": "twice", "value": value})
    wire.post("runs/log-parameter", {"run_uuid": run, "key": "byuuid", "value": "x"})
    wire.get("runs/get", {"run_id": run})


def tags(wire: Wire) -> None:
    run = wire.run(wire.experiment(), run_name="r")
    for index, key in enumerate(KEYS):
        wire.post("runs/set-tag", {"run_id": run, "key": key, "value": str(index)})
    for index, value in enumerate(TEXTS):
        wire.post("runs/set-tag", {"run_id": run, "key": f"text{index}", "value": value})
    wire.post("runs/set-tag", {"run_id": run, "key": "absent"})
    wire.post("runs/set-tag", {"run_id": run, "value": "x"})
    for length in (8_000, 8_001):
        wire.post("runs/set-tag", {"run_id": run, "key": f"long{length}", "value": "x" * length})
    for value in ("1", "1", "2", ""):
        wire.post("runs/set-tag", {"run_id": run, "key": "twice", "value": value})
    wire.get("runs/get", {"run_id": run})
    for key in ("twice", "twice", "nothing", "", None, "a/../b", "k" * 251):
        wire.post("runs/delete-tag", {"run_id": run, "key": key})
    wire.get("runs/get", {"run_id": run})


def batches(wire: Wire) -> None:
    run = wire.run(wire.experiment(), run_name="r")
    point = {"key": "m", "value": 1.0, "timestamp": 1, "step": 1}
    for fields in (
        {}, {"metrics": [], "params": [], "tags": []}, {"metrics": None}, {"metrics": [point]},
        {"metrics": [point, point]}, {"metrics": [{**point, "step": None}]},
        {"metrics": [{**point, "value": "NaN", "key": "nan"}]},
        {"metrics": [{**point, "value": "Infinity", "key": "inf"}, {**point, "value": "-Infinity", "key": "-inf"}]},
        {"params": [{"key": "p", "value": "1"}]}, {"params": [{"key": "p", "value": "1"}]},
        {"params": [{"key": "p", "value": "2"}], "metrics": [{**point, "key": "never"}],
         "tags": [{"key": "never", "value": "x"}]}, {"params": [{"key": "q"}, {"key": "p", "value": "1"}]},
        {"params": [{"key": "r", "value": "1"}, {"key": "r", "value": "1"}]},
        {"params": [{"key": "r", "value": "1"}, {"key": "r", "value": "2"}]},
        {"params": [{"key": "p", "value": "3"}, {"key": "text", "value": "1"}]},
        {"tags": [{"key": "t", "value": "1"}, {"key": "t", "value": "2"}]}, {"tags": [{"key": "t"}]},
        {"tags": [{"value": "x"}]},
        {"params": [{"value": "x"}]}, {"params": [{"key": "", "value": "x"}]},
        {"params": [{"key": None, "value": "x"}]}, {"metrics": [{"value": 1, "timestamp": 1}]},
        {"metrics": [{"key": "a", "timestamp": 1}]}, {"metrics": [{"key": "a", "value": 1}]},
        {"metrics": [{"key": "a", "value": None, "timestamp": 1}]},
        {"metrics": [{"key": "", "value": 1, "timestamp": 1}]},
        {"metrics": [{"key": "a", "value": 1, "timestamp": -1}]},
        {"metrics": [{"key": "a;", "value": 1, "timestamp": 1}]},
        {"metrics": [point, {"key": "a", "value": 1, "timestamp": -1}]},
        {"metrics": {"a": 1}}, {"metrics": [5]}, {"metrics": "x"}, {"params": "x"}, {"tags": "x"}, {"params": [5]},
        {"tags": [None]}, {"params": {"a": "b"}}, {"tags": [{"key": "a;b", "value": "x"}]},
        {"params": [{"key": "a;b", "value": "x"}]},
        {"params": [{"key": "k" * 251, "value": "x"}]}, {"tags": [{"key": "k" * 251, "value": "x"}]},
        {"params": [{"key": "long", "value": "x" * 6_001}]}, {"tags": [{"key": "long", "value": "x" * 8_001}]},
        {"metrics": [{"key": "k" * 251, "value": 1, "timestamp": 1}]},
    ):  # fmt: skip
        wire.post("runs/log-batch", {"run_id": run, **fields})
    spoilt = wire.run(wire.experiment("spoilt"), run_name="spoilt")  # a part of what is wrong may be kept
    for fields in (
        {"metrics": [{"key": "a", "value": "x", "timestamp": 1}]}, {"params": [{"key": "n", "value": 5}]},
        {"metrics": [{"key": "a", "value": 1, "timestamp": "x"}]}, {"tags": [{"key": "n", "value": 5}]},
    ):  # fmt: skip
        wire.post("runs/log-batch", {"run_id": spoilt, **fields})
    wire.get("runs/get", {"run_id": run})
    for params, tags, metrics in (
        (100, 0, 0),
        (101, 0, 0),
        (0, 100, 0),
        (0, 101, 0),
        (0, 0, 1000),
        (0, 0, 1001),
        (100, 100, 800),
        (100, 100, 801),
    ):
        wire.post(
            "runs/log-batch",
            {
                "run_id": run,
                "params": [{"key": f"p{index}", "value": "x"} for index in range(params)],
                "tags": [{"key": f"t{index}", "value": "x"} for index in range(tags)],
                "metrics": [{**point, "step": index} for index in range(metrics)],
            },
        )
    wire.get("runs/get", {"run_id": run})
    wire.post("runs/log-batch", {"run_uuid": run})


def inputs(wire: Wire) -> None:
    number = wire.experiment()
    run, second = wire.run(number, run_name="r"), wire.run(number, run_name="second")
    good = {"name": "d", "digest": "1", "source_type": "local", "source": "s"}
    context = [{"key": "mlflow.data.context", "value": "training"}]
    wire.post("runs/log-inputs", {"run_id": run, "datasets": [{"tags": context, "dataset": good}]})
    wire.post("runs/log-inputs", {"run_id": run, "datasets": [{"tags": context, "dataset": good}]})
    wire.post(
        "runs/log-inputs",
        {"run_id": run, "datasets": [{"tags": [{"key": "mlflow.data.context", "value": "eval"}], "dataset": good}]},
    )
    wire.get("runs/get", {"run_id": run})
    wire.post("runs/log-inputs", {"run_id": second, "datasets": [{"dataset": {**good, "source": "other"}}]})
    wire.get("runs/get", {"run_id": second})
    spoilt = wire.run(wire.experiment("spoilt"), run_name="spoilt")  # a part of what is wrong may be kept
    for name in ("name", "digest", "source_type", "source"):
        for value in (None, "", 5):
            wire.post(
                "runs/log-inputs",
                {"run_id": spoilt, "datasets": [{"dataset": {**good, "digest": f"{name}{value}", name: value}}]},
            )
        wire.post(
            "runs/log-inputs",
            {"run_id": spoilt, "datasets": [{"dataset": {key: item for key, item in good.items() if key != name}}]},
        )
    for fields in (
        {"name": "x" * 500}, {"name": "x" * 501}, {"digest": "x" * 36},
        {"source": "x" * 65_535}, {"source": "x" * 65_536}, {"schema": "{}"}, {"schema": "x" * 1_048_576},
        {"profile": "p"}, {"schema": ""}, {"profile": ""},
        {"source_type": "x" * 36}, {"name": "ü 🚀"},
    ):  # fmt: skip
        wire.post(
            "runs/log-inputs", {"run_id": second, "datasets": [{"dataset": {**good, "digest": "fields", **fields}}]}
        )
    wire.post("runs/log-inputs", {"run_id": spoilt, "datasets": [{"dataset": {**good, "digest": "x" * 37}}]})
    for target, tags in (
        (second, [{"key": "k" * 255, "value": "v"}]), (second, [{"key": "k" * 256, "value": "v"}]),
        (second, [{"key": "k", "value": "v" * 500}]), (second, [{"key": "k", "value": "v" * 501}]),
        (second, [{"key": "k"}]), (spoilt, [{"value": "v"}]), (spoilt, [{"key": "", "value": "v"}]), (spoilt, "x"),
        (spoilt, [5]), (second, [{"key": "a", "value": "1"}, {"key": "b", "value": "2"}]),
    ):  # fmt: skip
        wire.post(
            "runs/log-inputs",
            {"run_id": target, "datasets": [{"tags": tags, "dataset": {**good, "digest": str(tags)[:30]}}]},
        )
    wire.post("runs/log-inputs", {"run_id": second, "datasets": [{"dataset": {**good, "digest": "many"}}] * 3})
    for datasets in ([], None, "x", [5], [{}], [None], {"dataset": good}):
        wire.post("runs/log-inputs", {"run_id": spoilt, "datasets": datasets})
    wire.get("runs/get", {"run_id": second})
    wire.post("runs/search", {"experiment_ids": [number], "filter": "dataset.name = 'd' AND dataset.digest = '1'"})
    wire.post("experiments/search-datasets", {"experiment_ids": [number]})
    wire.post("experiments/search-datasets", {"experiment_ids": []})
    wire.post("experiments/search-datasets", {})


def legacy_models(wire: Wire) -> None:
    run = wire.run(wire.experiment(), run_name="r")
    model = (
        '{"artifact_path": "model", "flavors": {"sklearn": {"config": 1, "version": "1"}}, "run_id": "x", '
        '"utc_time_created": "2026-01-01 00:00:00", "model_uuid": "u", "mlflow_version": "2.0.0"}'
    )
    for text in (model, model, "{", "{}", "[]", "5", "", None, '{"artifact_path": "a"}'):
        wire.post("runs/log-model", {"run_id": run, "model_json": text})
    wire.post("runs/log-model", {"run_id": run})
    wire.post("runs/log-model", {"run_id": "0" * 32, "model_json": model})
    wire.get("runs/get", {"run_id": run})
