"""Search of runs: filters, orders, pages, views."""

from __future__ import annotations

from wire import Wire


def _six_runs(wire: Wire) -> str:
    number = wire.experiment()
    rows: list[tuple[object, str | None, str | None]] = [
        (0.1, "a", "X"),
        (0.2, "b", None),
        ("NaN", "a", "x"),
        (None, None, "y"),
        ("Infinity", "B", "%"),
        (0.1, "a_b", "it's"),
    ]
    for index, (metric, param, tag) in enumerate(rows):
        run = wire.run(
            number,
            run_name=f"r{index}",
            start_time=index + 1,
            user_id="maya" if index % 2 else "",
        )
        if metric is not None:
            wire.post("runs/log-metric", {"run_id": run, "key": "m", "value": metric, "timestamp": 1})
            wire.post("runs/log-metric", {"run_id": run, "key": "m 2", "value": index, "timestamp": 1})
        if param is not None:
            wire.post("runs/log-parameter", {"run_id": run, "key": "p", "value": param})
        if tag is not None:
            wire.post("runs/set-tag", {"run_id": run, "key": "t.dotted", "value": tag})
            wire.post("runs/set-tag", {"run_id": run, "key": "t", "value": tag})
        if index in (0, 3):
            wire.post("runs/update", {"run_id": run, "status": "FINISHED", "end_time": 100 + index})
        if index in (0, 4):
            dataset = {"name": f"d{index}", "digest": f"g{index}", "source_type": "local", "source": "s"}
            wire.post(
                "runs/log-inputs",
                {
                    "run_id": run,
                    "datasets": [{"dataset": dataset, "tags": [{"key": "mlflow.data.context", "value": "train"}]}],
                },
            )
    return number


def _names(wire: Wire, number: str, **fields: object) -> None:
    """Search, and keep of the answer what a search decides: which runs, in which order, and whether there are more."""
    found = wire.post("runs/search", {"experiment_ids": [number], **fields})
    if isinstance(found, dict) and "error_code" not in found:
        kept = {
            "names": [run["info"]["run_name"] for run in found.get("runs", [])],
            "next": found.get("next_page_token"),
        }
        wire.record[-1] = wire.record[-1]._replace(body=kept)


def filters(wire: Wire) -> None:
    number = _six_runs(wire)
    entities = ("metrics.m", "metric.m", "params.p", "param.p", "parameter.p", "parameters.p", "tags.t", "tag.t",
     "attributes.status", "attribute.status", "attr.status", "run.status", "status", "run_name", "start_time",
     "end_time",
                "user_id", "artifact_uri", "run_id", "attributes.run_id", "attributes.`run name`",
                "attributes.created", "Created", "dataset.name", "datasets.digest", "dataset.context",
                "dataset.colour", "metrics.`m 2`", 'metrics."m 2"',
                "tags.t.dotted", "tags.`t.dotted`", 'tags."t.dotted"', "lifecycle_stage", "attributes.colour",
                "models.name", "metrics", "metrics.", "experiment_id", "inputs.name", "outputs.x")  # fmt: skip
    for entity in entities:
        for comparator in (
            "=",
            "!=",
            ">",
            ">=",
            "<",
            "<=",
            "LIKE",
            "ILIKE",
            "IN",
            "NOT IN",
            "IS NULL",
            "IS NOT NULL",
            "BETWEEN",
        ):
            numeric = entity.startswith("metric") or entity in (
                "start_time",
                "end_time",
                "attributes.created",
                "Created",
            )
            right = (
                ""
                if comparator.startswith("IS")
                else "('a', 'r1', 'd0')"
                if comparator.endswith("IN")
                else "0.1"
                if numeric
                else "'a%'"
                if comparator.endswith("LIKE")
                else "'a'"
            )
            _names(wire, number, filter=f"{entity} {comparator} {right}".strip())


