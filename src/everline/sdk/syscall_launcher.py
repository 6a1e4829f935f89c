"""Starts a command whose file openings and connections somebody is told of: `python -I -S FILE SOCKET COMMAND …`.

It asks the kernel (seccomp, user notification) to tell the holder of a descriptor of every `open`, `openat`, `openat2`
and `connect` of itself and all that it starts, hands that descriptor through the socket, and becomes the command. Where
the kernel does not do that, it says so and becomes the command all the same. Linux on x86-64 and ARM64.
"""

from __future__ import annotations

import array
import ctypes
import os
import platform
import socket
import struct
import sys

# Architecture's number for audits, numbers of seccomp, openat, openat2, open and connect; see the kernel's tables.
CALLS = {
    "x86_64": (0xC000003E, 317, {257: "openat", 437: "openat2", 2: "open", 42: "connect"}),
    "aarch64": (0xC00000B7, 277, {56: "openat", 437: "openat2", 203: "connect"}),
}
_NO_NEW_PRIVILEGES, _SET_FILTER, _NEW_LISTENER = 38, 1, 8
_ALLOW, _TELL = 0x7FFF0000, 0x7FC00000
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06


def main(arguments: list[str]) -> None:
    """Install the filter and become the command."""
    with socket.socket(fileno=int(arguments[0])) as told:
        descriptor = _listener()
        if descriptor is None:
            told.sendall(b"n")
        else:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
            told.sendmsg([b"y"], rights)
            os.close(descriptor)
    os.execv(arguments[1], arguments[1:])  # noqa: S606 - that is what it is for


def _listener() -> int | None:
    """The descriptor that tells of the calls, or None if the kernel does not do that."""
    known = CALLS.get(platform.machine())
    if known is None or not sys.platform.startswith("linux"):
        return None
    architecture, seccomp, calls = known
    program = [_one(_LOAD, 4), _one(_EQUAL, architecture, 1, 0), _one(_RETURN, _ALLOW), _one(_LOAD, 0)]
    program += [_one(_EQUAL, number, len(calls) - index, 0) for index, number in enumerate(calls)]
    program += [_one(_RETURN, _ALLOW), _one(_RETURN, _TELL)]
    code = ctypes.create_string_buffer(b"".join(program))
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return None
    descriptor = int(libc.syscall(seccomp, _SET_FILTER, _NEW_LISTENER, described))
    return descriptor if descriptor >= 0 else None


def _one(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction of the filter."""
    return struct.pack("HBBI", code, if_true, if_false, value)


if __name__ == "__main__":
    main(sys.argv[1:])
