"""The process from which workers are forked: it has imported what steps need, and has one thread.

python -m everline.pipelines.executors.zygote FD

The pool asks over the socket FD: one byte `F` with three files (the worker's socket, its output, and a null input)
forks a worker and is answered by `P` and its process id. `D`, process id and wait status tell of one that ended. When
the socket closes, because the pool is done or was killed, all workers are killed with everything that they started.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import selectors
import signal
import socket
import struct
import sys
from pathlib import Path

from everline.loader import load
from everline.pipelines.executors import worker
from everline.pipelines.executors.frames import receive

REPORT = struct.Struct("!ci i")
_PR_SET_PDEATHSIG = 1


def main(descriptor: int) -> None:
    """Serve one pool until it is gone."""
    control = socket.socket(fileno=descriptor)
    setup = worker.Setup.read(receive(control))
    with Path(os.devnull).open(
        "r+b"
    ) as null:  # what a module prints when it is imported, the driver's own import prints
        for standard in (0, 1):
            os.dup2(null.fileno(), standard)
    sys.path[:] = [*setup.path, *(sys.path if setup.own else [])]
    for name in setup.modules:
        with contextlib.suppress(Exception):  # whoever needs the module tells what is wrong with it
            load(name)
    gc.collect()
    gc.freeze()
    _serve(control, setup)


def _serve(control: socket.socket, setup: worker.Setup) -> None:
    children: set[int] = set()
    awake, wake = os.pipe()
    for end in (awake, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(awake, selectors.EVENT_READ)
    try:
        while True:
            for key, _ in selector.select():
                if key.fd == awake:
                    os.read(awake, 4096)
                    _report_dead(control, children)
                    continue
                data, files, _, _ = socket.recv_fds(control, 1, 2)
                if not data:
                    return
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    selector.close()
                    control.close()
                    _become_worker(files, setup)
                children.add(pid)
                for file in files:
                    os.close(file)
                control.sendall(REPORT.pack(b"P", pid, 0))
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def _report_dead(control: socket.socket, children: set[int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        children.discard(pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)  # what it started and left behind
        control.sendall(REPORT.pack(b"D", pid, status))


def _become_worker(files: list[int], setup: worker.Setup) -> None:
    os.setsid()
    with contextlib.suppress(OSError, AttributeError):  # Linux: a worker never outlives this process
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    code = 70
    try:
        for standard in (1, 2):
            os.dup2(files[1], standard)
        os.close(files[1])
        worker.main(socket.socket(fileno=files[0]), setup)
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    main(int(sys.argv[1]))
