"""Steps in processes of their own: whatever they do to their process, the run ends with a sentence that names them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from everline.errors import ConflictError, ForbiddenError, InvalidInputError
from everline.pipelines.types import RunCancelledError, RunWaitingError, StepFailedError
from everline.sdk.client import Client

MODULE = """
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa

import everline as el

MARKS = pathlib.Path(os.environ.get("MARKS", "/nowhere"))


def mark(text):
    with MARKS.open("a") as file:
        file.write(f"{text} {os.getpid()}\\n")


@el.step(timeout_s=20)
def one(how: str, n: int = 0) -> int:
    if how == "exit":
        os._exit(3)
    if how == "sys.exit":
        sys.exit("done here")
    if how == "kill once" and not MARKS.exists():
        mark("killed")
        os.kill(os.getpid(), 9)
    if how == "kill":
        os.kill(os.getpid(), 9)
    if how == "crash":
        os.kill(os.getpid(), 11)
    if how == "hang":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        mark(f"child {child.pid}")
        time.sleep(300)
    if how == "print":
        for i in range(300_000):
            print("line", i)
    if how == "threads":
        import threading

        threading.Thread(target=time.sleep, args=(300,), daemon=True).start()
    print("did", how, n, flush=True)
    return n + 1


@el.step(timeout_s=0.5, retries=1, retry_wait_s=0)
def slow(n: int) -> int:
    mark("slow")
    time.sleep(300)
    return n


@el.step(resources=el.Resources(memory_mb=300))
def greedy(n: int) -> int:
    kept = []
    while True:
        kept.append(np.ones(4_000_000))
        time.sleep(0.01)


@el.step
def tells(token: str) -> str:
    print("the token is", token)
    print("the token is", token, file=sys.stderr)
    raise ValueError(f"cannot log in with {token}")


@el.step
def numbers(n: int) -> np.ndarray:
    return np.arange(n, dtype="int64")


@el.step
def spoils(values: np.ndarray) -> int:
    values[0] = 7
    return int(values.sum())


@el.step
def who(i: int) -> int:
    time.sleep(0.05)
    return os.getpid()


@el.step
def distinct(values: list[int]) -> int:
    return len(set(values))


@el.pipeline
def does(how: str = "well", n: int = 1) -> int:
    return one("well", one(how, n))


@el.pipeline
def too_slow() -> int:
    return slow(1)


@el.pipeline
def too_greedy() -> int:
    return greedy(1)


@el.pipeline
def leaks() -> str:
    return tells(el.secret("A_TOKEN"))


@el.pipeline
def writes() -> int:
    return spoils(numbers(5))


def made_inside():
    @el.step
    def inner(n: int) -> int:
        return n

    return inner


INNER = made_inside()


@el.pipeline
def closed(n: int = 1) -> int:
    return INNER(n)


@el.step
def table() -> el.Table:
    return pa.table({"x": range(200_000)})


@el.step
def is_writable(table: el.Table) -> bool:
    return table["x"].chunk(0).buffers()[1].is_mutable


@el.pipeline
def shares() -> bool:
    return is_writable(table())


@el.step(environment=el.Environment(requirements=("iniconfig==1.1.1",)))
def older() -> list[str]:
    import importlib.metadata

    return [importlib.metadata.version(name) for name in ("iniconfig", "msgspec")]


@el.step
def newer() -> list[str]:
    import importlib.metadata

    return [importlib.metadata.version(name) for name in ("iniconfig", "msgspec")]


@el.step
def both(old: list[str], new: list[str]) -> list[list[str]]:
    return [old, new]


@el.pipeline
def two_environments() -> list[list[str]]:
    return both(older(), newer())


@el.step(environment=el.Environment(requirements=("iniconfig>=1",)))
def unpinned() -> int:
    return 1


@el.pipeline
def loose() -> int:
    return unpinned()


@el.pipeline
def wide(n: int = 8) -> int:
    return distinct(el.map(who, list(range(n))))


@el.step(effect=True)
def ship(answer: el.Approval, n: int) -> str:
    return f"shipped {n} because {answer.by} said so"


@el.pipeline
def gated(others: bool = False) -> str:
    made = one("well", 1)
    return ship(el.approval("Ship it?", role="approver", show={"made": made}, others=others), made)