def values(wire: Wire) -> None:
    number = _six_runs(wire)
    for text in (
        "metrics.m > 0", "metrics.m > -1", "metrics.m > .05", "metrics.m > 1e-2", "metrics.m > +1", "metrics.m = 0.1",
        "metrics.m = '0.1'", "metrics.m = NaN", "metrics.m = inf", "metrics.m > 1.7e308", "metrics.m = 1e999",
        "metrics.m = 0x1",
        "metrics.m = x", "metrics.m = 1 + 1", "metrics.m=0.1", "metrics.m>=0.1 and metrics.m<=0.2",
        "metrics.m = 0.1 AND params.p = 'a'", "metrics.m = 0.1 OR params.p = 'a'", "metrics.m = 0.1, params.p = 'a'",
        "(metrics.m = 0.1)",
        "metrics.m = 0.1 AND", "AND metrics.m = 0.1", "metrics.m = 0.1 AND AND params.p = 'a'", "NOT metrics.m = 0.1",
        "metrics.m == 0.1", "metrics.m <> 0.1", "metrics.m => 0.1", "metrics.m !> 0.1", "0.1 = metrics.m",
        "metrics.m", "=", "", " ", ";", "metrics.m = 0.1;",
        "metrics.m = 0.1; DROP TABLE runs", "metrics.m = 0.1 -- x", "metrics.m = 0.1 /* x */", "params.p = 'a'",
        'params.p = "a"', "params.p = a", "params.p = `a`", "params.p = 'a", "params.p = 'a''", "params.p = ''",
        "params.p = 5", "params.p = 'A'",
        "params.p LIKE 'a%'", "params.p LIKE '%b'", "params.p LIKE 'a_b'", "params.p LIKE 'a\\_b'",
        "params.p ILIKE 'A%'", "params.p like 'a'", "params.p LIKE 'b'", "params.p ILIKE 'b'",
        "params.p = 'a' AND params.p = 'a'", "params.P = 'a'", "params.`p` = 'a'", 'params."p" = \'a\'',
        "params.p != 'a'", "params.p != 'zzz'", "params.p > 'a'", "params.p IN ('a')", "params.p IN ('a', 'b')",
        "params.p NOT IN ('a')", "tags.t IN ('X')", "params.p IS NULL", "params.p IS NOT NULL", "tags.t IS NULL",
        "tags.t IS NOT NULL", "metrics.m IS NULL",
        "tags.t = '%'", "tags.t LIKE '%'", "tags.t LIKE '\\%'", "tags.t = 'it''s'", "tags.t = \"it's\"",
        "tags.t = 'it\\'s'", "tags.t = 'x' AND tags.t ILIKE 'x'", "tags.mlflow.runName = 'r0'",
        "tags.`mlflow.runName` LIKE 'r%'", "tags.t ILIKE 'X'",
        "attributes.status = 'RUNNING'", "attributes.status = 'running'", "status != 'FINISHED'",
        "status LIKE 'FIN%'", "status ILIKE 'fin%'", "status IN ('RUNNING')", "status = 5", "start_time > 3",
        "start_time > '3'", "start_time = 10", "start_time > 3.5", "start_time > x", "end_time > 0",
        "end_time != 100", "end_time IS NULL", "run_name = 'r1'", "run_name LIKE 'r%'", "run_name ILIKE 'R1'",
        "run_name IN ('r1', 'r2')", "attributes.run_name != 'r1'", "attributes.`run name` = 'r1'",
        'attributes."Run name" = \'r1\'', "user_id = 'maya'", "user_id = ''", "user_id LIKE 'm%'",
        "run_id = 'x'", "run_id IN ('x')", "run_id NOT IN ('x')", "run_id IN ('x',)", "run_id IN ()", "run_id IN 'x'",
        "run_id IN (x)", "run_id IN (1)", "run_id IN ('x' 'y')", "run_id LIKE '%'", "run_id != 'x'", "run_id > 'x'",
        "artifact_uri LIKE 'mlflow-artifacts:%'", "artifact_uri = 'x'",
        "dataset.name = 'd0'", "dataset.name LIKE 'd%'", "datasets.name IN ('d0', 'd4')", "dataset.digest = 'g0'",
        "dataset.context = 'train'", "dataset.name = 'd0' AND dataset.context = 'train'",
        "dataset.name = 'd0' AND dataset.digest = 'g4'", "dataset.name NOT IN ('d0')",
        "metrics.missing != 1", "params.missing != 'x'", "tags.missing IS NULL", "ü = 'x'", "params.ü = 'x'",
        "params.`ü` = 'x'", "tags.`漢字` = '🚀'", "params.a/b = 'x'", "params.`a/b` = 'x'", "params.a-b = 'x'",
        "params.a b = 'x'", "`params`.p = 'a'", "params.`p = 'a'", "'params.p' = 'a'",
        "trace.x = 'y'", "tags.t='x'AND params.p='a'", "tags.t = 'x'\nAND\tparams.p = 'a'", "1 = 1", "true",
        "metrics.m > 0.1 > 0", "params.p = 'a' 'b'", "params.p = 'a' AND metrics.m", "x" * 200,
        "metrics.m > 0 AND " * 20 + "metrics.m > 0", None, 5, ["a"],
    ):  # fmt: skip
        _names(wire, number, filter=text)


