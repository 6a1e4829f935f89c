"""One large artifact, up and down through the server's proxy with the official client."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.tracking import stage
from benchmarks.tracking.clients import client_of, run_of
from benchmarks.tracking.stage import Server
from benchmarks.tracking.table import Target, head, row

MIB = int(os.environ.get("BENCH_ARTIFACT_MIB", "1024"))


def main() -> None:
    head()
    what = f"artifact of {MIB:,} MiB"
    for way, measure in (("up", up), ("down", down)):
        row(
            f"{what}, {way}",
            everline=functools.partial(measure, stage.everline()),
            mlflow=functools.partial(measure, stage.mlflow()),
            limit=copied,
            unit="MiB/s",
            target=Target(times=1.5),
        )


@functools.cache
def file() -> Path:
    """Random bytes, which nothing can make smaller."""
    path = stage.folder() / "large.bin"
    with path.open("wb") as target:
        for _ in range(MIB):
            target.write(os.urandom(1 << 20))
    return path


def up(server: Server) -> float:
    """MiB per second until the server has it."""
    large, run = file(), run_of(server.url)
    began = time.perf_counter()
    client_of(server.url).log_artifact(run, str(large))
    return MIB / (time.perf_counter() - began)


def down(server: Server) -> float:
    """MiB per second until the client has it whole on its disk."""
    with tempfile.TemporaryDirectory(dir=stage.folder()) as target:
        began = time.perf_counter()
        path = client_of(server.url).download_artifacts(run_of(server.url), file().name, target)
        took = time.perf_counter() - began
        if Path(path).stat().st_size != MIB << 20:
            raise RuntimeError(f"{server.name} did not give the whole file back")
    return MIB / took


def copied() -> float:
    """MiB per second of a plain copy."""
    target = stage.folder() / "copy.bin"
    began = time.perf_counter()
    shutil.copyfile(file(), target)
    took = time.perf_counter() - began
    target.unlink()
    return MIB / took
