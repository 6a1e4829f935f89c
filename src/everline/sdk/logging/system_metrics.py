"""What the machine does while a run goes on, under MLflow's names: `system/cpu_utilization_percentage` and so on.

On Linux everything is read from `/proc`; elsewhere `psutil` is used if it is installed, else only the disk is known.
GPUs are asked through `pynvml` if that is installed, else through `nvidia-smi` if it is there.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everline.errors import EverlineError
from everline.loader import load

if TYPE_CHECKING:
    from everline.sdk.logging.active_run import ActiveRun

PROC = Path("/proc")
MB = 1e6
_ASK_GPU_S = 5.0
_GPU = ("utilization.gpu", "memory.used", "memory.total", "power.draw", "power.limit")
_MIB = 1.048576


class SystemMetrics:
    """Logs the machine's metrics every `system_metrics_s` and once at the end; CPU and network since the last time."""

    def __init__(self, run: ActiveRun) -> None:
        self._run = run
        self._interval_s = run.client.settings.system_metrics_s
        self._readings = Readings()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="everline-system", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Log once more, and end."""
        self._done.set()
        self._thread.join()

    def _work(self) -> None:
        step = 0
        while True:
            last = self._done.wait(self._interval_s)
            try:
                self._run.log_metrics(
                    {f"system/{key}": value for key, value in self._readings.read().items()}, step=step
                )
            except EverlineError as error:
                self._run.fail(error)
                return
            except OSError:
                pass  # a reading that fails once may come again
            if last:
                return
            step += 1


class Readings:
    """The machine's state, and what has changed since the last look."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._psutil: Any = None
        if not (proc / "stat").exists() and importlib.util.find_spec("psutil"):
            self._psutil = load("psutil")
        self._gpus = _gpu_reader()
        self._cpu = self._cpu_times()
        self._network_start = self._network()

    def read(self) -> dict[str, float]:
        """Metrics by MLflow's names without `system/`; megabytes are millions of bytes."""
        found = self._cpu_use() | self._memory() | self._disk()
        for name, now, start in zip(("receive", "transmit"), self._network(), self._network_start, strict=False):
            found[f"network_{name}_megabytes"] = (now - start) / MB
        for number, gpu in enumerate(self._gpus()):
            found |= {f"gpu_{number}_{name}": value for name, value in gpu.items()}
        return found

    def _cpu_use(self) -> dict[str, float]:
        before, self._cpu = self._cpu, self._cpu_times()
        busy, total = (now - then for now, then in zip(self._cpu, before, strict=True))
        return {"cpu_utilization_percentage": round(100 * busy / total, 1)} if total > 0 else {}

    def _cpu_times(self) -> tuple[float, float]:
        """Seconds of work and of everything, in any unit."""
        if self._psutil:
            times = self._psutil.cpu_times()
            return sum(times) - times.idle, sum(times)
        line = self._lines("stat")[:1]
        if not line:
            return 0.0, 0.0
        # user nice system idle iowait irq softirq steal; what follows is counted in user already
        times = [float(text) for text in line[0].split()[1:9]]
        return sum(times) - times[3] - times[4], sum(times)

    def _memory(self) -> dict[str, float]:
        if self._psutil:
            memory = self._psutil.virtual_memory()
            total, free = memory.total, memory.available
        else:
            rows = dict(line.split(":", 1) for line in self._lines("meminfo"))
            if not rows:
                return {}
            total, free = (int(rows[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
        used = total - free
        return {
            "system_memory_usage_megabytes": round(used / MB, 1),
            "system_memory_usage_percentage": round(100 * used / total, 1),
        }

    def _disk(self) -> dict[str, float]:
        disk = shutil.disk_usage(os.sep)
        return {
            "disk_usage_percentage": round(100 * disk.used / (disk.used + disk.free), 1),
            "disk_usage_megabytes": round(disk.used / MB, 1),
            "disk_available_megabytes": round(disk.free / MB, 1),
        }

    def _network(self) -> list[int]:
        """Bytes received and sent on every interface, the loopback too, as MLflow counts them."""
        if self._psutil:
            counted = self._psutil.net_io_counters()
            return [counted.bytes_recv, counted.bytes_sent]
        rows = [line.partition(":")[2].split() for line in self._lines("net/dev")[2:]]
        return [sum(int(row[0]) for row in rows), sum(int(row[8]) for row in rows)] if rows else []

    def _lines(self, name: str) -> list[str]:
        try:
            return (self._proc / name).read_text().splitlines()
        except OSError:
            return []


def _gpu_reader() -> Callable[[], list[dict[str, float]]]:
    if importlib.util.find_spec("pynvml"):
        nvml = load("pynvml")
        try:
            nvml.nvmlInit()
            handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError:
            return list  # the library without a driver
        return lambda: [_from_nvml(nvml, handle) for handle in handles]
    command = shutil.which("nvidia-smi")
    return (lambda: _from_command(command)) if command else list


def _from_nvml(nvml: Any, handle: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for read in (
        lambda: {"utilization_percentage": nvml.nvmlDeviceGetUtilizationRates(handle).gpu},
        lambda: _gpu_memory(nvml.nvmlDeviceGetMemoryInfo(handle)),
        lambda: _gpu_power(
            nvml.nvmlDeviceGetPowerUsage(handle) / 1000, nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000
        ),
    ):
        try:
            found |= read()
        except nvml.NVMLError:
            continue  # this device does not tell
    return found


def _gpu_memory(memory: Any) -> dict[str, float]:
    return {
        "memory_usage_megabytes": memory.used / MB,
        "memory_usage_percentage": round(100 * memory.used / memory.total, 1),
    }


def _gpu_power(watts: float, limit: float) -> dict[str, float]:
    return {"power_usage_watts": watts, "power_usage_percentage": round(100 * watts / limit, 1)}


def _from_command(command: str) -> list[dict[str, float]]:
    try:
        done = subprocess.run(
            [command, f"--query-gpu={','.join(_GPU)}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=_ASK_GPU_S, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return [gpu_of_line(line) for line in done.stdout.splitlines() if line.strip()]


def gpu_of_line(line: str) -> dict[str, float]:
    """One GPU from a line of `nvidia-smi`: percent, MiB, MiB, watts, watts; what it does not know is left out."""
    known: Mapping[str, float] = {
        name: float(text) for name, text in zip(_GPU, line.split(","), strict=False) if _is_number(text)
    }
    found: dict[str, float] = {}
    if "utilization.gpu" in known:
        found["utilization_percentage"] = known["utilization.gpu"]
    if known.get("memory.total"):
        found["memory_usage_megabytes"] = known.get("memory.used", 0.0) * _MIB
        found["memory_usage_percentage"] = round(100 * known.get("memory.used", 0.0) / known["memory.total"], 1)
    if "power.draw" in known and known.get("power.limit"):
        found |= _gpu_power(known["power.draw"], known["power.limit"])
    return found


def _is_number(text: str) -> bool:
    return text.strip().replace(".", "", 1).isdigit()
