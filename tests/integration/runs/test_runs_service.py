"""Runs and experiments over the real database."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from everline.access.types import Role
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from everline.runs import experiments, search, service, tracking
from everline.runs.types import Metric, RunInput, RunOutput, RunStatus, View

Begin = Callable[..., AbstractContextManager[UnitOfWork]]
PROJECT = "default"
INPUT = RunInput(name="flights", digest="sha256:" + "a" * 64, version=2, context="training")


def point(key: str, value: float, *, step: int = 0, at_ms: int = 1) -> Metric:
    return Metric(key=key, value=value, step=step, at_ms=at_ms)


def search_names(begin: Begin, text: str = "", *, order_by: tuple[str, ...] = (), experiment: int = 0) -> list[str]:
    with begin() as uow:
        found, _ = search.search_runs(uow, PROJECT, experiments=[experiment], filter=text, order_by=order_by)
    return [run.name for run in found]


def test_a_run_comes_back_as_it_was_logged(begin: Begin) -> None:
    with begin() as uow:
        uid = service.create_run(
            uow, PROJECT, experiment="flights", name="first", pipeline="m:p", params={"depth": "6"}, tags={"team": "x"}
        ).run
        tracking.log_batch(
            uow,
            PROJECT,
            uid,
            metrics=[point("auc", 0.7, step=1), point("auc", 0.8, step=2), point("loss", math.nan)],
            params={"rate": "0.1"},
            inputs=[INPUT],
            outputs=[RunOutput(name="model", kind="model", digest="sha256:" + "b" * 64)],
        )
        service.finish_run(uow, PROJECT, uid)
    with begin() as uow:
        run = service.get_run(uow, PROJECT, uid)
    assert (run.experiment, run.pipeline, run.status) == ("flights", "m:p", RunStatus.FINISHED)
    assert run.params == {"depth": "6", "rate": "0.1"}
    assert run.metrics == {"auc": 0.8, "loss": None}
    assert run.tags == {"team": "x", "mlflow.runName": "first"}
    assert run.inputs == [INPUT]
    assert [output.name for output in run.outputs] == ["model"]
    assert run.ended_at is not None and run.ended_at >= run.started_at
    assert len(uid) == 32


def test_a_parameter_never_changes_and_nothing_of_the_batch_stays(begin: Begin) -> None:
    with begin() as uow:
        uid = service.create_run(uow, PROJECT, params={"depth": "6"}).run
    with pytest.raises(InvalidInputError, match="not allowed"), begin() as uow:
        tracking.log_batch(
            uow, PROJECT, uid, metrics=[point("auc", 1)], params={"depth": "7", "rate": "1"}, tags={"a": "b"}
        )
    with begin() as uow:
        tracking.log_batch(uow, PROJECT, uid, params={"depth": "6"})
        run = service.get_run(uow, PROJECT, uid)
    assert run.params == {"depth": "6"}
    assert run.metrics == {}
    assert "a" not in run.tags


def test_the_newest_value_is_that_of_the_highest_step_whatever_the_order(begin: Begin) -> None:
    with begin() as uow:
        uid = service.create_run(uow, PROJECT).run
        tracking.log_batch(uow, PROJECT, uid, metrics=[point("a", 3, step=3, at_ms=1), point("a", 1, step=1, at_ms=9)])
        tracking.log_batch(uow, PROJECT, uid, metrics=[point("a", 2, step=2, at_ms=99)])
        tracking.log_batch(uow, PROJECT, uid, metrics=[point("a", 2.5, step=3, at_ms=1)])
        assert service.get_run(uow, PROJECT, uid).metrics == {"a": 3.0}
        tracking.log_batch(uow, PROJECT, uid, metrics=[point("a", 4, step=3, at_ms=2)])
        assert service.get_run(uow, PROJECT, uid).metrics == {"a": 4.0}


def test_a_point_logged_twice_is_one_point_and_a_history_is_in_order_of_time(begin: Begin) -> None:
    with begin() as uow:
        uid = service.create_run(uow, PROJECT).run
        points = [point("a", value, step=0, at_ms=at) for value, at in ((3, 3), (1, 1), (1, 1), (2, 2), (math.inf, 4))]
        tracking.log_batch(uow, PROJECT, uid, metrics=points)
        tracking.log_batch(uow, PROJECT, uid, metrics=points[:2])
        history, after = tracking.metric_history(uow, PROJECT, uid, "a")
        first, rest = tracking.metric_history(uow, PROJECT, uid, "a", limit=3)
    assert [item.value for item in history] == [1, 2, 3, tracking.DOUBLE_MAX]
    assert after is None
    assert len(first) == rest == 3


def test_batches_of_odd_sizes_are_kept_whole(begin: Begin) -> None:
    with begin() as uow:
        uid = service.create_run(uow, PROJECT).run
        points = [point(f"m{n % 3}", n / 7, step=n, at_ms=n) for n in range(378)]
        tracking.log_batch(uow, PROJECT, uid, metrics=points)
        tracking.log_batch(uow, PROJECT, uid, metrics=points[100:])
        histories = [tracking.metric_history(uow, PROJECT, uid, f"m{n}")[0] for n in range(3)]
        run = service.get_run(uow, PROJECT, uid)
    assert [[item.step for item in history] for history in histories] == [list(range(n, 378, 3)) for n in range(3)]
    assert run.metrics == {"m0": 375 / 7, "m1": 376 / 7, "m2": 377 / 7}


def test_histories_of_many_runs_come_run_by_run_up_to_the_limit(begin: Begin) -> None:
    with begin() as uow:
        uids = sorted(service.create_run(uow, PROJECT).run for _ in range(3))
        for uid in uids:
            tracking.log_batch(uow, PROJECT, uid, metrics=[point("a", n, step=n, at_ms=n) for n in range(4)])
        asked = [*reversed(uids), "0" * 32]
        found = tracking.metric_histories(uow, PROJECT, asked, "a", limit=6)
        nothing = tracking.metric_histories(uow, PROJECT, asked, "b", limit=6)
    assert [(uid, item.step) for uid, item in found] == [(uids[0], n) for n in range(4)] + [
        (uids[1], n) for n in (0, 1)
    ]
    assert nothing == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("metrics.auc > 0.75", ["b"]),
        ("metrics.auc <= 0.7", ["a"]),
        ("metrics.loss != 5", ["a", "b"]),
        ("metrics.loss < 5", ["a"]),
        ("metrics.nothing != 5", []),
        ("params.depth = '6'", ["a"]),
        ("params.depth != '6'", ["b"]),
        ("params.`note text` LIKE '%50\\%%'", []),
        ("params.note LIKE 'Fifty%'", ["a"]),
        ("params.note LIKE 'fifty%'", []),
        ("params.note ILIKE 'fifty%'", ["a"]),
        ("params.note LIKE '%[*]_'", ["a"]),
        ("tags.team IS NULL", ["b", "c"]),
        ("tags.team IS NOT NULL", ["a"]),
        ("params.depth IS NULL", ["c"]),
        ("attributes.run_name = 'c'", ["c"]),
        ("run_name ILIKE 'C'", ["c"]),
        ("status = 'RUNNING'", ["a", "b", "c"]),
        ("status != 'RUNNING'", []),
        ("dataset.name = 'flights'", ["a"]),
        ("dataset.digest LIKE 'sha256:%' AND dataset.context = 'training'", ["a"]),
        ("dataset.name = 'weather'", []),
        ("start_time >= 0 AND end_time > 0", []),
        ("metrics.auc > 0 AND params.depth = '6' AND tags.team = 'x'", ["a"]),
    ],
)
def test_search_finds_what_the_filter_says(begin: Begin, text: str, names: list[str]) -> None:
    _three_runs(begin)
    assert sorted(search_names(begin, text)) == names


@pytest.mark.parametrize(
    ("order_by", "names"),
    [
        ((), ["c", "b", "a"]),
        (("start_time ASC",), ["a", "b", "c"]),
        (("metrics.auc DESC",), ["b", "a", "c"]),
        (("metrics.auc ASC",), ["a", "b", "c"]),
        (("metrics.loss ASC",), ["a", "b", "c"]),
        (("metrics.loss DESC",), ["a", "b", "c"]),
        (("params.depth DESC",), ["b", "a", "c"]),
        (("tags.team",), ["a", "c", "b"]),
        (("attributes.run_name DESC",), ["c", "b", "a"]),
    ],
)
def test_search_sorts_and_puts_what_lacks_the_key_last(
    begin: Begin, order_by: tuple[str, ...], names: list[str]
) -> None:
    _three_runs(begin)
    assert search_names(begin, order_by=order_by) == names


def test_search_pages_without_gaps_or_repeats(begin: Begin) -> None:
    with begin() as uow:
        for number in range(7):
            service.create_run(uow, PROJECT, name=f"r{number}", started_ms=number)
    seen: list[str] = []
    offset: int | None = 0
    while offset is not None:
        with begin() as uow:
            page, offset = search.search_runs(uow, PROJECT, experiments=[0], limit=3, offset=offset)
        seen += [run.name for run in page]
    assert seen == [f"r{number}" for number in range(6, -1, -1)]


def test_a_deleted_run_takes_nothing_more_and_comes_back_whole(begin: Begin) -> None:
    with begin() as uow:
        uid = service.create_run(uow, PROJECT, name="gone").run
        service.delete_run(uow, PROJECT, uid)
    with pytest.raises(InvalidInputError, match="'active' state"), begin() as uow:
        tracking.log_batch(uow, PROJECT, uid, metrics=[point("a", 1)])
    assert search_names(begin) == []
    with begin() as uow:
        assert [run.name for run in search.search_runs(uow, PROJECT, experiments=[0], view=View.DELETED)[0]] == ["gone"]
        service.restore_run(uow, PROJECT, uid)
    assert search_names(begin) == ["gone"]


def test_an_experiment_is_deleted_and_restored_with_its_runs(begin: Begin) -> None:
    with begin() as uow:
        made = experiments.create_experiment(uow, PROJECT, "e", tags={"a": "b"})
        uid = service.create_run(uow, PROJECT, experiment="e").run
        experiments.delete_experiment(uow, PROJECT, made.experiment)
        assert service.get_run(uow, PROJECT, uid).deleted
        assert experiments.get_experiment_by_name(uow, PROJECT, "e").deleted
    with pytest.raises(ConflictError, match="already exists"), begin() as uow:
        experiments.create_experiment(uow, PROJECT, "e")
    with pytest.raises(InvalidInputError, match="active"), begin() as uow:
        service.create_run(uow, PROJECT, experiment="e")
    with begin() as uow:
        experiments.restore_experiment(uow, PROJECT, made.experiment)
        assert not service.get_run(uow, PROJECT, uid).deleted
        assert experiments.get_experiment(uow, PROJECT, made.experiment).tags == {"a": "b"}


def test_the_default_experiment_is_number_zero(begin: Begin) -> None:
    with begin() as uow:
        assert experiments.get_experiment(uow, PROJECT, "0").name == "Default"
        assert service.create_run(uow, PROJECT).experiment_id == "0"
        assert experiments.create_experiment(uow, PROJECT, "next").experiment == "1"


def test_a_record_is_kept_once_and_never_changes(begin: Begin) -> None:
    record = {"schema": 1, "entry": "m:p", "code": {"digest": "sha256:x", "commit": "abc"}, "seed": 7}
    with begin() as uow:
        uid = service.create_run(uow, PROJECT).run
        digest = service.set_record(uow, PROJECT, uid, record)
        assert service.set_record(uow, PROJECT, uid, record) == digest
        assert service.get_record(uow, PROJECT, uid) == record
        assert service.get_run(uow, PROJECT, uid).summary["commit"] == "abc"
    with pytest.raises(ConflictError, match="record already"), begin() as uow:
        service.set_record(uow, PROJECT, uid, record | {"seed": 8})


def test_a_comparison_says_what_differs(begin: Begin) -> None:
    with begin() as uow:
        uids = [service.create_run(uow, PROJECT, params={"depth": depth, "same": "1"}).run for depth in ("6", "7")]
        compared = service.compare_runs(uow, PROJECT, uids)
    assert {line.key: line.differs for line in compared.params} == {"depth": True, "same": False}


@pytest.mark.parametrize(
    "uid", ["0" * 32, "nothing", pytest.param("x/../y", marks=()), "a" * 300, "'; drop table run; --"]
)
def test_an_unknown_run_is_not_found_or_refused(begin: Begin, uid: str) -> None:
    with pytest.raises((NotFoundError, InvalidInputError)), begin() as uow:
        service.get_run(uow, PROJECT, uid)


def test_a_run_of_another_project_is_not_found(begin: Begin) -> None:
    from everline.access import service as access

    with begin() as uow:
        access.create_project(uow, "other")
        uid = service.create_run(uow, "other").run
        assert experiments.get_experiment(uow, "other", "0").name == "Default"
    with pytest.raises(NotFoundError), begin() as uow:
        service.get_run(uow, PROJECT, uid)


def test_a_viewer_reads_and_does_not_write(begin: Begin) -> None:
    with begin() as uow:
        uid = service.create_run(uow, PROJECT).run
    with begin(role=Role.VIEWER) as uow:
        assert service.get_run(uow, PROJECT, uid).run == uid
    with pytest.raises(ForbiddenError), begin(role=Role.VIEWER) as uow:
        tracking.log_batch(uow, PROJECT, uid, metrics=[point("a", 1)])


def _three_runs(begin: Begin) -> None:
    with begin() as uow:
        a = service.create_run(
            uow, PROJECT, name="a", started_ms=1, params={"depth": "6", "note": "Fifty%[*]!"}, tags={"team": "x"}
        )
        b = service.create_run(uow, PROJECT, name="b", started_ms=2, params={"depth": "7"})
        service.create_run(uow, PROJECT, name="c", started_ms=3)
        tracking.log_batch(uow, PROJECT, a.run, metrics=[point("auc", 0.7), point("loss", 0)], inputs=[INPUT])
        tracking.log_batch(uow, PROJECT, b.run, metrics=[point("auc", 0.8), point("loss", math.nan)])
