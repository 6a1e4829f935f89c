"""Policies and evidence through the client."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import msgspec

from everline.delivery.types import Preview
from everline.governance.types import CaseResult, Evidence, GateState, Policy, Verdict
from everline.sdk.client import Client


class Explanation(msgspec.Struct, frozen=True):
    """How a model version would fare, clause by clause."""

    subject: str
    gate: GateState
    verdicts: list[Verdict]


class PoliciesApi:
    """Release conditions, and the facts that they look at."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self) -> builtins.list[Policy]:
        """The project's policies."""
        return self._client.list_all("/policies", kind=Policy, limit=1000)

    def get(self, name: str, *, version: int | None = None) -> Policy:
        """One policy: the version asked for, else the one in force, else the newest."""
        return self._client.call("GET", f"/policies/{name}", query={"version": version}, returns=Policy)

    def save(self, source: str) -> Policy:
        """Save a TOML document as the next version of its name; not yet in force."""
        return self._client.call("POST", "/policies", body={"source": source}, returns=Policy)

    def activate(self, name: str, *, version: int | None = None) -> Policy:
        """Put a version into force; its own test cases must pass, and another person must have saved or proposed it.

        `active` of the answer says whether it is in force; if not, its `proposal` waits for a second person.
        """
        return self._client.call("POST", f"/policies/{name}/activate", body={"version": version}, returns=Policy)

    def deactivate(self, name: str, *, reason: str) -> Policy:
        """Take a policy out of force."""
        return self._client.call("POST", f"/policies/{name}/deactivate", body={"reason": reason}, returns=Policy)

    def test(self, name: str, *, version: int | None = None) -> builtins.list[CaseResult]:
        """Run a saved policy's own test cases."""
        query = {"version": version}
        return self._client.list_all(f"/policies/{name}/test", kind=CaseResult, query=query, limit=1000)

    def test_source(self, source: str) -> builtins.list[CaseResult]:
        """Check a policy that is not saved, and run its test cases."""
        answer = self._client.call("POST", "/policies/test", body={"source": source}, returns=dict[str, Any])
        return msgspec.convert(answer["items"], builtins.list[CaseResult])

    def packs(self) -> builtins.list[Policy]:
        """The packs of rules that come with Everline; `source` is ready to be saved."""
        return self._client.list_all("/policies/packs", kind=Policy, limit=1000)

    def preview(self, sources: Sequence[str]) -> builtins.list[Preview]:
        """What policies that are not saved would block: of what is live, and of the releases on their way."""
        answer = self._client.call("POST", "/policies/preview", body={"sources": [*sources]}, returns=dict[str, Any])
        return msgspec.convert(answer["items"], builtins.list[Preview])

    def explain(self, subject: str, *, model: str = "", endpoint: str = "") -> Explanation:
        """Say how `model-version:<uid>` would fare as a first release now."""
        query = {"subject": subject, "model": model, "endpoint": endpoint}
        return self._client.call("GET", "/policies/explain", query=query, returns=Explanation)

    def attach(self, subject: str, kind: str, body: dict[str, Any]) -> Evidence:
        """Attach evidence to a subject such as `model-version:<uid>`."""
        content = {"subject": subject, "kind": kind, "body": body}
        return self._client.call("POST", "/evidence", body=content, returns=Evidence)

    def evidence(self, subject: str, *, kind: str | None = None) -> builtins.list[Evidence]:
        """What is known about a subject, the newest first."""
        query = {"subject": subject, "kind": kind}
        return self._client.list_all("/evidence", kind=Evidence, query=query, limit=1000)
