"""Contracts of datasets on both databases: numbered, checked, and kept from those who would read a broken version."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import everline as el
from everline.access.types import Role
from everline.cli.app import run as everline
from everline.clock import FixedClock, SystemClock
from everline.datasets import contracts
from everline.datasets.types import Contract
from everline.errors import ContractBrokenError, ForbiddenError, InvalidInputError, NotFoundError
from everline.sdk.client import Client

RULES: dict[str, Any] = {
    "owner": "data-engineering",
    "key": ["flight", "day"],
    "columns": {
        "flight": {"type": "int64", "nullable": False},
        "day": {"type": "date", "nullable": False, "min": "2013-01-01"},
        "carrier": {"type": "string", "values": ["UA", "AA"]},
        "distance": {"min": 0, "max": 5000},
    },
}


def flights(**columns: Any) -> pa.Table:
    days = pa.array([15706, 15706, 15707], pa.date32())
    whole = {"flight": [1, 2, 1], "day": days, "carrier": ["UA", None, "AA"], "distance": [100.0, 4983.0, None]}
    return pa.table(whole | columns)


@pytest.fixture
def good(client: Client) -> Client:
    client.datasets.add("flights", flights())
    client.datasets.set_contract("flights", RULES)
    return client


def test_contracts_are_numbered_kept_and_named_once(client: Client, begin: Any) -> None:
    with pytest.raises(NotFoundError, match="There is no dataset"):
        client.datasets.set_contract("flights", RULES)
    client.datasets.add("flights", flights())
    with pytest.raises(NotFoundError, match="has no contract"):
        client.datasets.contract("flights")
    first = client.datasets.set_contract("flights", RULES)
    again = client.datasets.set_contract("flights", RULES)
    second = client.datasets.set_contract("flights", RULES | {"closed": True})
    assert [(one.number, one.created) for one in (first, again, second)] == [(1, True), (1, False), (2, True)]
    assert client.datasets.contract("flights", 1).contract == first.contract
    assert client.datasets.contract("flights").contract.closed
    with pytest.raises(ForbiddenError), begin(role=Role.VIEWER) as uow:
        contracts.set_contract(uow, "default", "flights", Contract(owner="me", key=["flight"]))


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"flight": [1.0, 2.0, 1.0]}, "flight: type int64 asked, float64 seen"),
        ({"flight": [1, None, 2]}, "flight: nullable False asked, 1 of 3 missing seen"),
        ({"day": pa.array([1, 2, 3], pa.date32())}, "day: min 2013-01-01 asked, 1970-01-02 seen"),
        ({"carrier": ["UA", "DL", "AA"]}, "carrier: values ['UA', 'AA'] asked, ['DL'] seen"),
        ({"distance": [-1.0, 2.0, 3.0]}, "distance: min 0 asked, -1.0 seen"),
        ({"distance": [1.0, 2.0, 5200.0]}, "distance: max 5000 asked, 5200.0 seen"),
        ({"flight": [1, 1, 1]}, "key unique asked, 1 of 3 rows repeat flight, day seen"),
        ({"distance": ["far", "near", "x"]}, "distance: min 0 asked, far seen"),
    ],
)
def test_who_declares_the_contract_is_refused_a_version_that_breaks_it(
    good: Client, columns: dict[str, Any], told: str, tmp_path: Path
) -> None:
    good.datasets.add("flights", flights(**columns))
    assert good.datasets.table("flights").num_rows == 3, "who declares nothing reads what there is"
    with pytest.raises(ContractBrokenError) as refused:
        good.datasets.table("flights", contract=True)
    assert told in refused.value.message and "flights@2 breaks contract 1" in refused.value.message
    assert "data-engineering" in (refused.value.hint or "")
    with pytest.raises(ContractBrokenError):
        good.datasets.checkout("flights", tmp_path / "out", contract=1)
    assert not (tmp_path / "out").exists()
    assert good.datasets.table("flights", 1, contract=1).num_rows == 3


def test_many_values_and_further_columns_are_seen(client: Client) -> None:
    client.datasets.add("codes", pa.table({"code": [f"c{n}" for n in range(50)], "extra": [1] * 50}))
    rules = {"owner": "x", "columns": {"code": {"values": [f"c{n}" for n in range(49)]}}}
    client.datasets.set_contract("codes", rules)
    assert [(one.column, one.seen) for one in client.datasets.check("codes").breaches] == [("code", ["c49"])]
    client.datasets.set_contract("codes", {"owner": "x", "columns": {"code": {}}, "closed": True})
    assert [(one.column, one.rule) for one in client.datasets.check("codes").breaches] == [("extra", "closed")]
    client.datasets.set_contract("codes", {"owner": "x", "columns": {"gone": {}}, "key": ["gone"]})
    assert {one.rule for one in client.datasets.check("codes").breaches} == {"column", "key"}


def test_a_version_that_has_grown_old_breaks_freshness(app: Any, begin: Any, client: Client) -> None:
    client.datasets.add("flights", flights())
    client.datasets.set_contract("flights", {"owner": "x", "fresh_within": "36h"})
    assert client.datasets.check("flights").holds
    app.clock = FixedClock(SystemClock().now() + timedelta(hours=40))
    with begin() as uow:
        checked = contracts.check_version(uow, "default", "flights")
    assert [(one.rule, one.asked, one.seen) for one in checked.breaches] == [("fresh_within", "36h", "1.7d")]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"owner": " "}, "names its owner"),
        ({"columns": {}, "key": []}, "promises nothing"),
        ({"columns": {"flight": {"type": "int46"}}, "key": []}, "did you mean 'int64'"),
        ({"key": ["fligth"]}, "did you mean 'flight'"),
        ({"key": ["flight", "flight"]}, "twice"),
        ({"columns": {"flight": {"min": 5, "max": 1}}, "key": []}, "min 5 is above max 1"),
        ({"columns": {"flight": {"min": 5, "max": "x"}}, "key": []}, "not of one kind"),
        ({"columns": {"flight": {"min": [5]}}, "key": []}, "is a number"),
        ({"columns": {"flight": {"values": []}}, "key": []}, "values lists 1 to"),
        ({"fresh_within": "soon"}, "is no duration"),
        ({"fresh_within": "0d"}, "is no duration"),
        ({"colums": {}}, "colums"),
        ({"columns": {"flight": {"typ": "int64"}}}, "typ"),
    ],
)
def test_contracts_that_cannot_be_meant_are_refused(good: Client, change: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        good.datasets.set_contract("flights", RULES | change)
    assert good.datasets.contract("flights").number == 1


def test_a_pipeline_that_declares_a_contract_does_not_start_on_a_broken_version(
    good: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran: list[int] = []

    @el.step
    def count(table: el.Table) -> int:
        ran.append(table.num_rows)
        return int(table.num_rows)

    @el.pipeline
    def counted() -> int:
        return count(el.dataset("flights", contract=True))

    assert good.pipelines.run(counted).status == "finished"
    good.datasets.add("flights", flights(distance=[1.0, 2.0, 9999.0]))
    with pytest.raises(ContractBrokenError, match="distance: max 5000 asked, 9999"):
        good.pipelines.run(counted)
    assert ran == [3]
    assert good.pipelines.run(counted, data={"flights": [1]}).status == "finished"


def test_contracts_on_the_command_line(client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(client.settings.home)]
    client.datasets.add("flights", flights())
    file = tmp_path / "contract.toml"
    file.write_text('owner = "data-engineering"\nkey = ["flight", "day"]\n[columns.distance]\nmax = 5000\n')
    assert everline(["data", "contract", "flights", "--set", str(file), *home]) == 0
    assert "set contract 1 of flights" in capsys.readouterr().out
    assert everline(["data", "check", "flights", *home]) == 0
    client.datasets.add("flights", flights(distance=[1.0, 2.0, 9999.0]))
    capsys.readouterr()
    assert everline(["data", "check", "flights", *home, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["breaches"][0]["column"] == "distance"
    assert everline(["data", "check", "flights", "1", "--contract", "1", *home]) == 0
    assert everline(["data", "contract", "flights", *home]) == 0
    assert everline(["data", "contract", "nothing", *home]) == 2
    file.write_text("owner = ")
    assert everline(["data", "contract", "flights", "--set", str(file), *home]) == 2
    assert "is not TOML" in capsys.readouterr().err


def test_the_page_of_a_version_says_how_it_stands_to_the_contract(good: Client, browser: Any) -> None:
    assert "Whoever declares this contract may read" in browser.get("/datasets/flights/1").text
    good.datasets.add("flights", flights(carrier=["UA", "DL", "AA"]))
    page = browser.get("/datasets/flights/2").text
    assert "data-engineering answers for it" in page and "broken" in page and "DL" in page


def test_infinities_large_numbers_and_lists_are_seen_for_what_they_are(client: Client) -> None:
    large, days = [2**60, 2**60 + 1], pa.array(range(12), pa.date32())
    client.datasets.add("odd", pa.table({"x": [1.0, float("inf")], "n": large, "l": [[1], [2]]}))
    columns = {"x": {"max": 5000}, "n": {"min": 5, "max": 2**50}, "l": {"values": [1]}}
    client.datasets.set_contract("odd", {"owner": "x", "columns": columns, "key": ["l"]})
    seen = {(one.column, one.rule): one.seen for one in client.datasets.check("odd").breaches}
    assert seen == {("x", "max"): "inf", ("n", "max"): 2**60 + 1, ("l", "type"): "list", ("l", "key"): "list"}
    client.datasets.add("days", pa.table({"day": days}))
    allowed = [f"1970-01-{day:02d}" for day in range(1, 13)]
    client.datasets.set_contract("days", {"owner": "x", "columns": {"day": {"values": allowed}}})
    assert client.datasets.check("days").holds
    with pytest.raises(InvalidInputError, match="nan is no limit"):
        client.datasets.set_contract("odd", {"owner": "x", "columns": {"x": {"max": float("nan")}}})


def test_contracts_set_at_the_same_time_get_numbers_of_their_own(app: Any, begin: Any, client: Client) -> None:
    client.datasets.add("flights", flights())

    def keep(number: int) -> int:
        with begin() as uow:
            contract = Contract(owner=f"team {number}", key=["flight"])
            return contracts.set_contract(uow, "default", "flights", contract).number

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(keep, range(6))) == [1, 2, 3, 4, 5, 6]
