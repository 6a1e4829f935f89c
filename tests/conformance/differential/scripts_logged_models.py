"""Logged models: made, finished, described, searched, hidden."""

from __future__ import annotations

from typing import Any

from wire import Wire

MODELS = "logged-models"
NOBODY = "m-" + "0" * 32


def _model(wire: Wire, experiment: str, **fields: Any) -> str:
    return wire.know_model(wire.post(MODELS, {"experiment_id": experiment, **fields}))


def _finish(wire: Wire, model: str, **fields: Any) -> None:
    wire.call(
        "PATCH", f"{MODELS}/{model}", json={"model_id": model, **fields}
    )  # in both places, as the client sends it


def _pair(key: Any, value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


def making(wire: Wire) -> None:
    experiment = wire.experiment()
    run = wire.run(experiment, run_name="r")
    full = _model(
        wire,
        experiment,
        name="trees",
        model_type="tree",
        source_run_id=run,
        params=[_pair("depth", "6"), _pair("rate", "")],
        tags=[_pair("team", "x"), _pair("empty", "")],
    )
    wire.get(f"{MODELS}/{full}")
    for fields in (
        {},
        {"name": "trees"},
        {"name": "", "model_type": "", "source_run_id": ""},
        {"name": None, "params": None, "tags": None, "model_type": None, "source_run_id": None},
        {"name": "ä ö 漢字"},
        {"params": [], "tags": []},
        {"source_run_id": "nobody"},
        {"params": [_pair("a", "x" * 7_000)]},
        {"params": [{"key": "a"}], "tags": [{"key": "a"}]},
    ):
        wire.get(f"{MODELS}/{_model(wire, experiment, **fields)}")
    for fields in (
        {"name": "a/b"}, {"name": "a:b"}, {"name": "a.b"}, {"name": "a%b"}, {"name": 'a"b'}, {"name": "a'b"},
        {"name": 5}, {"name": ["x"]}, {"model_type": 5}, {"params": "x"}, {"params": ["x"]}, {"params": [{}]},
        {"params": [_pair("", "x")]}, {"params": [_pair("a", 5)]}, {"params": [_pair("k" * 256, "x")]},
        {"params": [_pair("a", "1"), _pair("a", "2")]}, {"tags": {"a": "1"}}, {"tags": [{}]},
        {"tags": [_pair("a", "1"), _pair("a", "2")]},
        {"tags": [_pair("k" * 256, "x")]}, {"tags": [_pair("../x", "x")]}, {"experiment_id": ""},
        {"experiment_id": None}, {"experiment_id": 5.5}, {"experiment_id": "987654321"}, {"experiment_id": "x"},
    ):  # fmt: skip
        _model(wire, experiment, **fields)
    wire.post(MODELS, {})
    wire.post("experiments/delete", {"experiment_id": experiment})
    _model(wire, experiment)


def changing(wire: Wire) -> None:
    model = _model(wire, wire.experiment(), name="m", params=[_pair("a", "1")])
    address = f"{MODELS}/{model}"
    for status in ("LOGGED_MODEL_READY", 3, "LOGGED_MODEL_UPLOAD_FAILED", "LOGGED_MODEL_PENDING", 1):
        _finish(wire, model, status=status)
        wire.get(address)
    for params in ([_pair("b", "2")], [_pair("c", "3"), _pair("d", "")], [], None):
        wire.post(f"{address}/params", {"model_id": model, "params": params})
    wire.post(f"{address}/params", {"model_id": model})
    for tags in (
        [_pair("a", "1"), _pair("of/team", "x")], [_pair("a", "2")], [_pair("d", "1"), _pair("d", "2")],
        [_pair("../x", "x")], [], None,
    ):  # fmt: skip
        wire.call("PATCH", f"{address}/tags", json={"tags": tags})
    wire.get(address)
    for key in ("a", "a", "none"):
        wire.call("DELETE", f"{address}/tags/{key}")
    wire.get(address)
    wire.call("DELETE", f"{address}/tags/of/team")


def wrong_changes(wire: Wire) -> None:
    model = _model(wire, wire.experiment(), name="m", params=[_pair("a", "1")])
    address = f"{MODELS}/{model}"
    for body in (
        {}, {"status": ""}, {"status": None}, {"status": "READY"}, {"status": "x"}, {"status": 99}, {"status": True},
        {"status": "LOGGED_MODEL_STATUS_UNSPECIFIED"}, {"status": 0},
    ):  # fmt: skip
        _finish(wire, model, **body)
    for params in (
        [_pair("a", "1")], [_pair("a", "2")], [_pair("n", "1"), _pair("a", "2")], "x", [{}], [_pair("k" * 256, "x")],
        [_pair("", "x")], [_pair("c", 5)], [_pair("d", "1"), _pair("d", "2")],
    ):  # fmt: skip
        wire.post(f"{address}/params", {"model_id": model, "params": params})
    wire.post(f"{address}/params", {"params": [_pair("e", "2")]})
    for tags in ("x", [{}], [_pair("k" * 256, "x")], [_pair("", "x")], [_pair("c", 5)]):
        wire.call("PATCH", f"{address}/tags", json={"tags": tags})


def hiding(wire: Wire) -> None:
    experiment = wire.experiment()
    model = _model(wire, experiment, name="m")
    address = f"{MODELS}/{model}"
    wire.call("DELETE", address)
    wire.get(address)
    for allowed in ("true", "false", "True", "1"):
        wire.get(address, {"allow_deleted": allowed})
    for uid in (model, NOBODY, "x"):
        gone = f"{MODELS}/{uid}"
        wire.get(gone)
        _finish(wire, uid, status="LOGGED_MODEL_READY")
        wire.post(f"{gone}/params", {"model_id": uid, "params": [_pair("a", "1")]})
        wire.call("PATCH", f"{gone}/tags", json={"tags": [_pair("a", "1")]})
        wire.call("DELETE", f"{gone}/tags/a")
        wire.get(f"{gone}/artifacts/directories")
        wire.call("DELETE", gone)
    wire.post(f"{MODELS}/search", {"experiment_ids": [experiment]})


def files(wire: Wire) -> None:
    model = _model(wire, wire.experiment(), name="m")
    for path in (None, "", "none", "a/b", "../x", "/etc", "%2e%2e/x"):
        query = {} if path is None else {"artifact_directory_path": path}
        wire.get(f"{MODELS}/{model}/artifacts/directories", query)


def search(wire: Wire) -> None:
    experiment, other = wire.experiment("one"), wire.experiment("other")
    run = wire.run(experiment, run_name="r")
    models = [
        _model(
            wire,
            experiment,
            name=f"n{number}",
            model_type="tree" if number < 3 else "",
            source_run_id=run,
            params=[_pair("depth", str(number))],
            tags=[_pair("team", "x")],
        )
        for number in range(4)
    ]
    _model(wire, other, name="elsewhere")
    _finish(wire, models[0], status="LOGGED_MODEL_READY")
    measured = [("auc", 0.9, 0, "test"), ("auc", 0.7, 1, "test"), ("auc", 0.8, 2, "test"), ("auc", 0.1, 2, "train")]
    for step, (key, value, index, dataset) in enumerate(measured):
        told = {"model_id": models[index], "dataset_name": dataset, "dataset_digest": f"d-{dataset}"}
        wire.post("runs/log-metric", {"run_id": run, "key": key, "value": value, "timestamp": 1, "step": step, **told})
    by_name = [{"field_name": "name"}]

    def find(**fields: Any) -> Any:
        return wire.post(f"{MODELS}/search", {"experiment_ids": [experiment], "order_by": by_name, **fields})

    for filter_text in (
        "", "name = 'n1'", "name != 'n1'", "name LIKE 'n%'", "name ILIKE 'N_'", "name IN ('n1', 'n2')",
        "name NOT IN ('n1')", "attributes.name = 'n1'", "model_type = 'tree'", "model_type != 'tree'",
        "status = 'READY'", "status = 'PENDING'", "status != 'READY'", f"source_run_id = '{run}'",
        f"model_id = '{models[2]}'", "params.depth = '2'", "params.depth != '2'", "params.depth = 2",
        "params.depth LIKE '%'", "params.depth IN ('0', '1')", "tags.team = 'x'", "tags.none = 'x'",
        "tags.`team` = 'x' AND params.\"depth\" = '3'", "metrics.auc > 0.75", "metrics.auc <= 0.7",
        "metrics.auc = 0.1", "metrics.none > 0", "creation_timestamp > 0", "creation_time > 0",
        "last_updated_timestamp > 0", "name = 'it''s'",
        # What is wrong.
        "name", "name =", "name = x", "name > 'a'", "x = 'y'", "runs.a = 1", "params.depth > '1'", "metrics.auc > 'x'",
        "metrics.auc LIKE 'x'", "status = 'x'", "status > 'READY'", "creation_timestamp > 'x'",
        "name = 'a' OR name = 'b'", "name = 'a' AND", "name IN ()", "name = 5", "(name = 'a')", "tags.team > 'a'",
    ):  # fmt: skip
        find(filter=filter_text)
    test = {"dataset_name": "test", "dataset_digest": "d-test"}
    for datasets in (
        [test], [{"dataset_name": "train"}], [test, {"dataset_name": "train"}], [{"dataset_name": "none"}],
        [{"dataset_name": "test", "dataset_digest": "x"}], [], None, "x", [{}], ["x"], [{"dataset_digest": "d-test"}],
    ):  # fmt: skip
        find(datasets=datasets)
        find(datasets=datasets, filter="metrics.auc > 0.75")
    for order in (
        [{"field_name": "name", "ascending": False}], [{"field_name": "metrics.auc"}, *by_name],
        [{"field_name": "metrics.auc", "ascending": False, **test}, *by_name],
        [{"field_name": "metrics.auc", "dataset_name": "train"}, *by_name],
        [{"field_name": "metrics.none"}, *by_name], [{"field_name": "model_type"}, *by_name],
        [{"field_name": "attributes.name"}], [{"field_name": "creation_timestamp"}, *by_name],
        [{"field_name": "creation_time"}, *by_name], [{"field_name": "status"}, *by_name],
        [{"field_name": "source_run_id"}, *by_name], [{"field_name": "params.depth"}], [{"field_name": "tags.team"}],
        [{"field_name": "nothing"}], [{"field_name": ""}], [{}], "name", ["name"], [{"field_name": 5}],
        [{"field_name": "name", "ascending": "false"}], [{"field_name": "name", **test}],
        [{"field_name": "metrics.auc", "dataset_digest": "d-test"}],
    ):  # fmt: skip
        find(order_by=order)
    first = find(max_results=3)
    token = first.get("next_page_token", "")
    for fields in ({"max_results": 3}, {"max_results": 3, "filter": "name = 'n1'"}, {"order_by": []}):
        body = {"experiment_ids": [experiment], "order_by": by_name, "page_token": token, **fields}
        wire.call("POST", f"{MODELS}/search", json=body, shown={"page": 2, **fields})
    for limit in (0, -1, 1, "2", 100_000, "x", 1.5, None):
        find(max_results=limit)
    find(page_token="x")
    for experiments in ([], None, [experiment, other], ["987654321"], ["x"], "x", [5]):
        wire.post(f"{MODELS}/search", {"experiment_ids": experiments, "order_by": by_name})
    wire.post(f"{MODELS}/search", {})


def runs(wire: Wire) -> None:
    experiment = wire.experiment()
    run = wire.run(experiment, run_name="r")
    read, made = _model(wire, experiment, name="read"), _model(wire, experiment, name="made")
    other = _model(wire, experiment, name="other")
    for models in ([{"model_id": made, "step": 3}], [{"model_id": other}], [{"model_id": NOBODY, "step": 0}]):
        wire.post("runs/outputs", {"run_id": run, "models": models})
    for models in ([{"model_id": read}], [{"model_id": read}], [{"model_id": NOBODY}], []):
        wire.post("runs/log-inputs", {"run_id": run, "models": models})
    wrong = wire.run(experiment, run_name="wrong")
    for models in (
        [{"model_id": made, "step": 3}], [{"model_id": made, "step": 4}], [{}], [], None, "x",
        [{"model_id": 5, "step": 0}], [{"model_id": other, "step": "x"}],
    ):  # fmt: skip
        wire.post("runs/outputs", {"run_id": wrong, "models": models})
    for models in ([{}], "x"):
        wire.post("runs/log-inputs", {"run_id": wrong, "models": models})
    wire.post("runs/outputs", {"models": []})
    wire.post("runs/outputs", {"run_id": "nobody", "models": [{"model_id": made, "step": 0}]})
    wire.get("runs/get", {"run_id": run})
    told = {"run_id": run, "key": "m", "value": 1, "timestamp": 1}
    for fields in (
        {"model_id": made}, {"model_id": NOBODY}, {"model_id": ""}, {"model_id": None}, {"model_id": 5},
        {"model_id": made, "dataset_name": "d"}, {"model_id": made, "dataset_name": "d", "dataset_digest": "x"},
        {"model_id": made, "step": 0},
    ):  # fmt: skip
        step = len(wire.record)
        wire.post("runs/log-metric", {**told, "step": step, **fields})
    wire.get(f"{MODELS}/{made}")
    wire.get("runs/get", {"run_id": run})