def orders(wire: Wire) -> None:
    number = _six_runs(wire)
    for order in (
        None, [], ["metrics.m"], ["metrics.m ASC"], ["metrics.m DESC"], ["metrics.m desc"], ["metrics.`m 2` DESC"],
        ['metrics."m 2" ASC'], ["params.p"], ["params.p DESC"], ["tags.t"], ["tags.t DESC"], ["tag.t"],
        ["parameter.p DESC"],
        ["start_time"], ["start_time DESC"], ["attributes.start_time ASC", "metrics.m DESC"], ["end_time"],
        ["end_time DESC"], ["attribute.status", "run_name DESC"], ["attributes.status DESC", "attributes.start_time"],
        ["run_name"], ["run_name DESC"], ["`run name`"],
        ["attributes.`Run Name` DESC"], ["Created DESC"], ["attributes.created"], ["user_id", "run_name"],
          ["metrics.missing"], ["metrics.missing DESC", "run_name"],
        ["params.missing", "params.p"], ["tags.`t.dotted`"], ["tags.t.dotted DESC"],
        ["metrics.m", "params.p", "tags.t"], ["metrics.m ASC", "metrics.m DESC"], ["metrics.m", "metrics.m"],
        ["start_time", "attributes.start_time"], ["colour"], ["attributes.colour"], ["models.x"], ["dataset.name"],
        ["metrics"], ["metrics."], ["metrics.m sideways"], ["metrics.m ASC DESC"],
        ["metrics.m ASC, params.p"], [""], [" "], ["  metrics.m  "], ["metrics.m  DESC"], ["metrics.m\tDESC"], [5],
        [None], "metrics.m", ["metrics.m; DROP TABLE runs"], ["experiment_id"], ["lifecycle_stage"], ["duration"],
        ["metrics.`m"], ["m"], ["params.`p` DESC"], ["run.start_time"],
    ):  # fmt: skip
        _names(wire, number, order_by=order)


def pages(wire: Wire) -> None:
    number = _six_runs(wire)
    for limit in (0, -1, 1, 6, 7, 50_000, 50_001, "2", "x", 2.0, 2.5, None, True, [1], 10**20, "", "2.0"):
        _names(wire, number, max_results=limit)
    token: str | None = ""
    for _page in range(3):
        page = wire.post("runs/search", {"experiment_ids": [number], "max_results": 4, "page_token": token})
        token = page.get("next_page_token")
    for text in (
        "x",
        "",
        None,
        5,
        "eyJvZmZzZXQiOiA0fQ==",
        "eyJvZmZzZXQiOiA0MDAwfQ==",
        "eyJvZmZzZXQiOiAtNH0=",
        "eyJvZmZzZXQiOiAieCJ9",
        "e30=",
        "W10=",
        "NQ==",
        "===",
        "ü",
    ):
        _names(wire, number, max_results=2, page_token=text)
    for view in ("ACTIVE_ONLY", "DELETED_ONLY", "ALL", 1, 2, 3, "1", 0, 4, "active_only", None, "x", True, ["ALL"]):
        _names(wire, number, run_view_type=view)
    wire.post("runs/search", {"experiment_ids": [number], "max_results": 1, "order_by": ["run_name"]})


def experiments(wire: Wire) -> None:
    first, second = wire.experiment("a"), wire.experiment("b")
    wire.run(first, run_name="a", start_time=2)
    wire.run(second, run_name="b", start_time=1)
    for numbers in (
        [first, second],
        [second, first],
        [first, first],
        [],
        None,
        ["999999"],
        [first, "999999"],
        ["abc"],
        [""],
        [None],
        [1.5],
        ["-1"],
        ["9" * 30],
    ):
        found = wire.post("runs/search", {"experiment_ids": numbers})
        if isinstance(found, dict) and "error_code" not in found:
            wire.record[-1] = wire.record[-1]._replace(body=[run["info"]["run_name"] for run in found.get("runs", [])])
    wire.post("runs/search", {})
    wire.post("runs/search")
    wire.post("runs/search", {"experimentIds": [first], "orderBy": ["run_name"], "maxResults": 1})
    wire.post("runs/search", {"experiment_ids": [first], "experimentIds": [second]})
    wire.call("GET", "runs/search", params={"experiment_ids": first})
    wire.post("experiments/delete", {"experiment_id": first})
    wire.post("runs/search", {"experiment_ids": [first], "run_view_type": "ALL"})
