"""What `everline.run()` logs outlives its process, the server, the network and a full disk, each point once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Server, free_port
from everline.cli import app as cli
from everline.errors import InvalidInputError
from everline.runs.types import CreateRun, RunStatus
from everline.sdk.client import Client
from everline.sdk.logging import journal, recovery, starting

TRAINING = """
import sys, time
import everline as el
run = el.run(experiment="faults", params={"depth": 6}, record=False)
run.log_text("weights", path="model.txt")
print(run.run, flush=True)
for step in range(int(sys.argv[1])):
    run.log_metric("loss", 1.0 / (step + 1), step=step)
    if step % 200 == 199:
        print(step, flush=True)
        time.sleep(0.005)
if len(sys.argv) < 3:
    run.finish()
time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a client that works in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVERLINE_HOME", str(tmp_path / "client"))
    return tmp_path / "client"


@pytest.fixture
def training(home: Path) -> Iterator[Any]:
    """`training(url, steps)` starts a process that logs; it is dead at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def start(url: str, *arguments: object) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-c", TRAINING, *map(str, arguments)]
        environment = os.environ | {"EVERLINE_URL": url}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], step: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= step:
            return


def test_a_killed_training_process_loses_no_more_than_a_moment_and_the_next_process_sends_the_rest(
    server: Server, training: Any, home: Path
) -> None:
    process, run = training(server.url, 1_000_000)
    read_until(process, 2_000)
    server.kill()  # from here on only the journal takes anything
    read_until(process, 8_000)
    time.sleep(0.5)  # the last whole moment of 50 ms is over, however busy the machine is
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.start()
    with Client(server.url) as client:
        with starting.run(client=client, record=False):  # a new run sends what the old one left
            deadline = time.monotonic() + 20
            while (home / "journal" / run).exists() and time.monotonic() < deadline:
                time.sleep(0.05)
        found = client.runs.get(run)
        history = client.runs.history(run, "loss")
        assert (found.status, found.params) == (RunStatus.KILLED, {"depth": "6"})
        assert len(history.steps) >= 8_000
        assert sorted(history.steps) == list(range(len(history.steps)))  # none lost before the last, none twice
        assert client.runs.artifact(run, "model.txt") == b"weights"


def test_a_run_starts_without_a_server_and_is_sent_by_the_command(
    server: Server, training: Any, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    before = time.monotonic()
    with Client(nobody) as client, starting.run(client=client, params={"a": 1}, record=False) as offline:
        offline.log_metrics({"loss": 0.5, "nan": float("nan"), "inf": float("inf")}, step=3)
        offline.set_tag("team", "x")
        offline.log_text("x" * 100, path="deep/note.txt")
    assert time.monotonic() - before < 5
    assert "is sent later" in (said := capsys.readouterr().err) and "everline runs sync" in said
    monkeypatch.setenv("EVERLINE_URL", server.url)
    assert cli.run(["runs", "sync"]) == 1  # it is for another address
    assert nobody in capsys.readouterr().out
    assert cli.run(["runs", "sync", "--moved"]) == 0
    assert cli.run(["runs", "sync"]) == 0
    with Client(server.url) as client:
        found = client.runs.get(offline.run)
        assert (found.name, found.status, found.params) == (offline.name, RunStatus.FINISHED, {"a": "1"})
        assert found.metrics == {"loss": 0.5, "nan": None, "inf": 1.7976931348623157e308}
        assert found.tags["team"] == "x"
        assert client.runs.artifact(offline.run, "deep/note.txt") == b"x" * 100
    assert not any((home / "journal").glob("*/*/"))


def test_a_server_that_dies_and_returns_in_the_middle_gets_every_point_once(server: Server, home: Path) -> None:
    with Client(server.url) as client, starting.run(client=client, record=False) as run:
        for step in range(6_000):
            run.log_metric("loss", step * 0.5, step=step)
            if step == 2_000:
                run.flush()
                server.kill()
            if step == 4_000:
                time.sleep(0.4)
                server.start()
    with Client(server.url) as client:
        history = client.runs.history(run.run, "loss")
        assert sorted(history.steps) == list(range(6_000))
        assert client.runs.get(run.run).status is RunStatus.FINISHED


def test_a_lost_answer_is_not_taken_twice(client: Client, home: Path) -> None:
    """The same entries again, as a process would send them that died before it noted the answer."""
    with starting.run(client=client, record=False) as run:
        run.log_metric("loss", 1.0, step=1)
        run.set_tag("stage", "one")
        run.flush()
        client.runs.log_batch(run.run, tags={"stage": "two"})  # somebody else, meanwhile
        run.journal.confirmed, run.journal._cursor = 0, (min(run.journal.folder.glob("*.log")), 0)
        run.flush()
        assert client.runs.get(run.run).tags["stage"] == "two"
        assert client.runs.history(run.run, "loss").steps == [1]


def test_what_is_refused_for_good_is_raised_and_kept(client: Client, home: Path) -> None:
    with starting.run(client=client, record=False) as run:
        run.flush()
        client.runs.log_batch(run.run, params={"depth": 6})  # another process of the same run
        run.log_param("depth", 7)
        run.log_metric("loss", 0.5)
        with pytest.raises(InvalidInputError, match="Changing param values is not allowed"):
            run.flush()
    assert client.runs.get(run.run).metrics == {"loss": 0.5}
    (one,) = recovery.recover(client)
    assert (one.waiting, [refusal.field for refusal in one.refused]) == (0, ["params.depth"])


def test_a_journal_that_breaks_off_is_good_up_to_there(tmp_path: Path, client: Client) -> None:
    start = journal.Start(run="0" * 32, stream="1" * 32, url="", project="default", create=CreateRun())
    written = journal.Journal.create(tmp_path, start, bytes_max=1 << 30)
    for number in range(3):
        written.append(journal.Kind.BATCH, bytes([number]) * 100)
    assert journal.Journal.take_over(written.folder) is None  # its process lives
    (segment,) = written.folder.glob("*.log")
    content = segment.read_bytes()
    written._lock_file.close()  # type: ignore[union-attr]
    for cut in (len(content) - 1, len(content) - 105, 5, 0):
        segment.write_bytes(content[:cut])
        again = journal.Journal.take_over(written.folder)
        assert again is not None
        whole = cut // (len(content) // 3)
        assert [entry.content for entry in again.pending(bytes_max=1 << 20)] == [bytes([n]) * 100 for n in range(whole)]
        again._lock_file.close()  # type: ignore[union-attr]
