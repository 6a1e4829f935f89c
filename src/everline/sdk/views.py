"""Saved views of the table of runs through the client."""

from __future__ import annotations

import builtins
from urllib.parse import quote

from everline.runs.types import SavedView
from everline.sdk.client import Client


class ViewsApi:
    """Looks at the table of runs that people gave a name."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self) -> builtins.list[SavedView]:
        """Your own views and those of the project, by name."""
        return self._client.list_all("/views", kind=SavedView, limit=1000)

    def get(self, view: str) -> SavedView:
        """One view by its uid or name."""
        return self._client.call("GET", f"/views/{quote(view, safe='')}", returns=SavedView)

    def save(self, name: str, *, query: str, shared: bool = False) -> SavedView:
        """Keep the address of the table, after its question mark, under a name."""
        body = {"name": name, "query": query, "shared": shared}
        return self._client.call("POST", "/views", body=body, returns=SavedView)

    def delete(self, view: str) -> None:
        """Delete a view by its uid or name."""
        self._client.call("DELETE", f"/views/{quote(view, safe='')}")
