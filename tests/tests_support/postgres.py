"""A private PostgreSQL server for the tests: its own directory, loopback only, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

URL_VARIABLE = "EVERLINE_TEST_POSTGRES_URL"
_FAST = (
    *("fsync=off", "synchronous_commit=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0"),
    *("autovacuum=off", "max_connections=500", "shared_buffers=64MB"),
)


def find_binaries() -> Path | None:
    """The directory of `initdb` and `postgres`, newest version first; None if PostgreSQL is not installed."""
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    on_path = shutil.which("initdb")
    for folder in [*packaged, *([Path(on_path).resolve().parent] if on_path else [])]:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


@contextlib.contextmanager
def running() -> Iterator[str]:
    """URL of a server that lives as long as the context; `EVERLINE_TEST_POSTGRES_URL` names one that runs already."""
    given = os.environ.get(URL_VARIABLE)
    if given:
        yield given
        return
    binaries = find_binaries()
    if binaries is None:
        raise RuntimeError(
            "PostgreSQL is not installed: `apt-get install postgresql`, or name a running server in "
            f"{URL_VARIABLE}=postgresql://user:password@host:port/postgres"
        )
    with tempfile.TemporaryDirectory(prefix="everline-postgres-") as folder:
        data, port = Path(folder) / "data", _free_port()
        # PostgreSQL refuses to run as root: then it runs as the user that its package made.
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if user:
            shutil.chown(folder, "postgres")
            Path(folder).chmod(0o700)
        run = [*user, str(binaries / "initdb"), "-D", str(data), "-U", "everline", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*run, "--locale=C", "--no-sync"], check=True, capture_output=True, cwd=folder)
        options = [flag for option in _FAST for flag in ("-c", option)]
        server = [*user, str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-k", folder]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen([*server, "-h", "127.0.0.1", *options], cwd=folder, stdout=log, stderr=log)
        url = f"postgresql://everline@127.0.0.1:{port}/postgres"
        try:
            _wait(url, process, Path(folder) / "log")
            yield url
        finally:
            process.terminate()
            process.wait(30)


def database_url(server_url: str, name: str) -> str:
    """The URL of one database of a server."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended at its start:\n{log.read_text()}")
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(url, connect_timeout=2).close()
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    raise RuntimeError(f"PostgreSQL did not answer:\n{log.read_text()}")
