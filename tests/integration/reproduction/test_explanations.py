"""Changes with planted causes are split among them, by running mixtures of two runs in processes of their own."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from everline.cli.app import run as everline
from everline.errors import InvalidInputError
from everline.governance import evidence
from everline.pipelines.types import StepStatus
from everline.reproduction.explaining.types import CoalitionRun, Explain, Explanation, Finding, Method
from everline.runs.types import Metric
from everline.sdk.client import Client
from everline.sdk.reproduction import Where
from everline.server.application import Application

FLOW = """
import importlib.util

import everline as el

FACTOR = 1.0


@el.step
def total(numbers: el.Table) -> float:
    return float(sum(numbers["x"].to_pylist()))


@el.step
def measure(total: float, weight: float, seed: int) -> dict:
    import random

    luck = 5.0 if importlib.util.find_spec("wheel_of_chance") else 0.0
    return {"metrics": {"loss": total * weight * FACTOR + luck + random.Random(seed).gauss(0, 0.01)}}


@el.pipeline
def flow(weight: float = 1.0, seed: int = 1) -> dict:
    return measure(total(el.dataset("numbers")), weight=weight, seed=seed)


@el.step
def halves(numbers: el.Table, later: int) -> tuple[el.Table, el.Table]:
    return numbers.slice(0, 3), numbers.slice(later, 3)


@el.step
def fit(numbers: el.Table, add: float) -> el.Model:
    from sklearn.dummy import DummyRegressor

    x = numbers.select(["x"]).to_pandas()
    return el.Model(estimator=DummyRegressor(strategy="constant", constant=add).fit(x, x["x"]), features=("x",),
                    target="y")


@el.step
def judge(model: el.Model, numbers: el.Table) -> dict:
    guess = model.estimator.predict(numbers.select(["x"]).to_pandas())
    return {"metrics": {"loss": float(sum(abs(g - y) for g, y in zip(guess, numbers["y"].to_pylist())))}}


@el.step(effect=True)
def announce(found: dict) -> dict:
    return found


@el.pipeline
def judged(later: int = 3, add: float = 0.0) -> dict:
    first, second = halves(el.dataset("numbers"), later=later)
    return announce(judge(fit(first, add=add), second))  # which repeats the metric, and is left out
"""

SUM_1, SUM_2 = 6.0, 10.0

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def project(tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, two versions of its data, and the environment held still."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "everline.toml").write_text("")
    (root / "flow.py").write_text(FLOW)
    for last in (3.0, 7.0):
        client.datasets.add("numbers", pa.table({"x": [1.0, 2.0, last], "y": [1.0, 2.0, last]}))
    pinned = tmp_path / "pinned" / "everline-0.1.0.dist-info"
    pinned.mkdir(parents=True)
    (pinned / "RECORD").write_text("everline/__init__.py,sha256=pinned,1\n")
    monkeypatch.setenv("PYTHONPATH", f"{pinned.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.chdir(root)
    monkeypatch.setenv("EVERLINE_HOME", str(client.settings.home.absolute()))
    return root


Start = Callable[..., str]


@pytest.fixture
def run(project: Path) -> Start:
    """Run a pipeline in a process of its own, with code edited before; gives the run's uid."""

    def start(*options: str, entry: str = "flow:flow", edit: tuple[str, str] | None = None) -> str:
        file = project / "flow.py"
        if edit is not None:
            assert edit[0] in file.read_text()
            file.write_text(file.read_text().replace(*edit))
        done = subprocess.run(
            [sys.executable, "-m", "everline", "run", entry, "--json", *options], capture_output=True, check=True
        )
        return str(msgspec.json.decode(done.stdout)["run"])

    return start


def shares(found: Explanation) -> dict[str, float]:
    assert found.finding is Finding.EXPLAINED, found.reason
    total = math.fsum(share.value for share in found.shares)
    assert found.change is not None and math.isclose(total, found.change, rel_tol=1e-12)
    return {" + ".join(share.components): share.value for share in found.shares}


