"""What it costs to log every prediction, to ask a shadow, and to have a canary: the same endpoint without and with."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.serving import load, table
from benchmarks.serving.load import Measured
from benchmarks.serving.models import Trained
from benchmarks.serving.servers import Everline, Running, Server
from everline.serving.types import DesiredEndpoint, Guard, RevisionRole


class Unlogged(Everline):
    """Next to nothing is logged."""

    name = "no log"
    how = "one request in a thousand million is logged"
    log_share = 1e-9
    roles: tuple[tuple[RevisionRole, float], ...] = ((RevisionRole.PRIMARY, 1.0),)

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        with super().prepared():
            revisions = [
                self._control.release(self.trained.package, version=number + 1, role=role, share=share)
                for number, (role, share) in enumerate(self.roles)
            ]
            endpoint = DesiredEndpoint(
                endpoint="flight-delay",
                project="default",
                guard=Guard.REJECT,
                revisions=revisions,
                log_share=self.log_share,
            )
            self._control.desire(endpoint)
            yield


class Logged(Unlogged):
    """Every row."""

    name = "Everline"
    how = "every prediction logged"
    log_share = 1.0


class Canary(Logged):
    """A tenth to another revision."""

    name = "canary"
    how = "a tenth of the requests to another revision"
    roles = ((RevisionRole.PRIMARY, 1.0), (RevisionRole.CANARY, 0.1))


class Shadow(Logged):
    """Every request asked again."""

    name = "shadow"
    how = "a tenth of the requests asked again of another revision"
    roles = ((RevisionRole.PRIMARY, 1.0), (RevisionRole.SHADOW, 0.1))


def main() -> None:
    """Four ways in turn, the ratios pair by pair."""
    trained = Trained("hgb", table.MODELS)
    kinds = (Logged, Unlogged, Canary, Shadow)

    def measure(server: Server, running: Running, where: Path) -> Measured:
        bodies = table.bodies(server, where, rows=1)
        load.ask(server.url + server.predict, bodies, connections=64, seconds=1)
        return load.ask(server.url + server.predict, bodies, connections=64)

    results, wrong = table.in_turn(kinds, trained, measure)
    table.show(kinds, results, wrong, unit="req/s")
    for name, base, what in (
        ("Everline", "no log", "logging every prediction keeps"),
        ("canary", "Everline", "a canary keeps"),
        ("shadow", "Everline", "a shadow keeps"),
    ):
        pairs = zip(results.get(name, []), results.get(base, []), strict=False)
        ratios = [one.per_s / other.per_s for one, other in pairs]
        table.reached(f"{what} 0.9 of the rate", statistics.median(ratios) if ratios else 0.0, 0.9)


if __name__ == "__main__":
    main()
