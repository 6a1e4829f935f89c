"""Whole pipeline runs through the SDK, on both databases: records, cache, failure, rebuild, triggers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import everline as el
from everline.access.types import Role
from everline.cli.worker import run_one
from everline.config import Settings
from everline.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from everline.governance import audit
from everline.ids import new_uid
from everline.pipelines import running, service
from everline.pipelines.types import RecordSteps, StartRun, StepFailedError, StepStatus, StepUpdate, ValueRef
from everline.sdk.client import Client
from everline.storage.blobs import BlobStore
from everline.storage.paths import blob_path

PROJECT = """
import everline as el
import pyarrow as pa
import pyarrow.compute as pc

OFFSET = {offset}

@el.step
def clean(flights: el.Table) -> el.Table:
    return flights.filter(pc.is_valid(flights["delay"]))

@el.step
def mean(flights: el.Table, seed: int) -> float:
    return pc.mean(flights["delay"]).as_py() + OFFSET

@el.step
def check(value: float, most: float) -> dict[str, dict[str, float]]:
    if value > most:
        raise ValueError(f"the mean {{value}} is above {{most}}")
    return {{"metrics": {{"mean": value}}}}

@el.pipeline
def delays(month: str = "2013-01", seed: int = 5, most: float = 100.0) -> dict[str, dict[str, float]]:
    return check(mean(clean(el.dataset("flights", version=month)), seed), most)
"""


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A project of its own; the module has a name that no other test imports."""
    folder = tmp_path / "project"
    folder.mkdir()
    name = f"delays_{abs(hash(request.node.name)) % 10**8}"
    (folder / "everline.toml").touch()
    (folder / f"{name}.py").write_text(PROJECT.format(offset=0))
    return f"{name}:delays"


@pytest.fixture
def run(client: Client, project: str, tmp_path: Path) -> Any:
    client.datasets.add_table("flights", pa.table({"delay": [1.0, None, 3.0]}), label="2013-01")
    client.datasets.add_table("flights", pa.table({"delay": [5.0, None, 7.0]}), label="2013-02")

    def start(**options: Any) -> Any:
        return client.pipelines.run(project, directory=tmp_path / "project", **options)

    return start


def test_a_run_records_code_environment_data_and_seed(run: Any, client: Client, project: str) -> None:
    result = run()
    assert (result.status, result.value) == ("finished", {"metrics": {"mean": 2.0}})
    record = client.pipelines.record(result.run)
    assert record["seed"] == 5
    name = project.partition(":")[0]
    assert {file["path"] for file in record["code"]["files"]} == {f"{name}.py", "everline.toml"}
    assert record["environment"]["digest"].startswith("sha256:")
    assert [(use["name"], use["label"]) for use in record["data"]] == [("flights", "2013-01")]
    found = client.runs.get(result.run)
    assert (found.status, found.pipeline, found.metrics) == ("finished", project, {"mean": 2.0})
    assert found.params == {"month": "2013-01", "seed": "5", "most": "100.0"}
    assert [item.name for item in found.inputs] == ["flights"]
    assert {item.name for item in found.outputs} == {"clean", "mean", "check"}


def test_steps_are_recorded_with_keys_needs_and_digests(run: Any, client: Client) -> None:
    result = run()
    steps = client.pipelines.steps(result.run)
    assert [(step.name, step.status, step.needs) for step in steps] == [
        ("clean", "succeeded", ()), ("mean", "succeeded", ("clean",)), ("check", "succeeded", ("mean",)),
    ]  # fmt: skip
    assert steps[1].material is not None
    assert steps[1].material.inputs["flights"] == {"digest": steps[0].outputs[0].digest}
    assert "OFFSET" in steps[1].material.parts
    assert [summary.name for summary in client.pipelines.list()] == [result.pipeline]


def test_the_second_run_is_cached_and_other_data_runs_again(run: Any) -> None:
    first, second = run(), run()
    assert [step.cached for step in second.steps] == [True, True, True]
    assert [step.outputs for step in first.steps] == [step.outputs for step in second.steps]
    other = run(params={"month": "2013-02"})
    assert [step.cached for step in other.steps] == [False, False, False]
    assert "input flights changed" in other.steps[0].reason


def test_a_range_of_labels_is_read_in_order(run: Any, client: Client) -> None:
    result = run(params={"month": "2013-01..2013-02"})
    assert result.value == {"metrics": {"mean": 4.0}}
    assert [use.label for use in result.data] == ["2013-01", "2013-02"]


def test_data_can_be_named_from_outside(run: Any) -> None:
    assert run(data={"flights": [2]}).value == {"metrics": {"mean": 6.0}}


