"""What `everline.run()` does on request, forked writers, and runs as frames."""

from __future__ import annotations

import multiprocessing
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import Server
from everline.errors import ConflictError, InvalidInputError
from everline.sdk.client import Client
from everline.sdk.logging import starting
from everline.sdk.logging.output import Kept
from everline.sdk.logging.system_metrics import Readings, gpu_of_line


@pytest.fixture
def inside(sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An embedded client; the options are the client's own and know no database."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "everline.db").write_bytes(sqlite_template.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVERLINE_WORKER", "false")
    monkeypatch.setenv("EVERLINE_SYSTEM_METRICS_S", "0.1")
    with Client(home=home) as client:
        yield client


@pytest.fixture(scope="module")
def server_url(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server on SQLite: what is tested here is the client's own."""
    home = tmp_path_factory.mktemp("server")
    (home / "everline.db").write_bytes(sqlite_template.read_bytes())
    running = Server(home, "")
    running.start()
    yield running.url
    running.stop()


def test_output_and_system_metrics_are_kept_and_the_streams_given_back(inside: Client, capsys: Any) -> None:
    before = sys.stdout, sys.stderr
    with starting.run(client=inside, record=False, capture_output=True, system_metrics=True) as outer:
        print("first line")
        with starting.run(client=inside, record=False, capture_output=True) as inner:
            print("both", file=sys.stderr)
        print("last line ✓")
        assert sys.stdout.encoding == before[0].encoding
    assert (sys.stdout, sys.stderr) == before
    assert "first line\nlast line ✓\n" in capsys.readouterr().out  # printed as ever
    assert inside.runs.artifact(outer.run, "output.log").decode() == "first line\nboth\nlast line ✓\n"
    assert inside.runs.artifact(inner.run, "output.log") == b"both\n"
    metrics = inside.runs.get(outer.run).metrics
    wanted = ("cpu_utilization_percentage", "system_memory_usage_megabytes", "system_memory_usage_percentage",
              "disk_usage_percentage", "disk_available_megabytes", "network_receive_megabytes")  # fmt: skip
    assert {f"system/{name}" for name in wanted} <= metrics.keys()


def test_what_the_machine_does_is_what_psutil_says() -> None:
    psutil = pytest.importorskip("psutil")
    readings = Readings(), Readings(proc=Path("/nowhere"))  # the second as on a system without /proc
    time.sleep(0.1)
    ours, elsewhere = (one.read() for one in readings)
    theirs = psutil.virtual_memory()
    assert ours["system_memory_usage_megabytes"] == pytest.approx((theirs.total - theirs.available) / 1e6, rel=0.2)
    assert ours.keys() == elsewhere.keys()


def test_a_gpu_is_read_from_nvidia_smi() -> None:
    assert gpu_of_line("37, 1024, 4096, 75.5, 300.00") == {
        "utilization_percentage": 37.0,
        "memory_usage_megabytes": pytest.approx(1073.74, abs=0.01),
        "memory_usage_percentage": 25.0,
        "power_usage_watts": 75.5,
        "power_usage_percentage": 25.2,
    }
    assert gpu_of_line("5, [N/A], [N/A], [N/A], [N/A]") == {"utilization_percentage": 5.0}


def test_long_output_keeps_its_beginning_and_its_end() -> None:
    kept = Kept(1000)
    for number in range(10_000):
        kept.add(f"{number:06}\n")
    content = kept.take_if_new()
    assert content is not None
    assert content.startswith(b"000000\n") and content.endswith(b"009999\n")
    assert b"bytes are left out here" in content
    assert len(content) < 1100
    assert kept.take_if_new() is None


def test_progress_is_a_line_in_a_terminal_and_one_at_the_end_elsewhere(inside: Client) -> None:
    script = (
        "import time, everline as el\n"
        "with el.run(name='swift', record=False, progress=True) as run:\n"
        "    run.log_metric('loss', 0.25)\n"
        "    time.sleep(0.4)\n"
    )
    command = [sys.executable, "-c", script]
    environment = os.environ | {"EVERLINE_HOME": str(inside.settings.home), "TERM": "xterm", "COLUMNS": "100"}
    piped = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert piped.stderr.count("swift") == 1
    assert "loss 0.25" in piped.stderr
    master, slave = pty.openpty()
    with subprocess.Popen(command, env=environment, stderr=slave, stdout=subprocess.PIPE) as process:
        assert process.wait(60) == 0
    os.close(slave)
    shown = os.read(master, 1 << 16).decode()
    os.close(master)
    assert shown.count("swift") > 1 and "loss" in shown


def test_a_forked_process_logs_to_the_same_run(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLINE_HOME", str(tmp_path / "client"))
    with Client(server_url) as client:
        with starting.run(client=client, record=False) as run:
            run.log_metric("parent", 1.0)

            def work() -> None:
                for step in range(100):
                    run.log_metric("child", float(step), step=step)
                run.flush()

            child = multiprocessing.get_context("fork").Process(target=work)
            child.start()
            child.join(30)
            assert child.exitcode == 0
            run.log_metric("parent", 2.0)
        assert client.runs.history(run.run, "child").steps == list(range(100))
        assert client.runs.history(run.run, "parent").values == [1.0, 2.0]


def test_what_breaks_a_rule_is_refused_at_the_call(inside: Client) -> None:
    with starting.run(client=inside, record=False, params={"depth": 6}) as run:
        for wrong in (
            lambda: run.log_metric("../x", 1.0),
            lambda: run.log_metric("loss", "much"),  # type: ignore[arg-type]
            lambda: run.log_metric("loss", 1.0, step=1.5),  # type: ignore[arg-type]
            lambda: run.log_metric("loss", 1.0, step=2**63),
            lambda: run.log_param("depth", 7),
            lambda: run.log_params({"long": "x" * 6001}),
            lambda: run.set_tag("a/../b", "x"),
            lambda: run.set_tag("half", "\ud800"),
            lambda: run.log_text("x", path="../x"),
        ):
            with pytest.raises(InvalidInputError):
                wrong()
        run.log_param("depth", 6)
    with pytest.raises(ConflictError, match="has ended"):
        run.log_metric("loss", 1.0)
    assert inside.runs.get(run.run).metrics == {}


def test_found_and_compared_runs_are_frames(inside: Client) -> None:
    empty = inside.runs.search("metrics.auc > 0.5")
    assert empty.to_polars().columns[:4] == ["run", "name", "experiment", "status"]
    assert len(empty.to_pandas()) == 0
    made = [inside.runs.create(name=f"r{n}", params={"depth": n}, tags={"team": "x"}).run for n in range(3)]
    inside.runs.log_batch(made[0], metrics={"auc": 0.5})
    inside.runs.log_batch(made[1], metrics={"auc": float("nan")})
    inside.runs.finish(made[0])
    monkey = starting.load("everline.sdk.runs")
    pages, monkey.RUNS_PER_PAGE = monkey.RUNS_PER_PAGE, 2
    try:
        found = inside.runs.search(order_by=["attributes.start_time ASC"], limit=50_000)
    finally:
        monkey.RUNS_PER_PAGE = pages
    assert [run.name for run in found] == ["r0", "r1", "r2"]
    frame = found.to_polars()
    assert frame["params.depth"].to_list() == ["0", "1", "2"]
    assert frame["tags.team"].to_list() == ["x", "x", "x"]
    assert frame["metrics.auc"].is_null().to_list() == [False, False, True]
    assert frame["metrics.auc"].is_nan().to_list() == [False, True, None]
    assert frame["ended_at"].is_null().to_list() == [False, True, True]
    pandas = found.to_pandas()
    assert pandas["metrics.auc"].dtype == "float64"
    assert str(pandas["started_at"].dt.tz) == "UTC"
    compared = inside.runs.compare(made).to_pandas()
    assert list(compared["params.depth"]) == ["0", "1", "2"]
    assert list(compared["run"]) == made


def test_a_full_disk_stops_nothing(server_url: str, tmp_path: Path) -> None:
    script = """
import resource, everline as el
run = el.run(experiment="full", record=False)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
for step in range(20_000):
    run.log_metric("loss", float(step), step=step)
run.flush()
run.finish()
print(run.run)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"EVERLINE_URL": server_url, "EVERLINE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert re.search("cannot be written .*held in memory", done.stderr)
    with Client(server_url) as client:
        assert len(client.runs.history(done.stdout.strip(), "loss").steps) == 20_000
