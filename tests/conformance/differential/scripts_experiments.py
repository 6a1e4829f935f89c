"""Experiments: names, tags, lives, searches."""

from __future__ import annotations

from wire import Wire


def names(wire: Wire) -> None:
    for name in (
        "plain", "with space", "ü ä 漢字 🚀", "a/b", "a:b", "'quoted'", "%", "x" * 500, "x" * 501, "", " ", "\t", None,
        5, True, ["a"],
        {"a": 1},
    ):  # fmt: skip
        short = isinstance(name, str) and bool(name.strip()) and len(name) < 500
        wire.know_number(wire.post("experiments/create", {"name": f"names {name}" if short else name}))
    wire.post("experiments/create", {})
    wire.post("experiments/create", {"name": "names plain"})
    wire.post("experiments/create", {"NAME": "names upper case field"})
    wire.know_number(wire.post("experiments/create", {"name": "names unknown field", "unknown": 1}))
    wire.get("experiments/get-by-name", {"experiment_name": "names ü ä 漢字 🚀"})
    wire.get("experiments/get-by-name", {"experiment_name": "NAMES PLAIN"})
    wire.get("experiments/get-by-name", {"experiment_name": "names nobody"})
    wire.get("experiments/get-by-name", {"experiment_name": ""})
    wire.get("experiments/get-by-name")
    wire.get("experiments/get-by-name", {"experimentName": "names plain"})
    wire.post("experiments/get-by-name", {"experiment_name": "names plain"})


def locations(wire: Wire) -> None:
    for index, location in enumerate(
        ("s3://bucket/a", "s3://bucket/a/", "s3://bucket/a?x=1", "s3://bucket/a#x", "runs:/abc",
         "mlflow-artifacts:/x", "gs://b/c;d", "", None, 5, "s3://b/" + "x" * 2041,
         "s3://b/" + "x" * 2042, "s3://b/../c", "dbfs:/a/b")
    ):  # fmt: skip
        made = wire.post("experiments/create", {"name": f"locations {index}", "artifact_location": location})
        number = wire.know_number(made)
        wire.get("experiments/get", {"experiment_id": number})
        wire.run(number, run_name="r")


def foreign_locations(wire: Wire) -> None:
    wire.know_number(wire.post("experiments/create", {"name": "f", "artifact_location": "http://example.com/a"}))


def identifiers(wire: Wire) -> None:
    for number in ("0", "999999", "-1", "abc", "", " 999999", "1.0", "99999999999999999999", "００", None):
        wire.get("experiments/get", {"experiment_id": number} if number is not None else None)
    wire.get("experiments/get", {"experiment_id": 0})
    wire.get("experiments/get", {"experimentId": "0"})
    for path in ("delete", "restore"):
        for body in (
            {},
            {"experiment_id": "999999"},
            {"experiment_id": ""},
            {"experiment_id": "abc"},
            {"experiment_id": 999999},
            {"experiment_id": None},
        ):
            wire.post(f"experiments/{path}", body)
    wire.post("experiments/update", {"experiment_id": "999999", "new_name": "identifiers x"})
    wire.post("experiments/update", {"experiment_id": "abc", "new_name": "identifiers x"})
    wire.post("runs/create", {"experiment_id": "999999"})
    wire.post("runs/create", {"experiment_id": "abc"})
    wire.post("runs/create", {"experiment_id": "-5"})


