"""A candidate is asked what was asked before: flips, intervals, slices, and a signed report, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from everline.access.types import Role
from everline.cli.app import run as everline
from everline.errors import InvalidInputError
from everline.governance import evidence
from everline.models import service as models
from everline.models.package import Package, build_package, store_package
from everline.models.signature_inference import infer_signature
from everline.sdk.client import Client
from everline.server.application import Application
from everline.serving import feedback
from everline.serving.types import Outcome
from tests_support.live import Live, small_package, someone
from tests_support.registry import attest

ROWS = 300


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return small_package(tmp_path_factory.mktemp("package") / "model")


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A candidate that knows the truth of the log better: late from 4,000 miles on."""
    random = np.random.default_rng(4)
    table = pd.DataFrame({"distance": random.uniform(80, 12_000, 600), "temp": random.normal(10, 9, 600)})
    table.loc[::7, "temp"] = np.nan
    model = HistGradientBoostingClassifier(max_iter=15, random_state=0).fit(table, table["distance"] > 4_000)
    folder = tmp_path_factory.mktemp("another") / "model"
    return build_package(model, signature=infer_signature(table), out_dir=folder)


@pytest.fixture
def logged(begin: Callable[..., Any], package: Package, another: Package) -> list[str]:
    """Predictions of the first version with their outcomes, and a second version that waits."""
    live = Live(begin, package)
    ids = live.log(ROWS)
    with begin(someone("maya", Role.CONTRIBUTOR)) as uow:
        store_package(another, put_bytes=uow.blobs.put_bytes, put_file=uow.blobs.put_file)
        attest(uow, models.register(uow, project="default", model="flight-delay", package=another.digest))
    with begin() as uow:
        outcomes = [Outcome(prediction=uid, outcome=100.0 + 37 * n > 4_000) for n, uid in enumerate(ids)]
        feedback.log_feedback(uow, outcomes, project="default", endpoint="flight-delay")
    return ids


def test_a_candidate_is_held_against_what_was_answered(client: Client, app: Application, logged: list[str]) -> None:
    report = client.backtests.run("flight-delay/2", endpoint="flight-delay", slices=["temp"], by_day=False)
    assert (report.n, report.answered_by, report.known) == (ROWS, {"flight-delay/1": ROWS}, ROWS)
    # The first version says late from about 2,000 miles on, the truth is 4,000: all between are wrong, and flip.
    wrong = sum(100.0 + 37 * n <= 4_000 and client.predictions.get(uid).outputs["label"]
                for n, uid in list(enumerate(logged))[:110])  # fmt: skip
    (count,) = report.counts
    assert (count.before, count.after, count.right, count.wrong) == (True, False, count.count, 0)
    assert abs(report.flipped - wrong) <= 3
    assert report.flipped_low is not None and report.flipped_high is not None
    assert report.flipped_low < report.flipped / ROWS < report.flipped_high
    assert report.mcnemar_p is not None and report.mcnemar_p < 1e-9
    assert report.comparison is not None and report.comparison.verdict == "better"
    assert [one.output for one in report.shifts] == ["probability"] and report.shifts[0].high < 0
    assert report.flips[0].prediction in logged and report.flips[0].outcome == 0.0
    detail = client.reproduction.certificate(report.certificate or "")
    assert detail.statement["predicate"]["everline"]["flipped"] == report.flipped
    with app.begin() as uow:
        version = models.get_version(uow, "default", "flight-delay", 2)
        kept = evidence.list_evidence(uow, subject=version.subject, project="default", kind="backtest")
    assert (kept[0].body["verdict"], kept[0].body["flipped"]) == ("better", report.flipped)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_command_says_what_flips_and_what_cannot_be_asked(
    client: Client, logged: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERLINE_HOME", str(client.settings.home.absolute()))
    assert everline(["backtest", "flight-delay/2", "--endpoint", "flight-delay", "--flips", "2"]) == 0
    told = capsys.readouterr().out
    assert f"flight-delay/2 on {ROWS} predictions of flight-delay\nanswered by flight-delay/1 ({ROWS})" in told
    assert "True → False" in told and "exact McNemar test of the labels: p " in told
    itself = client.backtests.run("flight-delay/1", endpoint="flight-delay", certify=False)
    assert (itself.flipped, itself.counts, itself.mcnemar_p, itself.certificate) == (0, (), 1.0, None)
    assert itself.comparison is not None and itself.comparison.verdict == "no difference shown"

    tomorrow = datetime.now(UTC) + timedelta(days=1)
    with pytest.raises(InvalidInputError, match="answered nothing in this span"):
        client.backtests.run("flight-delay/2", endpoint="flight-delay", since=tomorrow)
    with pytest.raises(InvalidInputError, match="have no input 'colour'"):
        client.backtests.run("flight-delay/2", endpoint="flight-delay", slices=["colour"])
    body = {"endpoint": "flight-delay", "model": "flight-delay", "version": 2, "outputs": {}}
    with pytest.raises(InvalidInputError, match="has no prediction"):
        client.call("POST", "/backtests", body={**body, "predictions": ["nobody"]}, returns=Any)
    with pytest.raises(InvalidInputError, match="1 answers for 2 predictions"):
        client.call(
            "POST",
            "/backtests",
            body={**body, "predictions": logged[:2], "outputs": {"label": [True]}},
            returns=Any,
        )


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_rows_that_a_candidate_refuses_do_not_speak_for_the_others(
    client: Client, begin: Callable[..., Any], package: Package, another: Package, tmp_path: Path
) -> None:
    live = Live(begin, package)
    live.log(20)
    strict = pd.DataFrame({"distance": [1.0, 2.0] * 20, "temp": [1.0, 3.0] * 20})
    model = HistGradientBoostingClassifier(max_iter=2).fit(strict, [True, False] * 20)
    made = build_package(model, signature=infer_signature(strict), out_dir=tmp_path / "strict")
    with begin(someone("maya", Role.CONTRIBUTOR)) as uow:
        store_package(made, put_bytes=uow.blobs.put_bytes, put_file=uow.blobs.put_file)
        attest(uow, models.register(uow, project="default", model="flight-delay", package=made.digest))
    report = client.backtests.run("flight-delay", endpoint="flight-delay")
    assert (report.n, report.refused) == (13, 7), "every third had no temperature, which it must have"
    assert "temp" in (report.why_refused or "")
    assert report.why_no_comparison == "no outcome is known yet"