"""
Run = Callable[..., Any]
only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def run(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "everline.toml").touch()
    (folder / "pool_steps.py").write_text(MODULE)
    monkeypatch.setenv("MARKS", str(tmp_path / "marks"))

    def start(pipeline: str | None, **options: Any) -> Any:
        address = None if pipeline is None else f"pool_steps:{pipeline}"
        return client.pipelines.run(address, directory=folder, **{"on": "local:2"} | options)

    yield start
    sys.modules.pop("pool_steps", None)


@only_sqlite
@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("exit", "Step 'one' of pipeline 'pool_steps:does' failed: ProcessExit: it ended its process with exit code 3"),
        ("sys.exit", "failed: SystemExit: done here"),
        ("crash", "failed: ProcessKilled: its process was killed by SIGSEGV"),
        ("kill", "failed: ProcessKilled: its process was killed by SIGKILL"),
    ],
)
def test_a_step_that_ends_its_process_fails_alone(run: Run, client: Client, how: str, sentence: str) -> None:
    with pytest.raises(StepFailedError) as caught:
        run("does", params={"how": how})
    assert sentence in caught.value.message
    assert [step.status for step in client.pipelines.steps(caught.value.result.run)] == ["failed"]


@only_sqlite
def test_a_step_whose_process_is_killed_from_outside_is_begun_again(run: Run, client: Client, tmp_path: Path) -> None:
    result = run("does", params={"how": "kill once"})
    assert result.value == 3
    assert [step.attempts for step in client.pipelines.steps(result.run)] == [1, 1]


@only_sqlite
def test_a_step_that_takes_too_long_is_stopped_tried_again_and_fails(run: Run, tmp_path: Path) -> None:
    with pytest.raises(StepFailedError, match=r"failed after 2 attempts: TimeoutError: it took longer than its 0.5 s"):
        run("too_slow")
    pids = [int(line.split()[1]) for line in (tmp_path / "marks").read_text().splitlines()]
    assert len(pids) == 2 and not any(map(is_alive, pids))


@only_sqlite
def test_a_step_that_takes_more_memory_than_it_may_is_stopped(run: Run) -> None:
    with pytest.raises(StepFailedError, match=r"MemoryError: it took \d+ MB, more than its 300 MB") as caught:
        run("too_greedy")
    assert "memory_mb" in caught.value.hint


@only_sqlite
def test_what_steps_print_is_kept_up_to_a_limit(run: Run, client: Client) -> None:
    told: list[bytes] = []
    result = run("does", params={"how": "print"}, printed=lambda name, data: told.append(data))
    text = client.pipelines.output(result.run, "one")
    assert text.startswith("line 0\nline 1\n")
    assert text.rstrip().endswith("bytes more were printed and not kept]")
    assert len(text) < client.settings.step_output_bytes_max + 1000
    assert client.pipelines.output(result.run, "one-2") == "did well 2\n"
    assert b"".join(told).startswith(b"line 0\n")


@only_sqlite
def test_the_value_of_a_secret_is_in_no_output_and_no_error(
    run: Run, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", "s3cr3t-value")
    with pytest.raises(StepFailedError, match=r"cannot log in with \[secret\]") as caught:
        run("leaks")
    made = caught.value.result.run
    assert client.pipelines.output(made, "tells") == "the token is [secret]\n" * 2
    assert "s3cr3t" not in repr(client.pipelines.steps(made))


@only_sqlite
def test_a_step_cannot_write_to_what_it_takes(run: Run) -> None:
    with pytest.raises(StepFailedError, match="read-only") as caught:
        run("writes")
    assert "work on a copy" in caught.value.hint


@only_sqlite
def test_steps_that_do_not_wait_for_each_other_run_at_the_same_time(run: Run) -> None:
    assert run("wide").value == 2
    assert run("wide", on="local:1", cache=False).value == 1


@only_sqlite
def test_both_executors_give_the_same_digests(run: Run, client: Client) -> None:
    pooled, inline = (run("does", on=on, cache=False) for on in ("local:2", "inline"))
    assert [step.outputs for step in pooled.steps] == [step.outputs for step in inline.steps]


@only_sqlite
def test_a_step_that_no_other_process_can_find_says_what_to_do(run: Run) -> None:
    with pytest.raises(StepFailedError, match="cannot be found by another process") as caught:
        run("closed")
    assert "--on inline" in caught.value.hint
    assert run("closed", on=None).value == 1  # without being told, it runs here


@only_sqlite
def test_nowhere_is_no_executor(client: Client) -> None:
    with pytest.raises(InvalidInputError, match="'moon' is nowhere that steps can run"):
        client.pipelines.run("m:p", on="moon")


def test_a_cancelled_run_stops_at_once_with_all_its_processes(run: Run, client: Client, tmp_path: Path) -> None:
    ended: list[Any] = []

    def work() -> None:
        try:
            run("does", params={"how": "hang"})
        except RunCancelledError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    marks = tmp_path / "marks"
    wait_until(lambda: marks.exists() and "child" in marks.read_text())
    made = client.runs.list()[0].run
    _, child, worker = marks.read_text().split()
    client.pipelines.cancel(made)
    thread.join(15)
    assert ended and "was cancelled by local" in ended[0].message
    wait_until(lambda: not is_alive(int(child)) and not is_alive(int(worker)))
    assert client.runs.get(made).status == "killed"
    assert [step.status for step in client.pipelines.steps(made)] == ["cancelled"]
    with pytest.raises(ConflictError, match="has ended"):
        client.pipelines.cancel(made)


def test_a_run_waits_for_a_role_and_a_worker_goes_on_with_it(run: Run, client: Client) -> None:
    from everline.cli.worker import run_one

    with pytest.raises(RunWaitingError) as caught:
        run("gated")
    made = caught.value.result.run
    assert (client.runs.get(made).status, client.pipelines.show(made).state) == ("scheduled", "waiting")
    (asked,) = client.approvals.list(open_only=True)
    assert (asked.run, asked.step, asked.shown) == (made, "approval", {"made": 2})
    with pytest.raises(InvalidInputError, match="A no needs a reason"):
        client.approvals.answer(made, "approval", approved=False)
    client.approvals.answer(made, "approval", approved=True, reason="good numbers")
    with pytest.raises(ConflictError, match="local has said yes"):
        client.approvals.answer(made, "approval", approved=False, reason="no")
    done = run_one(client, worker="w")
    assert done is not None and (done["run"], done["status"]) == (made, "succeeded")
    assert done["candidate"] == "shipped 2 because local said so"
    assert [step.status for step in client.pipelines.steps(made)] == ["succeeded"] * 3
    events = [event.action for event in client.audit.list(subject=f"run:{made}")]
    assert {"pipeline.ask", "pipeline.answer"} <= set(events)


@only_sqlite
def test_whoever_started_a_run_cannot_answer_for_others(run: Run, client: Client) -> None:
    with pytest.raises(RunWaitingError) as caught:
        run("gated", params={"others": True})
    with pytest.raises(ForbiddenError, match="started this run"):
        client.approvals.answer(caught.value.result.run, "approval", approved=True)


@only_sqlite
def test_a_table_is_taken_where_it_lies_and_not_copied(run: Run) -> None:
    assert run("shares").value is False


@only_sqlite
def test_a_step_may_have_an_environment_of_its_own(run: Run) -> None:
    old, new = run("two_environments").value
    assert old[0] == "1.1.1" != new[0]
    assert old[1] == new[1]  # what it does not name is that of the run
    assert all(step.cached for step in run("two_environments").steps)
    with pytest.raises(StepFailedError, match="asks for an environment of its own"):
        run("two_environments", on="inline", cache=False)
    with pytest.raises(InvalidInputError, match="the line 'iniconfig>=1', which pins no version"):
        run("loose")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until(holds: Callable[[], bool], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_nothing_is_left_when_the_driver_is_killed(tmp_path: Path) -> None:
    (tmp_path / "everline.toml").touch()
    (tmp_path / "pool_steps.py").write_text(MODULE)
    marks = tmp_path / "marks"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EVERLINE_")} | {"MARKS": str(marks)}
    command = [sys.executable, "-m", "everline", "run", "pool_steps:does", "--home", str(tmp_path / "home")]
    driver = subprocess.Popen(
        [*command, "--param", "how=hang"], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: marks.exists() and "child" in marks.read_text())
    _, child, worker = marks.read_text().split()
    driver.send_signal(signal.SIGKILL)
    driver.wait(10)
    wait_until(lambda: not is_alive(int(child)) and not is_alive(int(worker)))