def test_two_interacting_causes_get_their_shares_and_a_certificate(
    client: Client, app: Application, run: Start
) -> None:
    before = run("--data", "numbers=1")
    after = run("--data", "numbers=1", "--param", "weight=2", "--seed", "2", edit=("FACTOR = 1.0", "FACTOR = 3.0"))
    plan = client.explanations.plan(before, after, seeds=3)
    assert [one.name for one in plan.components] == ["parameter weight", "code", "seed"]
    assert plan.components[1].changes == ("step measure: FACTOR", "file flow.py")
    found = client.explanations.explain(before, after, seeds=3)
    # loss = sum x weight x factor: 6 -> 36; half of the 12 that only both together do is in each share.
    assert shares(found) == pytest.approx({"code": 18.0, "parameter weight": 12.0, "seed": 0.0}, abs=0.1)
    assert [(p.first, p.second) for p in found.interactions] == [("parameter weight", "code")]
    assert found.interactions[0].value == pytest.approx(12.0, abs=0.1)

    made = [client.pipelines.steps(one.run) for one in found.runs]
    computed = Counter(step.key for steps in made for step in steps if step.status is StepStatus.SUCCEEDED)
    assert set(computed.values()) == {1}, "no step was executed twice for the same inputs"
    assert plan.estimate is not None and sum(computed.values()) <= plan.estimate.executions
    detail = client.reproduction.certificate(found.certificate or "")
    assert detail.statement["predicate"]["everline"]["shares"][0]["components"] == ["code"]
    assert {f"run:{before}", f"run:{after}"} < {subject["name"] for subject in detail.statement["subject"]}
    with app.begin() as uow:
        kept = evidence.list_evidence(uow, subject=f"run:{after}", project="default", kind="explanation")
    assert kept[0].body["finding"] == "explained"