def test_a_failing_step_marks_the_run_with_its_name_and_reason(run: Any, client: Client) -> None:
    with pytest.raises(StepFailedError, match="Step 'check' .* the mean 2.0 is above 1.0"):
        run(params={"most": "1.0"})
    failed = client.runs.list()[0]
    assert failed.status == "failed"
    assert "Step 'check'" in failed.tags["everline.failed"]
    steps = client.pipelines.steps(failed.run)
    assert [step.status for step in steps] == ["succeeded", "succeeded", "failed"]
    assert steps[2].error is not None and steps[2].error.type == "ValueError"


def test_an_unknown_version_fails_the_run_before_any_step(run: Any, client: Client) -> None:
    with pytest.raises(InvalidInputError, match="has no version '2014-01'"):
        run(params={"month": "2014-01"})
    failed = client.runs.list()[0]
    assert failed.status == "failed"
    assert client.pipelines.steps(failed.run) == []


def test_a_wrong_parameter_leaves_no_run(run: Any, client: Client) -> None:
    with pytest.raises(InvalidInputError, match="has no parameter 'depth'"):
        run(params={"depth": 3})
    assert client.runs.list() == []


def test_an_altered_result_is_computed_again_and_mended(run: Any, client: Client, settings: Settings) -> None:
    first = run()
    digest = client.pipelines.steps(first.run)[0].outputs[0].files[0].digest
    path = Path(settings.blobs) / blob_path(digest)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    again = run()
    assert [step.cached for step in again.steps] == [False, True, True]
    assert "could not be trusted" in again.steps[0].reason
    assert BlobStore(settings.blobs).get_bytes(digest) == content


def test_a_rebuild_gives_the_same_digests_and_names_what_it_rebuilds(run: Any, client: Client) -> None:
    first = run()
    rebuilt = run(cache=False, reproduces=first.run)
    assert [step.cached for step in rebuilt.steps] == [False, False, False]
    assert [step.outputs for step in rebuilt.steps] == [step.outputs for step in first.steps]
    assert client.runs.get(rebuilt.run).tags["everline.reproduces"] == first.run


