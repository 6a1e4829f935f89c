"""Levels are earned one by one, and the first difference is named with its class."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from everline.pipelines.types import KeyMaterial, StepError, StepRecord, StepStatus, ValueRef
from everline.reproduction.comparison import Rebuild, Recorded, judge
from everline.reproduction.types import Cause, Reproduction, Verdict
from everline.runs.capture import CodeSnapshot, DataInput, RunRecord, SourceFile, manifest_digest
from everline.runs.environment import Distribution, Environment, Machine, software_digest
from everline.runs.watching import Seen

DAY = datetime(2013, 6, 1, tzinfo=UTC)
MACHINE = Machine(os="Linux 6", libc="glibc 2", architecture="x86_64", cpu="A", cpu_features=("avx2",), cpus_usable=2)


def environment(*, version: str = "1.0", machine: Machine = MACHINE) -> Environment:
    packages = (Distribution(name="pack", version=version, digest="sha256:" + version.replace(".", "") * 32),)
    return Environment(
        python="3.11.7", implementation="CPython", machine=machine, threads={}, blas=(), hash_seed="0",
        distributions=packages, variables={}, digest=software_digest("3.11.7", "CPython", packages),
    )  # fmt: skip


def record(*, code: str = "1", params: dict[str, Any] | None = None, seed: int | None = 7, data: str = "1",
           env: Environment | None = None) -> RunRecord:  # fmt: skip
    files = (SourceFile(path="flow.py", digest="sha256:" + code * 64, bytes=1),)
    return RunRecord(
        entry="flow:flow", code=CodeSnapshot(digest=manifest_digest(files), files=files), seed=seed,
        environment=env or environment(), params={"depth": 6} if params is None else params,
        data=(DataInput(name="flights", version=int(data), digest="sha256:" + data * 64),),
    )  # fmt: skip


def step(name: str, position: int, output: str, *, kind: str = "table", inputs: dict[str, Any] | None = None,
         code: str = "c", key: str | None = "k", status: StepStatus = StepStatus.SUCCEEDED, needs: tuple[str, ...] = (),
         error: StepError | None = None) -> StepRecord:  # fmt: skip
    return StepRecord(
        uid=name, run="r", pipeline="flow:flow", name=name, position=position, status=status, cached=False, key=key,
        material=KeyMaterial(code=code, environment="e", inputs=inputs or {}, parts={name: code}),
        outputs=() if status is StepStatus.FAILED else (ValueRef(kind=kind, digest=output),),
        cached_from=None, attempts=1, started_at=DAY, ended_at=DAY, seconds=0.0, reason="", needs=needs, error=error,
    )  # fmt: skip


STEPS = (step("load", 0, "t1"), step("train", 1, "m1", kind="model", needs=("load",)),
         step("evaluate", 2, "e1", kind="json", needs=("train",)), step("register", 3, "x", key=None))  # fmt: skip


def recorded(**changes: Any) -> Recorded:
    return Recorded(run="r", finished=True, record=record(), record_digest="sha256:" + "f" * 64, steps=STEPS, **changes)


def rebuild(*steps: StepRecord, run: str = "b", finished: bool = True, record: RunRecord | None = None) -> Rebuild:
    return Rebuild(run=run, finished=finished, record=record or globals()["record"](), steps=steps or STEPS[:3])


def judged(*rebuilds: Rebuild, difference: float | None = None, failure: str | None = None) -> Reproduction:
    return judge(recorded(), rebuilds, failure=failure, measure=lambda old, new: difference)


def other(name: str, output: str, **changes: Any) -> tuple[StepRecord, ...]:
    """The steps with one output changed, and those after it too."""
    position = next(item.position for item in STEPS if item.name == name)
    return tuple(
        item if item.position < position
        else msgspec.structs.replace(
            item,
            outputs=(ValueRef(kind=item.outputs[0].kind, digest=output),),
            **(changes if item.name == name else {}),
        )
        for item in STEPS[:3]
    )  # fmt: skip


def test_equal_bits_in_an_equal_environment_earn_l5() -> None:
    report = judged(rebuild())
    assert (report.level, report.verdict, report.first_difference) == ("L5", Verdict.IDENTICAL, None)
    assert [s.name for s in report.steps] == ["load", "train", "evaluate"], "a step with effects is not repeated"


def test_equal_bits_on_another_machine_class_earn_l6() -> None:
    elsewhere = environment(machine=msgspec.structs.replace(MACHINE, cpu="B", cpu_features=("avx512f",)))
    report = judged(rebuild(record=record(env=elsewhere)))
    assert (report.level, report.verdict) == ("L6", Verdict.IDENTICAL)
    assert "cpu: A recorded, B here" in report.hardware


def test_another_kernel_alone_is_no_other_machine_class() -> None:
    updated = environment(machine=msgspec.structs.replace(MACHINE, os="Linux 7"))
    assert judged(rebuild(record=record(env=updated))).level == "L5"


def test_another_package_keeps_the_level_at_l0_and_is_named() -> None:
    report = judged(rebuild(record=record(env=environment(version="2.0"))))
    assert (report.level, report.verdict) == ("L0", Verdict.EQUIVALENT)
    assert report.first_difference is not None
    assert report.first_difference.cause is Cause.ENVIRONMENT
    assert report.first_difference.detail.startswith("pack: 1.0")


def test_another_package_that_changes_a_result_diverges_there() -> None:
    report = judged(rebuild(*other("train", "m2"), record=record(env=environment(version="2.0"))))
    assert report.verdict is Verdict.DIVERGED
    assert (report.first_difference.step, report.first_difference.cause) == ("train", Cause.ENVIRONMENT)


@pytest.mark.parametrize(
    ("changed", "material", "cause"),
    [
        (record(code="2"), {"code": "d", "parts": {"train": "d"}}, Cause.CODE),
        (record(params={"depth": 7}), {"inputs": {"depth": 7}}, Cause.PARAMETERS),
        (record(seed=8), {"inputs": {"seed": 8}}, Cause.SEED),
        (record(data="2"), {"inputs": {"table": {"digest": "x"}}}, Cause.DATA),
    ],
)
def test_one_change_is_named_by_step_and_class(changed: RunRecord, material: dict[str, Any], cause: Cause) -> None:
    base = STEPS[1].material
    assert base is not None
    steps = other("train", "m2", material=msgspec.structs.replace(base, **material))
    report = judged(rebuild(*steps, record=changed))
    assert report.verdict is Verdict.DIVERGED
    assert (report.first_difference.step, report.first_difference.cause) == ("train", cause)
    assert report.level == "L1"


@pytest.mark.parametrize(
    ("changed", "cause"),
    [(record(code="2"), Cause.CODE), (record(seed=8), Cause.SEED), (record(params={}), Cause.PARAMETERS)],
)
def test_a_change_without_effect_is_still_named(changed: RunRecord, cause: Cause) -> None:
    report = judged(rebuild(record=changed))
    assert (report.verdict, report.level) == (Verdict.EQUIVALENT, "L1")
    assert report.first_difference.cause is cause


def test_two_rebuilds_that_differ_show_non_determinism() -> None:
    report = judged(rebuild(*other("train", "m2")), rebuild(*other("train", "m3"), run="c"))
    assert (report.first_difference.step, report.first_difference.cause) == ("train", Cause.NON_DETERMINISM)
    assert (report.level, report.verdict) == ("L2", Verdict.DIVERGED)


def test_two_rebuilds_that_agree_show_a_hidden_input() -> None:
    report = judged(rebuild(*other("load", "t2")), rebuild(*other("load", "t2"), run="c"))
    assert (report.first_difference.step, report.first_difference.cause) == ("load", Cause.HIDDEN_INPUT)


def test_on_another_machine_the_hardware_is_named() -> None:
    elsewhere = record(env=environment(machine=msgspec.structs.replace(MACHINE, cpu="B")))
    report = judged(rebuild(*other("train", "m2"), record=elsewhere))
    assert report.first_difference.cause is Cause.HARDWARE


def test_numbers_within_the_tolerance_earn_l4() -> None:
    report = judged(rebuild(*other("train", "m2")), difference=1e-12)
    assert (report.level, report.verdict) == ("L4", Verdict.EQUIVALENT)
    report = judged(rebuild(*other("train", "m2")), difference=1e-3)
    assert (report.level, report.verdict) == ("L2", Verdict.DIVERGED)


def test_a_model_whose_results_nobody_recorded_is_not_equal_enough() -> None:
    only = (STEPS[0], STEPS[1])
    first = Recorded(run="r", finished=True, record=record(), record_digest="sha256:0", steps=only)
    again = (STEPS[0], msgspec.structs.replace(STEPS[1], outputs=(ValueRef(kind="model", digest="m2"),)))
    report = judge(first, [rebuild(*again)], measure=lambda old, new: 0.0)
    assert report.verdict is Verdict.DIVERGED


def test_a_file_that_is_gone_is_a_hidden_input() -> None:
    failed = step("load", 0, "", status=StepStatus.FAILED, error=StepError(type="FileNotFoundError", message="x.csv"))
    report = judged(rebuild(failed, finished=False), failure="it failed")
    assert (report.level, report.verdict) == ("L1", Verdict.DIVERGED)
    assert (report.first_difference.step, report.first_difference.cause) == ("load", Cause.HIDDEN_INPUT)
    assert "x.csv" in report.first_difference.detail


def test_a_step_that_needs_a_gpu_names_the_hardware() -> None:
    trained = environment(machine=msgspec.structs.replace(MACHINE, accelerators=("NVIDIA A100",)))
    first = Recorded(run="r", finished=True, record=record(env=trained), record_digest="sha256:0", steps=STEPS)
    error = StepError(type="RuntimeError", message="No CUDA GPUs are available")
    failed = step("train", 1, "", status=StepStatus.FAILED, error=error)
    report = judge(first, [rebuild(STEPS[0], failed, finished=False)], measure=lambda old, new: None)
    assert (report.level, report.verdict) == ("L1", Verdict.DIVERGED)
    assert (report.first_difference.step, report.first_difference.cause) == ("train", Cause.HARDWARE)
    assert "No CUDA GPUs" in report.reason and "accelerators: NVIDIA A100 recorded, none here" in report.reason


def test_equal_results_of_a_host_that_nobody_declared_are_no_rebuild_from_the_record() -> None:
    again = msgspec.structs.replace(rebuild(), undeclared=(Seen("host", "example.com:443", "train"),))
    report = judged(again)
    assert (report.level, report.verdict) == ("L1", Verdict.EQUIVALENT)
    assert (report.first_difference.step, report.first_difference.cause) == ("train", Cause.HIDDEN_INPUT)
    assert "step train connected to example.com:443" in report.reason
    assert report.undeclared == ("step train connected to example.com:443",)


def test_a_rebuild_that_never_started_earns_l0_only() -> None:
    report = judged(failure="the module is gone")
    assert (report.level, report.verdict) == ("L0", Verdict.DIVERGED)
    assert "the module is gone" in report.reason


def test_reports_survive_json() -> None:
    report = judged(rebuild(*other("train", "m2")))
    encoded = msgspec.json.encode(report)
    assert b'"class":' in encoded
    assert msgspec.json.decode(encoded, type=Reproduction) == report