@only_sqlite
@pytest.mark.drill
def test_data_alone_and_the_seed_alone(client: Client, run: Start, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = run("--data", "numbers=1"), run("--data", "numbers=2")
    found = client.explanations.explain(before, after, seeds=3, processes=1)
    assert shares(found) == pytest.approx({"data numbers": SUM_2 - SUM_1, "seed": 0.0}, abs=1e-9)
    assert found.components[0].changes == ("column x: other values", "column y: other values")
    other_seed = run("--data", "numbers=1", "--seed", "8")
    assert everline(["explain", before, other_seed, "--seeds", "3", "--processes", "1"]) == 0
    told = capsys.readouterr().out
    assert "within noise\nonly the seed differs in what leads to the metric" in told
    assert "by the seed alone two runs differ by up to 0.0" in told
    unused = run("--data", "numbers=1", "--seed", "9", edit=("def judged", "def judged_by_somebody"))
    found = client.explanations.explain(before, unused, seeds=2, processes=1)
    assert found.finding is Finding.WITHIN_NOISE
    assert [(one.name, one.idle is None) for one in found.components] == [("code", False), ("seed", True)]


@only_sqlite
@pytest.mark.drill
def test_the_environment_alone(client: Client, run: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH")  # an environment that is made has no part that was never installed
    before = run("--data", "numbers=1")
    added = tmp_path / "added" / "wheel_of_chance-2.0.dist-info"
    added.mkdir(parents=True)
    (added.parent / "wheel_of_chance.py").write_text("")
    (added / "RECORD").write_text("wheel_of_chance.py,sha256=2.0,1\n")
    monkeypatch.setenv("PYTHONPATH", str(added.parent))
    after = run("--data", "numbers=2")
    plan = client.explanations.plan(before, after)
    assert [one.name for one in plan.components] == ["data numbers", "environment"]
    assert plan.components[1].changes == ("wheel-of-chance added",)
    # Here is the later environment; the earlier one is made from its record.
    found = client.explanations.explain(before, after, seeds=2, processes=1)
    assert shares(found) == pytest.approx({"environment": 5.0, "data numbers": 4.0, "seed": 0.0}, abs=1e-9)
    here = client.explanations.explain(before, after, seeds=2, environment=Where.HERE)
    assert here.finding is Finding.UNVERIFIABLE
    assert here.reason == "the earlier run cannot be done again: it ran in another environment"


@only_sqlite
@pytest.mark.drill
def test_the_evaluation_set_is_told_from_the_model(client: Client, run: Start) -> None:
    client.datasets.add("numbers", pa.table({"x": [1.0] * 3 + [2.0] * 3 + [9.0] * 3,
                                             "y": [1.0] * 3 + [2.0] * 3 + [9.0] * 3}))  # fmt: skip
    before = run("--data", "numbers=3", entry="flow:judged")
    both = run("--data", "numbers=3", "--param", "later=6", "--param", "add=1", entry="flow:judged")
    found = client.explanations.explain(before, both, processes=1)
    assert shares(found) == {"evaluation set": 21.0, "parameter add": -3.0, "parameter later": 0.0}
    assert found.components[0].changes == ("column x: other values", "column y: other values")


@only_sqlite
@pytest.mark.drill
def test_the_same_rows_with_another_outcome_are_not_comparable(client: Client, run: Start) -> None:
    rows = [1.0] * 3 + [2.0] * 3 + [9.0] * 3
    client.datasets.add("numbers", pa.table({"x": rows, "y": rows}))
    before = run("--data", "numbers=3", entry="flow:judged")
    client.datasets.add("numbers", pa.table({"x": [1.0] * 3 + [2.0] * 3 + [9.0] * 3, "y": [0.0] * 9}))
    relabelled = run("--data", "numbers=4", entry="flow:judged")
    found = client.explanations.explain(before, relabelled)
    assert found.finding is Finding.NOT_COMPARABLE
    assert "same rows with another outcome" in found.reason


@pytest.mark.drill
@only_sqlite
def test_code_and_a_parameter_that_need_each_other_are_one_cause(client: Client, run: Start) -> None:
    before = run("--data", "numbers=1")
    after = run(
        "--data", "numbers=2", "--param", "double=2",
        edit=("def flow(weight: float = 1.0, seed: int = 1) -> dict:",
              "def flow(double: float, weight: float = 1.0, seed: int = 1) -> dict:\n    weight = weight * double"),
    )  # fmt: skip
    found = client.explanations.explain(before, after, seeds=2, method=Method.QUICK)
    assert shares(found) == pytest.approx({"data numbers": 4.0, "parameter double + code": 10.0, "seed": 0.0}, abs=1e-9)
    assert found.shares[0].together is not None and "has no parameter 'double'" in found.shares[0].together


@only_sqlite
def test_what_cannot_be_explained_says_why(client: Client, run: Start) -> None:
    before, after = run("--data", "numbers=1"), run("--data", "numbers=2")
    with pytest.raises(InvalidInputError, match="do not both have a metric 'auc'"):
        client.explanations.plan(before, after, metric="auc")
    with pytest.raises(InvalidInputError, match="differs from itself in nothing"):
        client.explanations.plan(before, before)
    plain = [client.runs.create(experiment="by hand").run for _ in range(2)]
    for uid, value in zip(plain, (1.0, 2.0), strict=True):
        client.runs.log_batch(uid, metrics=[Metric(key="loss", value=value, at_ms=1)])
        client.runs.finish(uid)
    found = client.explanations.explain(plain[0], plain[1])
    assert found.finding is Finding.UNVERIFIABLE
    assert "cannot be done again" in found.reason and "recorded no code" in found.reason
    other = run("--data", "numbers=1", entry="flow:judged")
    found = client.explanations.explain(before, other)
    assert (found.finding, found.reason) == (
        Finding.NOT_COMPARABLE, "one run is of flow:flow, the other of flow:judged",
    )  # fmt: skip
    with pytest.raises(InvalidInputError, match="was not made to explain these two"):
        client.call(
            "POST",
            "/explanations",
            body=Explain(before=before, after=after, metric="loss", runs=[CoalitionRun(taken=(), run=before)]),
            returns=Any,
        )
