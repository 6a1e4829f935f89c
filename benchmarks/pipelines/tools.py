"""The tools, each set up and started as its documentation says, with its state on the disk."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.pipelines.peer import Peer, Task
from benchmarks.pipelines.processes import Tree
from everline.sdk.pipelines import PipelinesApi

EVERYTHING_IS_IN_THE_CALL = "it has no graph: steps come up while the flow runs"
PROCESS_EACH = "a process for each step: hours"
READY_S_MAX = 120


class Everline(Peer):
    name = "Everline"
    program = "everline"
    environment = None
    how = "embedded, SQLite; its default executor"
    on: Sequence[str] = ()

    def begin(self) -> None:
        self.variables["EVERLINE_HOME"] = str(self.folder / "home")
        (self.folder / "everline.toml").touch()  # the root of a project
        self.side(self.python, "-m", "everline", "runs", "list", "--json")  # tables are made

    def command(self, task: Task) -> Sequence[object]:
        if task.workload == "handover":
            return self.shell(task)
        return [self.python, "program.py", task.workload, task.size, task.salt, *self.on]

    def shell(self, task: Task) -> Sequence[object]:
        kinds = {"cold": "linear", "rerun": "linear"}
        given = {"size": task.size, "salt": task.salt}
        if task.workload == "handover":
            given = {"size": task.size, "ledger": task.ledger}
        if task.workload == "crash":
            given |= {"ledger": task.ledger, "seconds": task.seconds}
        options = [part for name, value in given.items() for part in ("--param", f"{name}={value}")]
        where = ["--on", *self.on] if self.on else []
        return [
            self.python,
            "-m",
            "everline",
            "run",
            f"flow:{kinds.get(task.workload, task.workload)}",
            *options,
            *where,
        ]

    def resumption(self, task: Task) -> Sequence[object]:
        if "--resume" not in self.side(self.python, "-m", "everline", "run", "--help"):
            return self.shell(task)  # the step cache has what was done
        told = self.side(self.python, "-m", "everline", "runs", "list", "--json")
        runs = json.loads(told[told.index("[") : told.rindex("]") + 1])
        killed = next(run["run"] for run in runs if run["status"] not in ("finished", "failed"))
        return [*self.shell(task), "--resume", killed]


class EverlineInline(Everline):
    name = "Everline, inline"
    how = "… steps in the process of the run"
    on = ("inline",)


class Prefect(Peer):
    name = "Prefect"
    program = environment = "prefect"
    how = "its server up, SQLite; fan-out by `.map` on threads; results kept where a re-run or a resume needs them"
    unable: Mapping[str, str] = {"graph": EVERYTHING_IS_IN_THE_CALL}
    _server: Tree | None = None

    def begin(self) -> None:
        port = _free_port()
        self.variables |= {
            "PREFECT_HOME": str(self.folder / "home"), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "WARNING",
        }  # fmt: skip
        command = [self.python, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
        self._server = Tree(command, folder=self.folder, variables=self.variables)
        self._server.until(lambda: _answers(f"http://127.0.0.1:{port}/api/health"), READY_S_MAX)

    def end(self) -> None:
        if self._server is not None:
            self._server.stop()

    def command(self, task: Task) -> Sequence[object]:
        workload = {"cold": "linear"}.get(task.workload, task.workload)
        return [self.python, "program.py", workload, task.size, task.salt, task.ledger, task.seconds]


class Dagster(Peer):
    name = "Dagster, in process"
    program = environment = "dagster"
    how = "`execute_job` with an instance in SQLite; results in files, its default"
    sizes: Mapping[str, int] = {"fanout": 200}
    unable: Mapping[str, str] = {"rerun": "ops have no cache"}
    executor = "in_process"

    def begin(self) -> None:
        self.variables["DAGSTER_HOME"] = str(self.folder)
        (self.folder / "dagster.yaml").touch()

    def command(self, task: Task) -> Sequence[object]:
        workload = {"cold": "linear"}.get(task.workload, task.workload)
        told = [task.size, task.salt, task.ledger, task.seconds, self.executor]
        return [self.python, "program.py", workload, *told]

    def resumption(self, task: Task) -> Sequence[object]:
        return [*self.command(task), "resume"]


class DagsterProcesses(Dagster):
    name = "Dagster, processes"
    how = "… with its default executor, a process for each step"
    sizes: Mapping[str, int] = {"linear": 6, "fanout": 6, "crash": 10}
    unable: Mapping[str, str] = {"rerun": "ops have no cache", "graph": PROCESS_EACH}
    executor = "multiprocess"


class Metaflow(Peer):
    name = "Metaflow"
    program = environment = "metaflow"
    how = "local datastore; a process for each step; the whole command, since there is no other way"
    sizes: Mapping[str, int] = {"linear": 20, "fanout": 50, "crash": 30}
    unable: Mapping[str, str] = {"rerun": "it has no cache", "graph": PROCESS_EACH}

    def begin(self) -> None:
        self.variables |= {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(self.folder), "USERNAME": "bench"}

    def prepare(self, task: Task) -> None:
        self.side(self.python, "make_flow.py", task.workload, task.size)

    def command(self, task: Task) -> Sequence[object]:
        return [self.python, "flow.py", "run", "--salt", task.salt, "--max-num-splits", 1000]

    def resumption(self, task: Task) -> Sequence[object]:
        return [self.python, "flow.py", "resume"]


class Kedro(Peer):
    name = "Kedro"
    program = environment = "kedro"
    how = "its default runner, in one process; every value a pickle in the catalog, tables as Parquet; no records"

    def begin(self) -> None:
        self.variables |= {"KEDRO_DISABLE_TELEMETRY": "1", "PYTHONPATH": f"{self.folder}/src:{self.folder}"}

    def needs(self, task: Task) -> Mapping[str, str]:
        return {**super().needs(task), "BENCH_WORKLOAD": task.workload, "BENCH_SIZE": str(task.size)}

    def prepare(self, task: Task) -> None:
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    def command(self, task: Task) -> Sequence[object]:
        return [self.python, "build.py" if task.workload == "build" else "program.py"]

    def shell(self, task: Task) -> Sequence[object]:
        return [self.python, "-m", "kedro", "run"]

    def again(self, task: Task) -> Sequence[object]:
        return [*self.shell(task), "--only-missing-outputs"]


class ZenML(Peer):
    name = "ZenML"
    program = environment = "zenml"
    how = "its local stack, SQLite, no server; its cache on"
    sizes: Mapping[str, int] = {"linear": 20, "fanout": 20, "crash": 20}
    unable: Mapping[str, str] = {"graph": "at 0.1 s a step: hours"}

    def begin(self) -> None:
        self.variables |= {
            "ZENML_CONFIG_PATH": str(self.folder / "config"), "ZENML_ANALYTICS_OPT_IN": "false",
            "ZENML_LOGGING_VERBOSITY": "WARN",
        }  # fmt: skip
        self.side(self.python.with_name("zenml"), "init")

    def command(self, task: Task) -> Sequence[object]:
        workload = {"cold": "linear", "rerun": "linear"}.get(task.workload, task.workload)
        return [self.python, "program.py", workload, task.size, task.salt, task.ledger, task.seconds]


class Ray(Peer):
    name = "Ray core"
    program = environment = "ray"
    how = "a local cluster, up before the clock starts; nothing durable"
    unable: Mapping[str, str] = {"rerun": "it keeps no results"}

    def begin(self) -> None:
        self.variables |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}

    def command(self, task: Task) -> Sequence[object]:
        workload = {"cold": "linear"}.get(task.workload, task.workload)
        return [self.python, "program.py", workload, task.size, task.salt, task.ledger, task.seconds]


class Dbos(Peer):
    name = "DBOS"
    program = environment = "dbos"
    how = "SQLite; one workflow, fan-out by `asyncio.gather`; a workflow goes on, or is answered, by its id"
    unable: Mapping[str, str] = {"graph": EVERYTHING_IS_IN_THE_CALL}

    def command(self, task: Task) -> Sequence[object]:
        workload = {"cold": "linear", "rerun": "linear"}.get(task.workload, task.workload)
        return [self.python, "program.py", workload, task.size, task.salt, task.ledger, task.seconds]


class Dvc(Peer):
    name = "DVC"
    program = environment = "dvc"
    how = "`dvc repro`: a command and a file for each stage; the whole command, since there is no other way"
    sizes: Mapping[str, int] = {"linear": 20, "rerun": 20, "fanout": 30, "crash": 20}
    unable: Mapping[str, str] = {"graph": PROCESS_EACH}

    def begin(self) -> None:
        self.variables["DVC_NO_ANALYTICS"] = "1"
        self.side("git", "init", "--quiet")
        self.side(self.python, "-m", "dvc", "init", "--quiet")

    def prepare(self, task: Task) -> None:
        workload = {"cold": "linear", "rerun": "linear"}.get(task.workload, task.workload)
        self.side(sys.executable, "make_stages.py", workload, task.size, task.salt)

    def command(self, task: Task) -> Sequence[object]:
        return [self.python, "-m", "dvc", "repro", "--quiet"]


PEERS: Sequence[type[Peer]] = (Prefect, Dagster, DagsterProcesses, Metaflow, Kedro, ZenML, Ray, Dbos, Dvc)


def tools() -> list[type[Peer]]:
    """Everline first; inline too if this version of it has the choice. BENCH_PEERS names fewer, by commas."""
    choice = "on" in inspect.signature(PipelinesApi.run).parameters
    ours = [Everline, EverlineInline] if choice else [Everline]
    asked = [name.strip().lower() for name in os.environ.get("BENCH_PEERS", "").split(",") if name.strip()]
    return [kind for kind in (*ours, *PEERS) if not asked or kind.program in asked or kind.program == "everline"]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
