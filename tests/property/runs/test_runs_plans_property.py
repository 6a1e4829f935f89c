"""A plan changes how long a search takes, never what it finds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everline.access.types import LOCAL
from everline.config import Settings
from everline.runs import plans, search, service, tracking
from everline.runs.types import Batch, Metric
from everline.server.application import Application

FILTERS = [
    "",
    "metrics.loss < 0.5",
    "metrics.loss != 0.25",
    "metrics.nobody > 1",
    "metrics.rare >= 0",
    "params.depth = '3'",
    "params.depth != '3' AND metrics.loss > 0.1",
    "params.depth LIKE '%'",
    "params.depth IS NULL",
    "tags.team = 'red' AND metrics.auc <= 0.75",
    "tags.team IS NOT NULL AND params.depth ILIKE '3%'",
]
ORDERS = [
    ["metrics.loss ASC"],
    ["metrics.loss DESC", "start_time ASC"],
    ["metrics.rare DESC"],
    ["params.depth ASC", "metrics.loss DESC"],
    ["start_time DESC"],
    [],
]


@pytest.fixture(scope="module")
def app(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory):
    home = tmp_path_factory.mktemp("plans")
    (home / "everline.db").write_bytes(sqlite_template.read_bytes())
    application = Application(Settings(home=home, worker=False))
    draw = random.Random(7)
    with application.begin(LOCAL) as uow:
        for n in range(120):
            run = service.create_run(uow, "default", experiment=f"e{n % 2}", started_ms=1000 + n // 3).run
            values = {"loss": draw.choice([0.25, 0.5, draw.random(), float("nan"), float("inf")]), "auc": draw.random()}
            if n % 17 == 0:
                values["rare"] = draw.random()
            if n % 11 == 0:
                values = {}
            metrics = [Metric(key=key, value=value, at_ms=1) for key, value in values.items()]
            params = {"depth": str(draw.randint(1, 30))} if n % 5 else {}
            tags = {"team": draw.choice(["red", "blue"])} if n % 3 else {}
            tracking.log_many(uow, "default", [Batch(run=run, metrics=metrics, params=params, tags=tags)])
            if n % 13 == 0:
                service.delete_run(uow, "default", run)
    yield application
    application.close()


@given(
    wanted=st.sampled_from(FILTERS),
    order_by=st.sampled_from(ORDERS),
    experiments=st.sampled_from([[1], [2], [1, 2]]),
    offset=st.integers(0, 60),
    limit=st.integers(1, 40),
    few=st.sampled_from([0, 3, 20]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_plan_finds_the_same(app, wanted, order_by, experiments, offset, limit, few):
    asked = {"experiments": experiments, "filter": wanted, "order_by": order_by, "offset": offset, "limit": limit}
    with app.begin(LOCAL, read_only=True) as uow, pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "FEW", few)
        planned, after = search.search_runs(uow, "default", **asked)
        patch.setattr(plans, "choose", lambda *_args, **_options: plans.Plan())
        general, expected_after = search.search_runs(uow, "default", **asked)
    assert [run.run for run in planned] == [run.run for run in general]
    assert after == expected_after
