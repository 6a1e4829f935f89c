"""What is served without a control plane: a table that stays as it is."""

from __future__ import annotations

from everline.serving.dataplane.routing import RoutingTable


class Standing:
    """A source that was complete when the process started; see `following.Source`."""

    def __init__(self, table: RoutingTable, *, trouble: str) -> None:
        """Serve a table.

        Args:
            trouble: why no control plane is asked; `GET /health` tells it.
        """
        self.table: RoutingTable | None = table
        self.trouble: str | None = trouble

    def start(self) -> None:
        """Nothing is to be fetched."""

    def stop(self) -> None:
        """Nothing runs."""
