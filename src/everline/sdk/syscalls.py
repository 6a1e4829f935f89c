"""What a process and its children open and connect to, as the kernel sees it: compiled code as well.

    with Supervisor(watch) as supervisor:
        subprocess.Popen(supervisor.command(["python", "train.py"]), pass_fds=supervisor.descriptors)
    watch.stop()

The audit hook (`runs.watching`) hears Python only. While a rebuild runs, the kernel tells this thread of each `open`
and `connect` before it is done (see `syscall_launcher`); the thread notes it and lets it go on, and never forbids
anything. On other systems, and where a sandbox does not allow it, the process runs all the same, with the hook alone.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import ipaddress
import os
import platform
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from everline.loader import load
from everline.runs.watching import Watch
from everline.sdk.syscall_launcher import CALLS

_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1
_REQUEST, _RESPONSE = struct.Struct("QIIiIQ6Q"), struct.Struct("QqiI")
_PATH_BYTES_MAX = 4096
_HERE = -100
_RESOLVERS = frozenset({0, 53})
_FAMILIES = {socket.AF_INET: (4, 4), socket.AF_INET6: (8, 16)}
"""Where an address begins in its structure, and how long it is."""


class Supervisor:
    """Listens while one command runs; a context manager around it.

    Attributes:
        moments: when each thing was seen first, in seconds since 1970, by its name.
        heard: whether the kernel told of anything: False where it cannot.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._ours, self._theirs = socket.socketpair()
        self._thread = threading.Thread(target=self._listen, name="everline-supervisor", daemon=True)
        self._stopped = False
        self.moments: dict[str, float] = {}
        self.heard = False

    def command(self, command: Sequence[str]) -> list[str]:
        """The command with what tells of it before it."""
        launcher = str(load("everline.sdk.syscall_launcher").__file__)
        return [sys.executable, "-I", "-S", launcher, str(self._theirs.fileno()), *command]

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the process inherits."""
        return (self._theirs.fileno(),)

    def started(self) -> None:
        """The process has its end of the socket: begin to listen. Called at once, for the process waits."""
        self._theirs.close()
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._theirs.close()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._ours.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            said, rights, _, _ = self._ours.recvmsg(1, socket.CMSG_SPACE(4))
            if said != b"y" or not rights:
                return
            descriptor = array.array("i", rights[0][2][:4])[0]
            self.heard = True
            try:
                self._serve(descriptor)
            finally:
                os.close(descriptor)

    def _serve(self, descriptor: int) -> None:
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        calls = CALLS[platform.machine()][2]
        request = bytearray(_REQUEST.size)
        while True:
            events = waiting.poll(200)
            if any(event & (select.POLLHUP | select.POLLERR) for _, event in events):
                return  # nobody is left who could be told of
            if not events:
                if self._stopped:
                    return
                continue
            request[:] = bytes(_REQUEST.size)
            try:
                fcntl.ioctl(descriptor, _RECEIVE, request)
            except OSError:
                continue  # who asked has gone meanwhile
            number, process, _, call, _, _, *arguments = _REQUEST.unpack(request)
            with contextlib.suppress(Exception):  # whatever it was, the process must go on
                self._note(process, calls[call], arguments)
            with contextlib.suppress(OSError):
                fcntl.ioctl(descriptor, _SEND, _RESPONSE.pack(number, 0, 0, _CONTINUE))

    def _note(self, process: int, call: str, arguments: Sequence[int]) -> None:
        before = len(self._watch.found)
        if call == "connect":
            self._connected(_memory(process, arguments[1], min(arguments[2], 28)))
        else:
            at, flags = {
                "open": (_HERE, arguments[1]),
                "openat": (struct.unpack("i", struct.pack("I", arguments[0] & 0xFFFFFFFF))[0], arguments[2]),
                "openat2": (struct.unpack("i", struct.pack("I", arguments[0] & 0xFFFFFFFF))[0], -1),
            }[call]
            if flags == -1:
                flags = struct.unpack("Q", _memory(process, arguments[2], 8))[0]
            name = os.fsdecode(_text(process, arguments[0] if call == "open" else arguments[1]))
            if not name.startswith("/"):
                folder = f"/proc/{process}/cwd" if at == _HERE else f"/proc/{process}/fd/{at}"
                name = str(Path(folder).readlink() / name)
            self._watch.opened(name, None, flags)
        if len(self._watch.found) > before:
            self.moments[next(reversed(self._watch.found.values())).name] = time.time()

    def _connected(self, address: bytes) -> None:
        family = socket.AddressFamily(struct.unpack("H", address[:2])[0])
        start, length = _FAMILIES[family]
        port = struct.unpack(">H", address[2:4])[0]
        if port not in _RESOLVERS:
            self._watch.connected((str(ipaddress.ip_address(address[start : start + length])), port))


def _text(process: int, address: int) -> bytes:
    """A text that ends with a zero, read in pieces that do not cross a page, for the next one may not be there."""
    found = b""
    while len(found) < _PATH_BYTES_MAX:
        piece = _memory(process, address + len(found), 4096 - (address + len(found)) % 4096)
        text, zero, _ = piece.partition(b"\0")
        found += text
        if zero or not piece:
            return found
    return found


def _memory(process: int, address: int, length: int) -> bytes:
    descriptor = os.open(f"/proc/{process}/mem", os.O_RDONLY)
    try:
        return os.pread(descriptor, length, address)
    finally:
        os.close(descriptor)