def life(wire: Wire) -> None:
    number = wire.experiment(tags=[{"key": "team", "value": "x"}, {"key": "empty", "value": ""}, {"key": "none"}])
    run = wire.run(number, run_name="r")
    wire.get("experiments/get", {"experiment_id": number})
    wire.post("experiments/update", {"experiment_id": number, "new_name": "life renamed"})
    wire.post("experiments/update", {"experiment_id": number, "new_name": "life renamed"})
    wire.post("experiments/update", {"experiment_id": number})
    wire.post("experiments/update", {"experiment_id": number, "new_name": ""})
    wire.post("experiments/update", {"experiment_id": number, "new_name": None})
    wire.post("experiments/update", {"experiment_id": number, "new_name": 5})
    wire.post("experiments/update", {"experiment_id": number, "new_name": "x" * 501})
    other = wire.experiment("other")
    wire.post("experiments/update", {"experiment_id": other, "new_name": "life renamed"})
    wire.get("experiments/get-by-name", {"experiment_name": "life renamed"})
    wire.get("experiments/get-by-name", {"experiment_name": "life"})
    wire.post("experiments/restore", {"experiment_id": number})
    wire.post("experiments/delete", {"experiment_id": number})
    wire.post("experiments/delete", {"experiment_id": number})
    wire.get("experiments/get", {"experiment_id": number})
    wire.get("experiments/get-by-name", {"experiment_name": "life renamed"})
    wire.post("experiments/create", {"name": "life renamed"})
    wire.post("experiments/update", {"experiment_id": number, "new_name": "life again"})
    wire.post("experiments/set-experiment-tag", {"experiment_id": number, "key": "a", "value": "b"})
    wire.post("experiments/delete-experiment-tag", {"experiment_id": number, "key": "team"})
    wire.post("runs/create", {"experiment_id": number})
    wire.get("runs/get", {"run_id": run})
    wire.post("runs/log-metric", {"run_id": run, "key": "a", "value": 1, "timestamp": 1})
    wire.post("runs/search", {"experiment_ids": [number]})
    wire.post("runs/search", {"experiment_ids": [number], "run_view_type": "DELETED_ONLY"})
    wire.post("experiments/restore", {"experiment_id": number})
    wire.get("runs/get", {"run_id": run})
    wire.get("experiments/get", {"experiment_id": number})


def restoring_brings_every_run_back(wire: Wire) -> None:
    number = wire.experiment()
    gone, kept = wire.run(number, run_name="gone"), wire.run(number, run_name="kept")
    wire.post("runs/delete", {"run_id": gone})
    wire.post("experiments/delete", {"experiment_id": number})
    wire.post("runs/restore", {"run_id": kept})
    wire.get("runs/get", {"run_id": kept})
    wire.post("runs/set-tag", {"run_id": kept, "key": "a", "value": "b"})
    wire.post("experiments/restore", {"experiment_id": number})
    wire.get("runs/get", {"run_id": gone})


def tags(wire: Wire) -> None:
    number = wire.experiment()
    for key, value in (
        ("a", "1"), ("a", "2"), ("a", ""), ("a", None), ("a", 5), ("", "x"), (None, "x"), ("k" * 250, "x"),
        ("k" * 251, "x"), ("v", "x" * 20_000), ("w", "x" * 20_001),
        ("a/b", "x"), ("a//b", "x"), ("../a", "x"), ("a b.c-d:e_f", "x"), ("a;b", "x"), ("ü", "x"), ("漢字", "🚀"),
        ("/a", "x"), (".", "x"), ("a/", "x"), ("a\nb", "x"), ("a\n", "x"),
    ):  # fmt: skip
        wire.post("experiments/set-experiment-tag", {"experiment_id": number, "key": key, "value": value})
    wire.post("experiments/set-experiment-tag", {"experiment_id": number, "key": "novalue"})
    wire.post("experiments/set-experiment-tag", {"experiment_id": number, "value": "x"})
    wire.post("experiments/set-experiment-tag", {"key": "a", "value": "x"})
    wire.post("experiments/set-experiment-tag", {"experiment_id": "999999", "key": "a", "value": "x"})
    wire.get("experiments/get", {"experiment_id": number})
    for key in ("a", "a", "nothing", "", None):
        wire.post("experiments/delete-experiment-tag", {"experiment_id": number, "key": key})
    wire.post("experiments/delete-experiment-tag", {"experiment_id": "999999", "key": "a"})
    for given in (
        [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}], [{"key": "", "value": "x"}], [{"value": "x"}],
        [{"key": "a/../b", "value": "x"}], "a", {"a": "b"}, ["a"], [None],
        [{"key": "k" * 251, "value": "x"}], None, [],
    ):  # fmt: skip
        wire.know_number(wire.post("experiments/create", {"name": f"tags {str(given)[:40]}", "tags": given}))


