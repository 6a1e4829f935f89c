"""The report on a change: the champion on the same rows, the gate's word clause by clause, exit 1 on a missed gate."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from everline.access.types import LOCAL, Actor, Role
from everline.cli.app import run as everline
from everline.cli.scaffold.writing import write_project
from everline.models import comparison
from everline.releases import rollout, service
from everline.releases.types import Plan
from everline.sdk.client import Client
from everline.sdk.reporting import Report
from everline.sdk.scoring.batch import values_of

# Nothing here asks a database itself but the preview, which tests/integration/releases sees on both.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
RAVI = Actor(uid="uid-ravi", name="ravi", roles={"default": frozenset({Role.APPROVER})})


@pytest.fixture
def train(client: Client, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Trains the scaffolded pipeline, under a module name that no other test imports; returns the run."""
    name = f"churn-{abs(hash(request.node.name)) % 10**8}"
    write_project(tmp_path / "project", name=name)
    client.datasets.add("customers", tmp_path / "project/data/customers.csv")
    module = name.replace("-", "_")

    def run(**params: Any) -> str:
        found = client.pipelines.run(f"{module}:{module}", params=params, directory=tmp_path / "project")
        return str(found.run)

    run.name = name  # type: ignore[attr-defined]
    return run


def promote(begin: Callable[..., Any], name: str, version: int) -> None:
    with begin(LOCAL) as uow:
        plan = Plan(canary_share=0)
        release = service.create(uow, project="default", endpoint=name, model=name, version=version, plan=plan)
    with begin(RAVI) as uow:
        service.approve(uow, release.uid)
    with begin(LOCAL) as uow:
        rollout.promote(uow, release.uid)


def test_a_candidate_is_held_against_the_champion_and_the_gate(
    client: Client, begin: Callable[..., Any], train: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, file = str(client.settings.home), tmp_path / "out" / "report.md"

    def report(*options: str) -> tuple[int, Report, str]:
        capsys.readouterr()
        code = everline(["report", "--pr", "-o", str(file), "--home", home, "--json", *options])
        return code, msgspec.json.decode(capsys.readouterr().out, type=Report), file.read_text()

    train(max_iter=40)
    code, first, text = report()  # the newest run, with nothing to compare it with
    assert (code, first.champion, first.gate.value, first.rows) == (0, None, "awaiting_approval", 804)
    assert "may be released" in text and "once approved (0 of 1 approvals" in text
    promote(begin, train.name, 1)

    run = train(max_iter=1)
    code, worse, text = report("--candidate", run, "--slice", "contract")
    assert code == 1 and not worse.passed
    assert (worse.candidate, worse.champion) == (f"{train.name}:2", f"{train.name}:1")
    loss = worse.metrics[0]
    assert (loss.metric, loss.verdict) == ("log_loss", "worse") and loss.low is not None and loss.low > 0.01
    assert any("'no-step-back' of policy 'baseline' says fail" in one for one in worse.missed)
    assert any(one.startswith("log_loss is worse") for one in worse.missed)
    (evidence,) = client.policies.evidence(f"model-version:{client.models.get(train.name, 2).uid}", kind="comparison")
    assert (evidence.body["metric"], evidence.body["low"]) == ("log_loss", pytest.approx(loss.low))
    for part in (f"## ❌ `{train.name}:2` may not be released", "❌ worse", "xychart-beta", "► worse", "3 slices"):
        assert part in text
    table = re.search(r"^\| log_loss ↓ \|.*$", text, re.M)
    assert table is not None and f"{loss.low:+.4f} to {loss.high:+.4f}" in table.group()
    for name in ("report-calibration.svg", "report-roc.svg"):
        assert ElementTree.parse(file.parent / name).getroot().tag.endswith("svg")

    code, live, text = report("--candidate", f"{train.name}:1")
    assert (code, live.live, live.passed) == (0, True, True) and "answers" in text


def test_rows_can_be_named_and_what_is_missing_is_said(
    client: Client, train: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = str(client.settings.home)

    def refused(*options: str) -> str:
        assert everline(["report", "--pr", "--home", home, *options]) == 2
        return capsys.readouterr().err

    assert "registered no model version" in refused()
    train(max_iter=40)
    rows = client.datasets.table("customers").slice(0, 400)
    client.datasets.add_table("some", rows)
    assert everline(["report", "--pr", "--data", "some", "--home", home, "--json"]) == 0
    report = msgspec.json.decode(capsys.readouterr().out, type=Report)
    assert (report.data, report.rows) == ("some@1", 400)
    manifest = client.models.manifest(train.name)
    assert manifest["metadata"]["target"] == "left"
    directory = client.models.export(train.name, directory=tmp_path / "model")
    from everline.models.package import open_package

    predictor = open_package(directory).load()
    names = [field.name for field in predictor.signature.inputs]
    wanted = predictor.predict({name: values_of(rows[name]) for name in names})["probability"]
    losses = comparison.log_losses(rows["left"].to_numpy().astype(float), wanted)
    assert report.metrics[0].candidate == pytest.approx(losses.mean(), abs=1e-12)

    client.datasets.add_table("fewer", rows.drop_columns(["monthly_fee"]))
    assert "takes the column 'monthly_fee'" in refused("--data", "fewer")
    client.datasets.add_table("unjudged", rows.drop_columns(["left"]))
    assert "no column 'left', which is the outcome" in refused("--data", "unjudged")
    assert everline(["report", "--home", home]) == 2
    assert "Say which report" in capsys.readouterr().err
