"""The model registry: models, versions, aliases, tags, stages, search."""

from __future__ import annotations

from typing import Any

from wire import Wire

MODELS, VERSIONS = "registered-models/", "model-versions/"


def _name(wire: Wire, name: str) -> str:
    return f"{wire.name} {name}"


def _model(wire: Wire, name: str, **fields: Any) -> str:
    full = _name(wire, name)
    wire.post(MODELS + "create", {"name": full, **fields})
    return full


def _version(wire: Wire, name: str, **fields: Any) -> Any:
    return wire.post(VERSIONS + "create", {"name": name, "source": "s3://bucket/model", **fields})


def models(wire: Wire) -> None:
    name = _model(wire, "m", description="what it is for", tags=[{"key": "a", "value": "1"}, {"key": "b", "value": ""}])
    _model(wire, "m")
    _model(wire, "empty", description="")
    _model(wire, "null", description=None, tags=None)
    _model(wire, "twice", tags=[{"key": "a", "value": "1"}, {"key": "a", "value": "2"}])
    for body in (
        {},
        {"name": ""},
        {"name": None},
        {"name": 5},
        {"name": ["x"]},
        {"name": "a/b"},
        {"name": "a:b"},
        {"name": _name(wire, "x"), "tags": "x"},
        {"name": _name(wire, "x"), "tags": [{}]},
        {"name": _name(wire, "x"), "tags": [{"key": "k" * 251, "value": "x"}]},
        {"name": _name(wire, "x"), "tags": [{"key": "", "value": "x"}]},
        {"name": _name(wire, "x"), "description": 5},
    ):
        wire.post(MODELS + "create", body)
    for odd in ("ä ö 漢字", "a b", "a.b", "a@b", "a%2Fb", "'quoted'", "-", "latest"):
        wire.get(MODELS + "get", {"name": _model(wire, odd)})
    wire.get(MODELS + "get", {"name": name})
    wire.get(MODELS + "get", {"name": _name(wire, "none")})
    wire.get(MODELS + "get")
    wire.get(MODELS + "get", {"name": ""})


def models_change(wire: Wire) -> None:
    name, other = _model(wire, "one"), _model(wire, "other")
    for body in (
        {"name": name, "description": "two"},
        {"name": name},
        {"name": name, "description": ""},
        {"name": name, "description": None},
        {"name": _name(wire, "none"), "description": "x"},
        {},
        {"name": name, "description": 5},
    ):
        wire.call("PATCH", MODELS + "update", json=body)
        wire.get(MODELS + "get", {"name": name})
    for body in (
        {"name": name, "new_name": other},
        {"name": name, "new_name": name},
        {"name": name, "new_name": ""},
        {"name": name},
        {"name": name, "new_name": "a/b"},
        {"name": _name(wire, "none"), "new_name": _name(wire, "new")},
        {"new_name": "x"},
        {"name": name, "new_name": _name(wire, "renamed")},
    ):
        wire.post(MODELS + "rename", body)
    wire.get(MODELS + "get", {"name": name})
    renamed = _name(wire, "renamed")
    for body in (
        {"name": renamed, "key": "a", "value": "1"},
        {"name": renamed, "key": "a", "value": "2"},
        {"name": renamed, "key": "b"},
        {"name": renamed, "value": "x"},
        {"name": renamed, "key": "", "value": "x"},
        {"name": renamed, "key": "k" * 251, "value": "x"},
        {"name": renamed, "key": "../x", "value": "x"},
        {"name": _name(wire, "none"), "key": "a", "value": "1"},
        {"key": "a", "value": "1"},
        {"name": renamed, "key": "n", "value": 5},
    ):
        wire.post(MODELS + "set-tag", body)
    wire.get(MODELS + "get", {"name": renamed})
    for body in ({"name": renamed, "key": "a"}, {"name": renamed, "key": "a"}, {"name": renamed}, {"key": "a"}):
        wire.call("DELETE", MODELS + "delete-tag", json=body)
    for body in ({"name": other}, {"name": other}, {}, {"name": ""}):
        wire.call("DELETE", MODELS + "delete", json=body)
    wire.get(MODELS + "get", {"name": other})
    _model(wire, "other")


