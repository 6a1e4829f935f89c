"""Batch scoring: recorded, cached, with lineage, and the same bits as online; a difference names its row."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
import xgboost

from everline.cli.app import run as everline
from everline.errors import IntegrityError, InvalidInputError, NotFoundError
from everline.models.package import Package, build_package
from everline.models.signature_inference import infer_signature
from everline.pipelines.types import StepFailedError
from everline.pipelines.values import RunContext
from everline.sdk.client import Client
from everline.sdk.scoring import batch as scoring
from tests_support.live import Live, small_package

ROWS = 700
TABLE = pa.table(
    {
        "flight": pa.array([f"UA{n}" for n in range(ROWS)]),
        "distance": [100.0 + 7.3 * n for n in range(ROWS)],
        "temp": [None if n % 3 == 0 else n / 7 for n in range(ROWS)],
    }
)
# Nothing here asks a database itself: what datasets, runs and models keep is tested on both where that is written.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return small_package(tmp_path_factory.mktemp("package") / "model")


@pytest.fixture
def registered(begin: Callable[..., Any], package: Package, client: Client) -> Package:
    Live(begin, package)
    client.datasets.add_table("flights", TABLE, label="2013-05")
    return package


def test_predictions_are_a_dataset_version_that_says_what_made_them(
    registered: Package, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    home = str(client.settings.home)
    command = ["score", "flight-delay:1", "flights@2013-05", "--out", "scored", "--sample", "200", "--home", home]
    assert everline([*command, "--json"]) == 0
    answer = msgspec.json.decode(capsys.readouterr().out)
    assert (answer["rows"], answer["checked"], answer["model_version"]) == (ROWS, 200, 1)
    found = client.datasets.table("scored")
    assert found.column_names == ["flight", "probability", "label"]
    wanted = registered.load().predict({name: TABLE[name].to_pylist() for name in ("distance", "temp")})
    assert found["probability"].to_pylist() == wanted["probability"].tolist()
    lineage = client.datasets.lineage("scored")
    assert (lineage.made_by, lineage.step) == (answer["run"], "publish")
    assert client.datasets.version("scored").tags["everline.model"] == "flight-delay/1"
    assert [(use.name, use.version) for use in client.runs.get(answer["run"]).inputs] == [("flights", 1)]

    again = client.models.score("flight-delay", "flights", out="others", sample=200)
    assert (again.digest, again.dataset) == (answer["digest"], "others")
    newest = client.runs.list(limit=1)[0].run
    cached = {one.name: one.cached for one in client.pipelines.steps(newest)}
    assert cached == {"score": True, "check_online": True, "publish": False}


def test_a_booster_is_scored_with_the_bits_of_small_requests_not_of_its_large_ones(
    begin: Callable[..., Any], client: Client, tmp_path: Path
) -> None:
    numbers = TABLE.select(["distance", "temp"]).to_pandas()
    model = xgboost.XGBClassifier(n_estimators=30).fit(
        numbers, numbers["distance"] + 9 * numbers["temp"].fillna(0) > 2000
    )
    booster = build_package(model, flavor="xgboost", signature=infer_signature(numbers), out_dir=tmp_path / "p")
    assert booster.load().runtime_for(ROWS) == "native"
    Live(begin, booster)
    client.datasets.add_table("flights", TABLE)
    assert client.models.score("flight-delay", "flights", out="scored", sample=ROWS).checked == ROWS


@pytest.mark.drill
def test_a_scoring_run_is_rebuilt_with_every_output_the_same(registered: Package, client: Client) -> None:
    client.models.score("flight-delay", "flights", out="scored", sample=50)
    (run,) = client.runs.list(limit=1)
    found = client.reproduction.reproduce(run.run)
    assert found.verdict.value in ("identical", "equivalent"), found.reason
    assert {one.name: one.equal for one in found.steps} == {"score": "bits", "check_online": "bits"}


@pytest.fixture
def step(registered: Package, client: Client, tmp_path: Path) -> Callable[..., Any]:
    """Calls a step of the pipeline as a run would."""
    version = client.models.get("flight-delay", 1)
    context = RunContext(
        run="", origin="", pipeline="", client=client, code="", environment="", environment_recorded=True,
        code_recorded=True, seed=None, folder=tmp_path,
    )  # fmt: skip

    def call(which: Any, *tables: pa.Table, **options: Any) -> Any:
        names = {"package": version.package, "signature": version.signature}
        return which.function(*tables, **names, **options, context=context)

    return call


def test_an_answer_that_is_one_bit_off_stops_the_run_and_names_the_row(step: Callable[..., Any]) -> None:
    scored = step(scoring.score, TABLE, keep=None)
    assert step(scoring.check_online, TABLE, scored, sample=ROWS) == ROWS
    off = scored["probability"].to_pylist()
    off[412] = math.nextafter(off[412], 1.0)
    altered = scored.set_column(1, "probability", pa.array(off))
    with pytest.raises(IntegrityError, match="Row 412: probability is .* in the batch and .* online"):
        step(scoring.check_online, TABLE, altered, sample=ROWS)


def test_what_cannot_be_scored_is_refused_with_the_reason(step: Callable[..., Any], client: Client) -> None:
    wrong = TABLE.set_column(1, "distance", pa.array([None if n == 611 else 1.0 for n in range(ROWS)]))
    client.datasets.add_table("wrong", wrong)
    with pytest.raises(StepFailedError, match="row 611 holds None"):
        client.models.score("flight-delay", "wrong", out="scored")
    with pytest.raises(NotFoundError):
        client.datasets.get("scored")
    with pytest.raises(InvalidInputError, match="lacks the model's input 'distance'"):
        step(scoring.score, TABLE.select(["flight", "temp"]), keep=None)
    with pytest.raises(InvalidInputError, match="an output of the model too"):
        step(scoring.score, TABLE.append_column("label", TABLE["flight"]), keep=None)
    with pytest.raises(InvalidInputError, match="names no model version"):
        client.models.score("flight-delay@", "flights", out="scored")