def test_a_worker_runs_what_was_triggered_once(run: Any, client: Client, project: str, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    job = client.pipelines.trigger(project, directory=folder, params={"month": "2013-02"}, reason="a storm", key="k")
    assert job is not None
    assert client.pipelines.trigger(project, directory=folder, key="k") is None
    done = run_one(client, worker="w")
    assert done is not None and done["status"] == "succeeded"
    assert done["candidate"] == {"metrics": {"mean": 6.0}}
    assert run_one(client, worker="w") is None
    assert client.jobs.list(queue="pipelines")[0].status == "done"
    assert client.runs.get(done["run"]).tags["everline.reason"] == "a storm"


def test_a_triggered_pipeline_that_fails_is_an_answer(run: Any, client: Client, project: str, tmp_path: Path) -> None:
    client.pipelines.trigger(project, directory=tmp_path / "project", params={"most": 0.0})
    done = run_one(client, worker="w")
    assert done is not None and done["status"] == "failed"
    assert "Step 'check'" in done["error"]


def test_a_viewer_reads_steps_and_records_none(begin: Any, client: Client, run: Any) -> None:
    result = run()
    report = RecordSteps(pipeline="p:p", epoch=1)
    with begin(role=Role.VIEWER) as uow:
        assert len(service.list_steps(uow, "default", result.run)) == 3
    with pytest.raises(ForbiddenError), begin(role=Role.VIEWER) as uow:
        service.record_steps(uow, "default", result.run, report=report)
    with pytest.raises(NotFoundError), begin() as uow:
        service.list_steps(uow, "default", "0" * 32)


def test_a_run_that_ended_takes_no_more_steps(begin: Any, run: Any, client: Client) -> None:
    result = run()
    done = client.pipelines.steps(result.run)[0]
    update = StepUpdate(
        uid=done.uid, name="clean", position=0, status=StepStatus.RUNNING, started_at=done.started_at
    )  # fmt: skip
    with pytest.raises(ConflictError, match="has ended"), begin() as uow:
        service.record_steps(uow, "default", result.run, report=RecordSteps(pipeline="p:p", epoch=1, steps=[update]))


def test_a_step_that_ended_never_changes(begin: Any, client: Client, run: Any) -> None:
    done = client.pipelines.steps(run().run)[0]
    fresh = client.runs.create(experiment="e", pipeline="p:p").run
    with begin() as uow:
        running.start(uow, "default", fresh, body=StartRun(pipeline="p:p", driver="d"))
    update = StepUpdate(
        uid=done.uid,
        name="clean",
        position=0,
        status=StepStatus.FAILED,
        started_at=done.started_at,
        ended_at=done.ended_at,
    )
    with pytest.raises(ConflictError, match="ended as succeeded"), begin() as uow:
        service.record_steps(uow, "default", fresh, report=RecordSteps(pipeline="p:p", epoch=1, steps=[update]))


def test_results_are_anchored_in_the_audit_log(run: Any, begin: Any) -> None:
    result = run()
    with begin() as uow:
        events = audit.list_events(uow, project="default", subject=f"run:{result.run}", action="pipeline.steps")
    anchored = [step for event in events for step in event.data["steps"]]
    assert {step["step"]: tuple(step["outputs"]) for step in anchored} == {
        step.name: step.outputs for step in result.steps
    }  # fmt: skip


def test_a_report_of_a_thousand_steps_is_anchored_whole(begin: Any, client: Client) -> None:
    run = client.runs.create(experiment="e", pipeline="p:p").run
    with begin() as uow:
        running.start(uow, "default", run, body=StartRun(pipeline="p:p", driver="d"))
        now = uow.clock.now()
    digest = "sha256:" + "a" * 64
    steps = [
        StepUpdate(
            uid=new_uid(), name=f"fit[{i}]", position=i, status=StepStatus.CACHED, key=digest, cached_from="0" * 32,
            outputs=(ValueRef(kind="json", digest=digest),), started_at=now, ended_at=now,
        )
        for i in range(1_000)
    ]  # fmt: skip
    with begin() as uow:
        service.record_steps(uow, "default", run, report=RecordSteps(pipeline="p:p", epoch=1, steps=steps))
    with begin() as uow:
        events = audit.list_events(uow, project="default", subject=f"run:{run}", action="pipeline.steps")
    assert {step["step"] for event in events for step in event.data["steps"]} == {step.name for step in steps}


@el.step
def plain(n: int) -> int:
    return n


@el.pipeline
def here(n: int = 1) -> int:
    return plain(n)


def test_a_pipeline_defined_in_the_running_program_runs_too(client: Client) -> None:
    assert client.pipelines.run(here, params={"n": 4}).value == 4


def test_a_missing_module_or_pipeline_says_so(client: Client, tmp_path: Path, project: str) -> None:
    with pytest.raises(InvalidInputError, match="no module 'nowhere'"):
        client.pipelines.run("nowhere:p", directory=tmp_path)
    with pytest.raises(InvalidInputError, match="is not a pipeline"):
        client.pipelines.run("nowhere", directory=tmp_path)
    with pytest.raises(InvalidInputError, match="has no pipeline 'other'"):
        client.pipelines.run(project.replace(":delays", ":other"), directory=tmp_path / "project")


@el.step
def maker(n: int, context: el.RunContext | None = None) -> str:
    return context.origin if context else ""


@el.pipeline
def makers(n: int = 1) -> str:
    return maker(n)


def test_a_rebuild_of_a_run_with_cached_steps_names_their_maker(client: Client) -> None:
    first = client.pipelines.run(makers)
    cached = client.pipelines.run(makers)
    rebuilt = client.pipelines.run(makers, cache=False, reproduces=cached.run)
    assert (first.value, cached.value, rebuilt.value) == (first.run, first.run, first.run)


def test_a_module_that_does_not_import_is_no_traceback(client: Client, tmp_path: Path) -> None:
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    with pytest.raises(InvalidInputError, match="could not be imported: ZeroDivisionError: division by zero"):
        client.pipelines.run("broken_module:p", directory=tmp_path)


def test_a_worker_runs_the_code_as_it_is_now(run: Any, client: Client, project: str, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    client.pipelines.trigger(project, directory=folder)
    assert run_one(client, worker="w")["candidate"] == {"metrics": {"mean": 2.0}}
    module = folder / (project.partition(":")[0] + ".py")
    module.write_text(PROJECT.format(offset=1000) + "\n")
    client.pipelines.trigger(project, directory=folder, params={"most": 5000.0})
    assert run_one(client, worker="w")["candidate"] == {"metrics": {"mean": 1002.0}}


def test_a_worker_survives_a_job_that_names_no_pipeline(client: Client, tmp_path: Path) -> None:
    client.pipelines.trigger("nowhere:p", directory=tmp_path)
    done = run_one(client, worker="w")
    assert done is not None and done["status"] == "failed"
    assert client.jobs.list(queue="pipelines")[0].status == "queued"  # tried again later