def versions(wire: Wire) -> None:
    name = _model(wire, "m")
    run = wire.run(wire.experiment(), run_name="r")
    _version(wire, name, run_id=run, description="first", tags=[{"key": "a", "value": "1"}], run_link="http://x/1")
    _version(wire, name)
    _version(wire, name, description="", run_id="")
    _version(wire, name, description=None, run_id=None, tags=None, model_id=None, run_link=None)
    for fields in (
        {"source": ""},
        {"source": None},
        {"source": 5},
        {"tags": "x"},
        {"tags": [{"key": "k" * 251, "value": "x"}]},
        {"run_id": 5},
        {"description": 5},
        {"source": "/etc"},
        {"source": "file:///etc"},
        {"source": "s3://b/../x"},
        {"source": "runs:/" + "0" * 32 + "/model"},
        {"source": "models:/" + name + "/9"},
        {"source": "models:/none/1"},
        {"source": "models:/m-" + "0" * 32},
        {"source": "models:/x"},
        {"source": "models://host/x/1"},
        {"source": "dbfs:/x"},
        {"source": "mlflow-artifacts:/9/x/artifacts/m"},
        {"source": "a/b"},
        {"name": ""},
        {"name": _name(wire, "none")},
    ):
        wire.post(VERSIONS + "create", {"name": name, "source": "s3://bucket/model", **fields})
    for number in ("1", "2", "3", "4", "9", "0", "-1", "x", "1.5", "", "+1", " 1", "latest", "99999999999999999999"):
        wire.get(VERSIONS + "get", {"name": name, "version": number})
    wire.get(VERSIONS + "get", {"name": name})
    wire.get(VERSIONS + "get", {"version": "1"})
    wire.get(VERSIONS + "get", {"name": _name(wire, "none"), "version": "1"})
    for number in ("1", "9", "x"):
        wire.get(VERSIONS + "get-download-uri", {"name": name, "version": number})
    copy = _model(wire, "copy")
    _version(wire, copy, source=f"models:/{name}/1")
    _version(wire, copy, source=f"models:/{name}/latest")
    _version(wire, copy, source=f"models:/{name}/1", run_id="other")
    wire.get(VERSIONS + "get", {"name": copy, "version": "1"})
    wire.get(VERSIONS + "get-download-uri", {"name": copy, "version": "1"})
    wire.get(MODELS + "get", {"name": name})


def versions_change(wire: Wire) -> None:
    name = _model(wire, "m")
    for _ in range(3):
        _version(wire, name)
    for body in (
        {"name": name, "version": "1", "description": "x"},
        {"name": name, "version": 1, "description": ""},
        {"name": name, "version": "1"},
        {"name": name, "version": "9", "description": "x"},
        {"name": name, "description": "x"},
        {"version": "1", "description": "x"},
        {"name": name, "version": "x", "description": "x"},
    ):
        wire.call("PATCH", VERSIONS + "update", json=body)
    for body in (
        {"name": name, "version": "1", "key": "a", "value": "1"},
        {"name": name, "version": "1", "key": "a", "value": "2"},
        {"name": name, "version": "1", "key": "b"},
        {"name": name, "version": "1", "value": "x"},
        {"name": name, "version": "9", "key": "a", "value": "1"},
        {"name": name, "key": "a", "value": "1"},
        {"name": name, "version": "1", "key": "k" * 251, "value": "x"},
        {"name": name, "version": "latest", "key": "a", "value": "1"},
    ):
        wire.post(VERSIONS + "set-tag", body)
    wire.get(VERSIONS + "get", {"name": name, "version": "1"})
    for body in (
        {"name": name, "version": "1", "key": "a"},
        {"name": name, "version": "1", "key": "a"},
        {"name": name, "version": "9", "key": "a"},
    ):
        wire.call("DELETE", VERSIONS + "delete-tag", json=body)
    for body in (
        {"name": name, "version": "2"},
        {"name": name, "version": "2"},
        {"name": name},
        {"version": "1"},
        {"name": name, "version": "x"},
    ):
        wire.call("DELETE", VERSIONS + "delete", json=body)
    wire.get(VERSIONS + "get", {"name": name, "version": "2"})
    _version(wire, name)
    wire.get(MODELS + "get", {"name": name})


def aliases(wire: Wire) -> None:
    name = _model(wire, "m")
    for _ in range(2):
        _version(wire, name)
    for body in (
        {"name": name, "alias": "champion", "version": "1"},
        {"name": name, "alias": "second", "version": 1},
        {"name": name, "alias": "champion", "version": "2"},
        {"name": name, "alias": "latest", "version": "1"},
        {"name": name, "alias": "v1", "version": "1"},
        {"name": name, "alias": "V22", "version": "1"},
        {"name": name, "alias": "v1x", "version": "1"},
        {"name": name, "alias": "a b", "version": "1"},
        {"name": name, "alias": "a.b", "version": "1"},
        {"name": name, "alias": "-", "version": "1"},
        {"name": name, "alias": "9", "version": "1"},
        {"name": name, "alias": "", "version": "1"},
        {"name": name, "alias": "x" * 255, "version": "1"},
        {"name": name, "alias": "x" * 256, "version": "1"},
        {"name": name, "alias": "x", "version": "9"},
        {"name": name, "alias": "x", "version": "x"},
        {"name": name, "alias": "x"},
        {"name": name, "version": "1"},
        {"alias": "x", "version": "1"},
        {"name": _name(wire, "none"), "alias": "x", "version": "1"},
    ):
        wire.post(MODELS + "alias", body)
    wire.get(MODELS + "get", {"name": name})
    for number in ("1", "2"):
        wire.get(VERSIONS + "get", {"name": name, "version": number})
    for alias in ("champion", "none", "", "a b", "x" * 256):
        wire.get(MODELS + "alias", {"name": name, "alias": alias})
    wire.get(MODELS + "alias", {"name": name})
    wire.get(MODELS + "alias", {"name": _name(wire, "none"), "alias": "x"})
    wire.get(VERSIONS + "search", {"filter": f"name = '{name}'"})
    for body in (
        {"name": name, "alias": "champion"},
        {"name": name, "alias": "champion"},
        {"name": name},
        {"alias": "x"},
    ):
        wire.call("DELETE", MODELS + "alias", json=body)
    wire.call("DELETE", VERSIONS + "delete", json={"name": name, "version": "1"})
    wire.get(MODELS + "get", {"name": name})


