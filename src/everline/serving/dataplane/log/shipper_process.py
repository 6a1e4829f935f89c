"""The serving process's end of the shipper: starts it, keeps it alive, lets it finish."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys

import msgspec

log = logging.getLogger("everline.serve")

ORDERS_VARIABLE = "EVERLINE_SHIPPER"
_RESTART_S = 1.0


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What the serving process tells its shipper, through the environment: a token stays out of process lists."""

    home: str
    url: str
    token: str | None = None
    timeout_s: float = 30.0
    drain_s: float = 15.0


class ShipperProcess:
    """The second process, started again whenever it dies; it ends when its standard input is closed."""

    def __init__(self, orders: Orders) -> None:
        self._environment = os.environ | {ORDERS_VARIABLE: msgspec.json.encode(orders).decode()}
        self._process = self._start()

    async def keep_alive(self) -> None:
        """Start it again when it dies; runs until it is cancelled."""
        while True:
            await asyncio.sleep(_RESTART_S)
            if self._process.poll() is not None:
                log.error("the shipper ended with %s and is started again", self._process.returncode)
                self._process = self._start()

    def drain(self, seconds: float) -> None:
        """Let it bring away what is left, for at most about `seconds`; what stays is shipped after a restart."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(seconds + 1.0)
        except subprocess.TimeoutExpired:
            log.warning("the shipper did not finish in time; the rest ships after the next start")
            self._process.kill()
            self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in a terminal must not end it before the log is closed.
        return subprocess.Popen(
            [sys.executable, "-m", "everline.serving.dataplane.log.shipper"],
            stdin=subprocess.PIPE,
            env=self._environment,
            start_new_session=True,
        )
