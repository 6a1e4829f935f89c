"""The table of runs over the real database: selections, counts, groups, nesting, known keys and saved views."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from everline.access.types import Role
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ForbiddenError, InvalidInputError, NotFoundError
from everline.governance import audit
from everline.runs import listing, service, tracking, views
from everline.runs.types import Metric, RunSelection, RunStatus
from everline.sdk.client import Client

Begin = Callable[..., AbstractContextManager[UnitOfWork]]
PROJECT = "default"


def fill(begin: Begin) -> dict[str, str]:
    """Six runs of two experiments; `b` and `c` are nested in `a`, `d` in `b`; uids by name."""
    made: dict[str, str] = {}
    with begin() as uow:
        for number, (name, parent, depth, auc) in enumerate([
            ("a", None, "4", 0.7), ("b", "a", "4", 0.8), ("c", "a", "6", math.nan), ("d", "b", "6", 0.6),
            ("e", None, None, math.inf), ("f", None, "6", -math.inf),
        ]):  # fmt: skip
            tags = {"team": "red"} | ({listing.PARENT_TAG: made[parent]} if parent else {})
            made[name] = service.create_run(
                uow, PROJECT, name=name, experiment="one" if name < "e" else "two", tags=tags, started_ms=number,
                pipeline="m:p" if name == "e" else None, params={"depth": depth} if depth else {},
            ).run  # fmt: skip
            tracking.log_batch(uow, PROJECT, made[name], metrics=[Metric(key="auc", value=auc, at_ms=1)])
        service.finish_run(uow, PROJECT, made["f"], status=RunStatus.FAILED)
    return made


def test_a_selection_is_listed_counted_grouped_and_nested_alike(begin: Begin) -> None:
    made = fill(begin)

    def names(**wanted: object) -> str:
        selection = RunSelection(**wanted)  # type: ignore[arg-type]
        with begin() as uow:
            found, _ = listing.list_selected(uow, PROJECT, selection)
            assert listing.count_selected(uow, PROJECT, selection) == len(found)
            grouped = listing.group_selected(uow, PROJECT, selection, by="experiment")
        assert sum(group.count for group in grouped.groups) == grouped.runs == len(found)
        return "".join(run.name for run in found)

    assert names() == "fedcba"
    assert names(experiments=("one",), filter="params.depth = '6'") == "dc"
    assert names(statuses=(RunStatus.FAILED, RunStatus.KILLED)) == "f"
    assert (names(pipeline="m:p"), names(without_pipeline=True, experiments=("two",))) == ("e", "f")
    assert names(roots_only=True) == "fea"
    with begin() as uow:
        below = listing.list_children(uow, PROJECT, [made["a"]])
        by_depth = listing.group_selected(uow, PROJECT, RunSelection(), by="params.depth", metrics=["auc", "none"])
        keys = listing.known_keys(uow, PROJECT, experiments_named=["two"])
    assert {uid: [run.name for run in runs] for uid, runs in below.items()} == {made["a"]: ["b", "c"], made["b"]: ["d"]}
    assert [(group.value, group.count) for group in by_depth.groups] == [("6", 3), ("4", 2), (None, 1)]
    assert by_depth.groups[1].metrics["auc"].mean == pytest.approx(0.75)
    assert [group.metrics["auc"].count if group.metrics else 0 for group in by_depth.groups] == [1, 2, 0]
    assert (keys.metrics, keys.params, keys.tags) == (["auc"], ["depth"], ["team"])


def test_a_circle_of_parents_ends_and_unknown_groups_are_named(begin: Begin) -> None:
    with begin() as uow:
        first, second = (service.create_run(uow, PROJECT, name=name).run for name in "xy")
        tracking.log_batch(uow, PROJECT, first, tags={listing.PARENT_TAG: second})
        tracking.log_batch(uow, PROJECT, second, tags={listing.PARENT_TAG: first})
        assert set(listing.list_children(uow, PROJECT, [first])) <= {first, second}
        with pytest.raises(InvalidInputError, match="grouped by 'colour'"):
            listing.group_selected(uow, PROJECT, RunSelection(), by="colour")


def test_a_view_is_its_authors_until_it_is_shared(begin: Begin, client: Client) -> None:
    with begin(role=Role.VIEWER) as uow:
        mine = views.save_view(uow, PROJECT, "best", query="sort=metrics.auc+DESC")
        again = views.save_view(uow, PROJECT, " best ", query="sort=metrics.auc")
        assert (again.view, again.query, again.shared) == (mine.view, "sort=metrics.auc", False)
        with pytest.raises(ForbiddenError, match=r"run\.write"):
            views.save_view(uow, PROJECT, "best", query="", shared=True)
    with begin(role=Role.CONTRIBUTOR) as uow:
        views.save_view(uow, PROJECT, "best", query="status=failed", shared=True)
    with begin(role=Role.VIEWER) as uow:
        assert views.get_view(uow, PROJECT, "best").view == mine.view
        assert [view.shared for view in views.list_views(uow, PROJECT)] == [False, True]
        views.delete_view(uow, PROJECT, mine.view)
        with pytest.raises(ForbiddenError):
            views.delete_view(uow, PROJECT, "best")
    with pytest.raises(NotFoundError, match="no view 'best/1'"):
        client.views.get("best/1")
    assert client.views.get("best").query == "status=failed"
    kept = client.views.save("all / of them", query="")
    assert [view.name for view in client.views.list()] == ["all / of them", "best"]
    client.views.delete(kept.view)
    with begin() as uow, pytest.raises(InvalidInputError, match="printable"):
        views.save_view(uow, PROJECT, "\x00", query="")
    with begin() as uow:
        found = audit.list_events(uow, project=PROJECT)
    assert {"view.save", "view.delete"} <= {event.action for event in found}
