"""A/B and shadows on logged traffic, on both databases; questions to the log in SQL."""

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

import everline as el
from everline.access.types import Actor, Role
from everline.cli.app import cli
from everline.errors import ConflictError, InvalidInputError
from everline.ids import new_uid
from everline.releases import experiments, rollout, shadows
from everline.serving import feedback, predictions
from everline.serving import service as serving
from everline.serving.types import Outcome
from tests_support.segments import flights, segment

MACHINE = Actor(uid="machine", name="machine", roles={"*": frozenset({Role.DATAPLANE})})
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What no database does differently."""


@pytest.fixture
def log(world):
    """Logs one row per probability as answered by a revision; gives the prediction ids."""

    def write(revision, probabilities, *, keys=None, role="primary", primary=None, outcomes=None):
        rows = [
            {**one, "outputs": {"probability": float(p), "label": bool(p > 0.5)}, "row": 0, "request": new_uid()}
            for one, p in zip(flights(len(probabilities)), probabilities, strict=True)
        ]
        n = len(rows)
        text = {"role": [role] * n, "primary": primary or [None] * n, "key": keys or [None] * n}
        more = {name: pa.array(values, pa.string()) for name, values in text.items()}
        data, ids = segment(rows, at=world.clock.now(), revision=revision, change=more)
        with world.begin(MACHINE) as uow:
            predictions.add_segment(uow, data, project="default", endpoint="flight-delay")
        if outcomes is not None:
            items = [Outcome(prediction=uid, outcome=bool(y)) for uid, y in zip(ids, outcomes, strict=True)]
            with world.begin() as uow:
                feedback.log_feedback(uow, items, project="default", endpoint="flight-delay")
        return ids

    return write


@pytest.fixture
def halves(world):
    """An endpoint with a canary of one half; the uids of primary and canary."""
    world.promoted()
    canary = world.do(rollout.start_canary, world.challenger(share=0.5).uid)
    with world.begin() as uow:
        primary = serving.get_endpoint(uow, "flight-delay", project="default").revisions[0]
    return primary.revision, canary.revision


def compare(world, **options):
    with world.begin(role=Role.VIEWER) as uow:
        return experiments.compare_revisions(uow, "flight-delay", project="default", **options)


@ON_SQLITE
def test_outcomes_of_requests_are_compared_as_proportions(world, halves, log):
    primary, canary = halves
    random = np.random.default_rng(4)
    log(primary, random.random(900), outcomes=random.random(900) < 0.20)
    log(canary, random.random(880), outcomes=random.random(880) < 0.32)
    found = compare(world)
    assert (found.unit, found.method, found.verdict) == ("request", "newcombe", "higher")
    assert (found.primary.n, found.canary.n) == (900, 880)
    assert found.low < 0.12 < found.high
    assert found.ratio_p_value > 0.001
    same = compare(world, metric="probability")
    assert (same.method, same.verdict) == ("welch", "no difference shown")
    assert compare(world, metric="loss").method == "welch"
    with pytest.raises(InvalidInputError) as caught:
        compare(world, metric="nothing")
    assert "probability" in caught.value.hint


@ON_SQLITE
def test_rows_of_one_key_count_once_and_a_wrong_ratio_is_told_first(world, halves, log):
    primary, canary = halves
    random = np.random.default_rng(6)
    for revision, people in ((primary, 60), (canary, 55)):
        taste = np.repeat(random.random(people), 50)  # what a person gets is always alike
        log(revision, taste, keys=[f"{revision[-4:]}-{n // 50}" for n in range(50 * people)])
    found = compare(world, metric="probability")
    assert (found.unit, found.primary.units, found.primary.n, found.primary.rows) == ("key", 60, 60, 3000)
    assert found.high - found.low > 0.15  # 3,000 rows taken for independent would say 0.03
    log(primary, random.random(3000), keys=[f"late-{n}" for n in range(3000)])
    off = compare(world, metric="probability")
    assert off.verdict == "divided otherwise"
    assert "find out why" in off.text


@ON_SQLITE
def test_nothing_is_said_of_too_few_units_or_without_a_canary(world, halves, log):
    log(halves[0], [0.5] * 20, outcomes=[True] * 20)
    few = compare(world)
    assert (few.verdict, few.difference, few.canary.rows) == ("too few", None, 0)
    world.do(rollout.promote, world_release(world, halves[1]))
    with pytest.raises(ConflictError, match="no canary"):
        compare(world)


def world_release(world, revision):
    with world.begin() as uow:
        return serving.get_revision(uow, revision, project="default").release


@ON_SQLITE
def test_a_shadow_is_compared_row_by_row_and_stays_out_of_everything_else(world, log):
    world.promoted()
    release = world.do(rollout.start_shadow, world.challenger(share=0.0).uid)
    with world.begin() as uow:
        primary = serving.get_endpoint(uow, "flight-delay", project="default").revisions[0].revision
    answered = np.linspace(0.1, 0.9, 50)
    ids = log(primary, answered)
    said = answered.copy()
    said[7] += 0.3
    log(release.revision, said, role="shadow", primary=ids)
    log(release.revision, [0.5], role="shadow", primary=[new_uid()])
    with world.begin(role=Role.VIEWER) as uow:
        found = shadows.compare_shadow(uow, "flight-delay", project="default")
        listed = predictions.list_predictions(uow, "flight-delay", project="default", limit=1000)
        window = predictions.newest(uow, "flight-delay", project="default", limit=1000)
    assert (found.rows, found.unanswered) == (50, 1)
    probability = next(one for one in found.outputs if one.output == "probability")
    assert (probability.equal, round(probability.largest, 6)) == (49, 0.3)
    assert found.furthest[-1].prediction == ids[7]
    assert {one.output for one in found.furthest} == {"probability"} | (
        {"label"} if said[7] > 0.5 > answered[7] else set()
    )
    assert {one.prediction for one in listed} == set(window["prediction"].to_pylist()) == set(ids)
    with world.begin() as uow:
        one = predictions.get_prediction(uow, found.furthest[-1].shadow, project="default")
    assert (one.role, one.primary) == ("shadow", ids[7])


@ON_SQLITE
def test_the_log_is_asked_in_sql(world, halves, log, settings, monkeypatch):
    primary, canary = halves
    log(primary, [0.2, 0.4])
    ids = log(canary, [0.9], outcomes=[True])
    monkeypatch.setenv("EVERLINE_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("EVERLINE_WORKER", "false")
    monkeypatch.setenv("EVERLINE_HOME", str(settings.home))
    sql = 'SELECT version, count(*) AS n, max("out.probability") AS p FROM predictions GROUP BY ALL ORDER BY ALL'
    result = CliRunner().invoke(cli, ["predictions", "query", "flight-delay", sql, "--json"])
    assert result.exit_code == 0, result.output
    assert msgspec.json.decode(result.stdout) == [{"version": 1, "n": 2, "p": 0.4}, {"version": 2, "n": 1, "p": 0.9}]
    relation = el.predictions("flight-delay")
    assert relation.filter("outcome = 1").project("prediction").fetchall() == [(ids[0],)]
    with el.connect() as client:
        assert client.predictions.query("SELECT * FROM shadows", "flight-delay").num_rows == 0
        with pytest.raises(InvalidInputError, match="nowhere"):
            client.predictions.query("SELECT * FROM nowhere", "flight-delay")


@ON_SQLITE
def test_a_segment_that_mixes_shadows_with_answers_is_refused(world):
    world.promoted()
    for roles, primaries, says in (
        (["shadow", "primary"], [new_uid(), new_uid()], "mixed"),
        (["shadow", "shadow"], [new_uid(), None], "names no prediction"),
    ):
        more = {"role": pa.array(roles), "primary": pa.array(primaries, pa.string())}
        data, _ = segment(flights(2), at=world.clock.now(), change=more)
        with world.begin(MACHINE) as uow, pytest.raises(InvalidInputError, match=says):
            predictions.add_segment(uow, data, project="default", endpoint="flight-delay")
