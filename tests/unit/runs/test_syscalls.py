"""What compiled code opens and connects to is seen too, in children as well, and nothing is held up or changed."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from everline.ids import digest_bytes
from everline.runs.watching import Seen, Watch
from everline.sdk import syscall_launcher
from everline.sdk.processes import run_process
from everline.sdk.syscall_launcher import CALLS
from everline.sdk.syscalls import Supervisor

pytestmark = pytest.mark.skipif(
    platform.machine() not in CALLS or not sys.platform.startswith("linux"), reason="the kernel tells on Linux only"
)


def seen(code: str, folder: Path) -> tuple[Supervisor, list[Seen], str | None]:
    watch = Watch(peers=[], folders=[str(Path(__file__).parents[3] / "src"), str(Path(sys.executable).parent.parent)])
    with Supervisor(watch) as supervisor:
        failure = run_process(
            [sys.executable, "-c", code], folder=folder, variables=os.environ, timeout_s=60, supervisor=supervisor
        )
    return supervisor, watch.stop(), failure


def older(path: Path) -> None:
    while Watch(peers=[])._since <= path.stat().st_ctime:
        threading.Event().wait(0.005)


def test_what_arrow_and_a_child_open_by_themselves_is_seen(tmp_path: Path) -> None:
    for name in ("arrow.csv", "child.txt"):
        (tmp_path / name).write_text("a,b\n1,2\n")
        older(tmp_path / name)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code = (
            "import pyarrow.csv, socket, subprocess\n"
            "assert pyarrow.csv.read_csv('arrow.csv').num_rows == 1\n"
            "subprocess.run(['cat', 'child.txt'], check=True, stdout=subprocess.DEVNULL)\n"
            "open('own.txt', 'w').write('x'); open('own.txt').read()\n"
            f"socket.create_connection(('127.0.0.1', {port})).close()\n"
            "raise SystemExit(open('/nowhere/at/all').read())"
        )
        supervisor, found, failure = seen(code, tmp_path)
    assert failure is not None and "FileNotFoundError" in failure, "its own errors are as they were"
    if not supervisor.heard:
        pytest.skip("this sandbox does not let the kernel tell")
    digest = digest_bytes(b"a,b\n1,2\n")
    assert found == [
        Seen("file", str(tmp_path / "arrow.csv"), None, digest, 8),
        Seen("file", str(tmp_path / "child.txt"), None, digest, 8),
        Seen("host", f"127.0.0.1:{port}"),
    ]
    assert list(supervisor.moments) == [one.name for one in found]


def test_where_the_kernel_does_not_tell_the_command_runs_all_the_same(tmp_path: Path) -> None:
    code = f"import platform, sys; platform.machine = lambda: 'other'; sys.argv = sys.argv[1:]\n" \
           f"exec(open({syscall_launcher.__file__!r}).read())"  # fmt: skip
    ours, theirs = socket.socketpair()
    with ours, theirs:
        descriptor = theirs.fileno()
        command = [sys.executable, "-c", code, "launcher", str(descriptor), "/bin/echo", "done"]
        done = subprocess.run(command, pass_fds=[descriptor], capture_output=True, check=True, text=True)
        assert (done.stdout, ours.recv(1)) == ("done\n", b"n")
