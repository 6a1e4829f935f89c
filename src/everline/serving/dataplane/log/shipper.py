"""The second process: turns closed segments into Parquet and brings them to the control plane.

Apart from the serving process so that neither compression nor a slow network ever delays an answer.
It ends when its standard input does: then the serving process has closed its log, or is dead. Every file
is deleted only after the control plane has acknowledged its digest; what it refuses is kept aside.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import sys
import time
from pathlib import Path

import httpx
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from everline.ids import digest_bytes
from everline.serving.dataplane.log.parquet_segments import ENDPOINT_KEY, PROJECT_KEY, convert_segment
from everline.serving.dataplane.log.shipper_process import ORDERS_VARIABLE, Orders
from everline.serving.dataplane.store import LocalStore

log = logging.getLogger("everline.shipper")

_LOOK_S = 0.2
_BACK_OFF_FIRST_S = 0.5
_BACK_OFF_MAX_S = 15.0
_NICE = 10
_REFUSED = frozenset({400, 413, 415})
"""The control plane read the segment and does not want it; anything else is worth another try."""


class Shipper:
    """Converts and ships what lies in a home directory, one file at a time."""

    def __init__(self, store: LocalStore, client: httpx.Client) -> None:
        self._store = store
        self._client = client
        self._pause_s = 0.0
        self._next_try = 0.0

    def convert(self) -> None:
        """Turn every closed segment into Parquet."""
        for raw in sorted(self._store.spool.glob("*.raw")):
            try:
                _, torn = convert_segment(raw, outbox=self._store.outbox)
            except (msgspec.DecodeError, pa.ArrowException, KeyError, ValueError) as error:
                log.error("segment %s cannot be read and is kept in %s: %s", raw.name, self._store.refused, error)
                raw.rename(self._store.refused / raw.name)
                continue
            if torn:
                log.warning("segment %s ended in %d bytes of an unanswered request; they are dropped", raw.name, torn)
            raw.unlink()

    def ship(self) -> bool:
        """Send what waits; return whether the outbox is empty. Stops at the first failure until its pause is over."""
        if time.monotonic() < self._next_try:
            return False
        for path in sorted(self._store.outbox.glob("*.parquet")):
            try:
                self._send(path)
            except (httpx.HTTPError, OSError) as error:
                self._pause_s = min(max(self._pause_s * 2, _BACK_OFF_FIRST_S), _BACK_OFF_MAX_S)
                self._next_try = time.monotonic() + self._pause_s
                log.warning("segment %s waits %.1f s: %s", path.name, self._pause_s, error)
                return False
        self._pause_s = 0.0
        return True

    def _send(self, path: Path) -> None:
        body = path.read_bytes()
        facts = pq.read_metadata(pa.BufferReader(body))
        answer = self._client.post(
            "/api/v1/dataplane/segments",
            params={
                "endpoint": facts.metadata[ENDPOINT_KEY].decode(),
                "project": facts.metadata[PROJECT_KEY].decode(),
                "rows": facts.num_rows,
            },
            content=body,
            headers={"Content-Type": "application/vnd.apache.parquet", "Everline-Digest": digest_bytes(body)},
        )
        if answer.status_code in _REFUSED:
            log.error("segment %s was refused and is kept aside: %s", path.name, answer.text[:500])
            path.rename(self._store.refused / path.name)
            return
        answer.raise_for_status()
        path.unlink()


def run(orders: Orders) -> int:
    """Convert and ship until standard input ends, then bring away what is left; return the exit code."""
    store = LocalStore(Path(orders.home))
    headers = {"Authorization": f"Bearer {orders.token}"} if orders.token else {}
    with (
        store.shipper_lock.open("a") as lock,
        httpx.Client(base_url=orders.url, headers=headers, timeout=orders.timeout_s) as client,
    ):
        # The shipper of a killed process may still be busy; two would only do the same work twice.
        fcntl.flock(lock, fcntl.LOCK_EX)
        shipper = Shipper(store, client)
        while not _input_ended():
            shipper.convert()
            shipper.ship()
        deadline = time.monotonic() + orders.drain_s
        shipper.convert()
        while not shipper.ship() and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
    return 0


def _input_ended() -> bool:
    ready, _, _ = select.select([sys.stdin.fileno()], [], [], _LOOK_S)
    return bool(ready) and os.read(sys.stdin.fileno(), 1) == b""


def main() -> None:
    """Entry point of `python -m everline.serving.dataplane.log.shipper`; orders come in the environment."""
    os.nice(_NICE)  # whoever waits for an answer goes first
    logging.basicConfig(level="WARNING", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel("WARNING")
    sys.exit(run(msgspec.json.decode(os.environ.pop(ORDERS_VARIABLE), type=Orders)))


if __name__ == "__main__":
    main()