def stages(wire: Wire) -> None:
    name = _model(wire, "m")
    for _ in range(3):
        _version(wire, name)
    for version, stage, archive in (
        ("1", "Production", False),
        ("2", "production", True),
        ("3", "Staging", "true"),
        ("1", "none", False),
        ("1", "x", False),
        ("1", "Archived", True),
        ("1", "", False),
        ("9", "Staging", False),
        ("1", None, False),
        ("1", "Staging", None),
    ):
        body = {"name": name, "version": version, "stage": stage, "archive_existing_versions": archive}
        wire.post(VERSIONS + "transition-stage", body)
    for body in (
        {"name": name},
        {"name": name, "stages": ["Production"]},
        {"name": name, "stages": ["staging", "None"]},
        {"name": name, "stages": ["x"]},
        {"name": name, "stages": []},
        {},
        {"name": _name(wire, "none")},
    ):
        wire.post(MODELS + "get-latest-versions", body)
    wire.get(MODELS + "get-latest-versions", {"name": name})
    wire.get(MODELS + "get-latest-versions", {"name": name, "stages": "Production"})


def search(wire: Wire) -> None:
    mine = wire.name.replace(" ", "_")
    for letter in "badc":
        wire.post(MODELS + "create", {"name": f"{mine}-{letter}", "tags": [{"key": "letter", "value": letter}]})
        for _ in range(2):
            _version(wire, f"{mine}-{letter}", tags=[{"key": "of", "value": letter}])
    within = f"name LIKE '{mine}-%'"
    for filter_text in (
        within,
        f"name = '{mine}-a'",
        f"name != '{mine}-a' and {within}",
        f"name ILIKE '{mine.upper()}-_'",
        f"{within} AND tags.letter = 'a'",
        f"{within} AND tags.letter != 'a'",
        f"{within} AND tag.`letter` LIKE '%'",
        f"{within} AND tags.none = 'x'",
        "name",
        "name =",
        "name = x",
        "name > 'a'",
        "x = 'y'",
        "name IN ('a')",
        "tags.letter IN ('a')",
        "name = 'a' OR name = 'b'",
        "name = 'a' and",
        "attribute.name = 'x'",
        "name LIKE 5",
        "\"name\" = 'x'",
        "run_id = 'x'",
        "name = 'it''s'",
        "version_number = 1",
    ):
        wire.get(MODELS + "search", {"filter": filter_text})
    for order in (
        ["name DESC"],
        ["name"],
        ["last_updated_timestamp ASC", "name DESC"],
        ["creation_timestamp"],
        ["x"],
        ["name down"],
        ["name", "name"],
        [""],
    ):
        wire.get(MODELS + "search", {"filter": within, "order_by": order})
    first = wire.get(MODELS + "search", {"filter": within, "max_results": 3})
    wire.get(
        MODELS + "search",
        {"filter": within, "max_results": 3, "page_token": first.get("next_page_token", "")},
        shown={"page": 2},
    )
    for limit in ("0", "-1", "1001", "1000", "x", "1.5"):
        wire.get(MODELS + "search", {"filter": f"name = '{mine}-a'", "max_results": limit})
    wire.get(MODELS + "search", {"page_token": "x"})
    for filter_text in (
        f"name = '{mine}-a'",
        within,
        f"{within} and version_number > 1",
        f"{within} and version_number = 'x'",
        f"{within} and tags.of = 'b'",
        f"{within} and run_id = 'x'",
        f"{within} and run_id IN ('x', 'y')",
        f"{within} and source_path LIKE 's3%'",
        f"{within} and source_path = 'x'",
        f"{within} and run_id != 'x'",
        "x = 'y'",
        "version_number = 1 or name = 'x'",
        "run_id IN ()",
        "name",
        "version = 1",
    ):
        wire.get(VERSIONS + "search", {"filter": filter_text, "order_by": ["name ASC", "version_number ASC"]})
    for order in (
        ["name DESC", "version_number DESC"],
        ["version_number"],
        ["x"],
        ["creation_timestamp ASC", "name", "version_number"],
    ):
        wire.get(VERSIONS + "search", {"filter": within, "order_by": order})
    for limit in ("0", "-1", "200001", "x"):
        wire.get(VERSIONS + "search", {"filter": within, "max_results": limit})
    wire.get(VERSIONS + "search", {"filter": within, "page_token": "x"})