def search(wire: Wire) -> None:
    made = []
    for index, letter in enumerate("cab"):
        made.append(
            wire.experiment(
                letter, tags=[{"key": "n", "value": str(index)}, {"key": "with space", "value": letter.upper()}]
            )
        )
    mine = "name LIKE 'experiments search %'"
    for query in (
        "", " AND name = 'experiments search a'", " AND name != 'experiments search a'",
        " AND name ILIKE 'EXPERIMENTS SEARCH A'", " AND tags.n = '1'",
        " AND tags.n != '1'", " AND tag.n = '1'", " AND tags.`with space` = 'A'",
        ' AND tags."with space" = \'A\'', " AND tags.`with space` LIKE 'a'", " AND tags.`with space` ILIKE 'a'",
        " AND attribute.name = 'experiments search a'", " AND attr.name = 'experiments search a'",
        " AND attributes.name = 'experiments search a'", " AND creation_time > 0", " AND creation_time < 0",
        " AND last_update_time >= 0", " AND creation_time > '0'", " AND creation_time = 1.5", " AND name > 'a'",
        " AND tags.n > '1'", " AND tags.n IN ('1', '2')", " AND tags.n IS NULL", " AND tags.n IS NOT NULL",
        " AND tags.missing IS NULL", " AND name IN ('experiments search a')", " AND experiment_id = '0'",
        " AND experiment_id IN ('0')", " AND experiment_id > '0'", " OR name = 'experiments search b'", " AND",
        " AND lifecycle_stage = 'active'", " AND colour = 'x'", " AND params.a = 'b'", " AND metrics.a > 1",
        " AND name = search", " AND name = \"experiments search a\"", " AND name",
        " AND 'experiments search a' = name",
        " and name = 'experiments search a'", " AND name == 'experiments search a'",
        " AND name <> 'experiments search a'", " AND NOT name = 'experiments search a'",
        " AND name = 'experiments search a';", " AND (name = 'experiments search a')",
        " AND name='experiments search a'", " AND name like 'experiments search a'",
        " AND `name` = 'experiments search a'", " AND tags.'n' = '1'",
    ):  # fmt: skip
        wire.post("experiments/search", {"filter": mine + query, "max_results": 10, "order_by": ["name"]})
    for order in (
        ["name"], ["name ASC"], ["name DESC"], ["name desc"], ["experiment_id DESC"], ["creation_time"],
        ["last_update_time DESC", "name"], ["name", "name"], ["colour"], ["name sideways"], [""], [" name "],
        ["tags.n"], ["attribute.name DESC"], ["`name` DESC"], "name", [5], ["lifecycle_stage"],
        ["name,experiment_id"], ["name ASC DESC"], [],
    ):  # fmt: skip
        wire.post("experiments/search", {"filter": mine, "max_results": 10, "order_by": order})
    for limit in (0, -1, 1, 3, 50_000, 50_001, "2", "x", 2.0, 2.5, None, True, 10**20):
        wire.post("experiments/search", {"filter": mine, "max_results": limit, "order_by": ["name"]})
    for view in ("ACTIVE_ONLY", "DELETED_ONLY", "ALL", 1, 2, 3, "1", 0, 4, "active_only", None, "x", True):
        wire.post("experiments/search", {"filter": mine, "view_type": view, "max_results": 10, "order_by": ["name"]})
    token = wire.post("experiments/search", {"filter": mine, "max_results": 2, "order_by": ["name"]}).get(
        "next_page_token"
    )
    for page in (
        token,
        token,
        token + "x",
        "",
        None,
        "x",
        "eyJvZmZzZXQiOiAxMDAwfQ==",
        "eyJvZmZzZXQiOiAtMX0=",
        "e30=",
        5,
    ):
        wire.post("experiments/search", {"filter": mine, "max_results": 2, "order_by": ["name"], "page_token": page})
    wire.post("experiments/delete", {"experiment_id": made[0]})
    for view in ("ACTIVE_ONLY", "DELETED_ONLY", "ALL"):
        wire.get("experiments/search", {"filter": mine, "view_type": view, "max_results": 10, "order_by": "name"})
    wire.get("experiments/search", {"filter": mine, "max_results": 10, "order_by": ["creation_time DESC", "name"]})
    wire.get("experiments/search", {"filter": mine})
    wire.post("experiments/search", {"filter": mine})
    wire.post("experiments/search", {"filter": 5, "max_results": 1})
    wire.post("experiments/search", {"filter": "x", "max_results": 1})
    wire.post("experiments/search", {"filter": "'; DROP TABLE experiment; --", "max_results": 1})
