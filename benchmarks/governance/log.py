"""The audit log on SQLite: appends with durability, the whole check of a million events, a proof among ten million.

Every append is a commit that survives the loss of power (`synchronous=FULL`); a batch is one such commit.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from everline.access.types import LOCAL
from everline.config import Settings
from everline.governance import audit, verification
from everline.governance.bundle import verify_bundle
from everline.governance.signing import server_key
from everline.governance.tree import merkle
from everline.governance.tree.checkpoint import open_checkpoint
from everline.server.app import Application
from everline.storage.db import insert_rows, upsert
from everline.storage.schema import microseconds

SINGLE = 4_000
BATCH, BATCHES = 2_000, 25
EVENTS = int(os.environ.get("BENCH_EVENTS", "1000000"))
LEAVES = int(os.environ.get("BENCH_LEAVES", "10000000"))
PROOFS = 200
TARGETS = {"single": 2_000.0, "batch": 20_000.0, "verify_s": 20.0, "proof_ms": 5.0}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="everline-bench-") as name:
        folder = Path(name)
        app = Application(Settings(home=folder / "home", worker=False))
        try:
            one, many = _one_by_one(app), _batches(app)
            size = _fill(app)
            stored, offline, megabytes = _verify(app, folder)
        finally:
            app.close()
        app = Application(Settings(home=folder / "wide", worker=False))
        try:
            proof_ms = _proofs(app)
        finally:
            app.close()
    load = os.getloadavg()[0]
    print(f"Load of the machine at the end: {load:.1f}.\n")
    print(
        f"| what | measured | target |\n| --- | --- | --- |\n"
        f"| appends one by one, each durable | {one} | {TARGETS['single']:,.0f} |\n"
        f"| appends in batches of {BATCH:,}, each batch durable | {many} | {TARGETS['batch']:,.0f} |\n"
        f"| `audit verify` of {size:,} stored events | {stored} | {TARGETS['verify_s']:.0f} s |\n"
        f"| `audit verify --bundle`, offline, {megabytes:.0f} MB | {offline} | {TARGETS['verify_s']:.0f} s |\n"
        f"| inclusion proof among {LEAVES:,} leaves, median (max) of {PROOFS} | {proof_ms} | "
        f"{TARGETS['proof_ms']:.0f} ms |"
    )


class Took:
    """How long a block took, on the clock and of one core."""

    def __enter__(self) -> Took:
        self._clock, self._core = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.clock, self.core = time.perf_counter() - self._clock, time.process_time() - self._core

    def rate(self, count: int) -> str:
        """So many a second, and a second of one core."""
        return f"{count / self.clock:,.0f} a second ({count / self.core:,.0f} a second of one core)"

    def seconds(self) -> str:
        """The time, and that of one core."""
        return f"{self.clock:.1f} s ({self.core:.1f} s of one core)"


def _one_by_one(app: Application) -> str:
    with Took() as took:
        for number in range(SINGLE):
            with app.begin(LOCAL) as uow:
                _record(uow, number)
    return took.rate(SINGLE)


def _batches(app: Application) -> str:
    with Took() as took:
        for _ in range(BATCHES):
            _batch(app)
    return took.rate(BATCH * BATCHES)


def _batch(app: Application) -> None:
    with app.begin(LOCAL) as uow:
        for number in range(BATCH):
            _record(uow, number)


def _record(uow: object, number: int) -> None:
    audit.record(
        uow, "evidence.attach", subject=f"model-version:{number:032x}", project="default", kind="evaluation",
        evidence="01a21f4b-9318-7090-a014-ffbef831939a", digest="sha256:" + "ab" * 32,
    )  # type: ignore[arg-type]  # fmt: skip


def _fill(app: Application) -> int:
    with app.begin(LOCAL) as uow:
        size = audit.read_head(uow).size
    while size < EVENTS:
        _batch(app)
        size += BATCH
    with app.begin(LOCAL) as uow:
        audit.checkpoint(uow)
    return size


def _verify(app: Application, folder: Path) -> tuple[str, str, float]:
    with app.begin(LOCAL, read_only=True) as uow:
        with Took() as stored:
            report = verification.verify(uow)
        assert report.verified, report.problems
        target = folder / "log.zip"
        verification.export(uow, target)
    key = server_key(app.settings).verify_key
    with Took() as offline:
        assert verify_bundle(target, key).verified
    return stored.seconds(), offline.seconds(), target.stat().st_size / 1e6


def _proofs(app: Application) -> str:
    """A tree of so many leaves, its nodes in the database; the leaves' text is left out but for those proven."""
    growth = merkle.Growth.start()
    step = 50_000
    with app.begin(LOCAL) as uow:
        uow.record("server.note", subject="server:bench", project="*")
    with app.begin(LOCAL) as uow:
        leaf = audit._read_leaf(uow, 0)
        value, at = merkle.leaf_hash(leaf.encode()), uow.clock.now()
        raw = microseconds(at)
        uow.conn.exec_driver_sql("DELETE FROM audit_event")
        for start in range(0, LEAVES, step):
            growth = merkle.grow(growth.size, growth.peaks, [value] * min(step, LEAVES - start))
            nodes = [(level, index, found) for (level, index), found in growth.nodes if level]
            insert_rows(uow.conn, audit.audit_node, ("level", "position", "hash"), nodes, keys=())
            shown = {start + offset for offset in range(0, step, 997)}
            pairs = {index for one in shown for index in (one, one ^ 1) if index < LEAVES}
            rows = [
                (index, leaf, value, raw, "local", "local", "server.note", "server:bench", "*")
                for index in sorted(pairs)
            ]
            columns = ("position", "leaf", "hash", "at", "actor", "actor_name", "action", "subject", "project")
            insert_rows(uow.conn, audit.audit_event, columns, rows, keys=())
        head = {"id": 1, "size": growth.size, "root": growth.root, "peaks": b"".join(growth.peaks)}
        upsert(uow.conn, audit.audit_head, [head], keys=["id"], update=["size", "root", "peaks"])
    with app.begin(LOCAL) as uow:
        audit.checkpoint(uow)
    times = []
    key = server_key(app.settings).verify_key
    for number in range(PROOFS):
        index = (number * 50_000 * 7 + 997 * (number % 50)) % LEAVES
        with app.begin(LOCAL, read_only=True) as uow:
            start_s = time.perf_counter()
            proof = audit.prove(uow, index)
            times.append((time.perf_counter() - start_s) * 1e3)
        root = open_checkpoint(proof.checkpoint, key).root
        path = [bytes.fromhex(one) for one in proof.path]
        merkle.verify_inclusion(value, index=index, size=proof.size, path=path, root=root)
    return f"{statistics.median(times):.2f} ms ({max(times):.2f})"


if __name__ == "__main__":
    sys.exit(main())
