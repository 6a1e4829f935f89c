"""The audit log through the client."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import msgspec

from everline.governance.types import AuditEvent, CheckpointInfo, InclusionProof, KeyRotation, LogReport
from everline.loader import load
from everline.sdk.client import Client


class PublicKey(msgspec.Struct, frozen=True):
    """A key that the server signs with."""

    name: str
    public: str
    keyid: str


class AuditApi:
    """What happened, and the proof of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(
        self,
        *,
        subject: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        since: str | None = None,
        until: str | None = None,
        every_project: bool = False,
        limit: int = 100,
    ) -> builtins.list[AuditEvent]:
        """The newest events that match; `action` may be a word and a dot, such as `release.`."""
        query = {"subject": subject, "actor": actor, "action": action, "since": since, "until": until}
        if every_project:
            query["all"] = "true"
        return self._client.list_all("/audit/events", kind=AuditEvent, query=query, limit=limit)

    def get(self, index: int) -> AuditEvent:
        """One event."""
        return self._client.call("GET", f"/audit/events/{index}", returns=AuditEvent)

    def prove(self, index: int) -> InclusionProof:
        """The proof that an event is in the log; check it with `everline.governance.bundle.verify_proof`."""
        return self._client.call("GET", f"/audit/events/{index}/proof", returns=InclusionProof)

    def checkpoint(self) -> CheckpointInfo:
        """The newest signed root."""
        return self._client.call("GET", "/audit/checkpoint", returns=CheckpointInfo)

    def fresh_checkpoint(self) -> CheckpointInfo:
        """A root over all events, signed now."""
        return self._client.call("GET", "/audit/checkpoint", query={"fresh": "true"}, returns=CheckpointInfo)

    def consistency(self, first: int, second: int | None = None) -> builtins.list[str]:
        """The proof that the log of `second` events, or today's, continues that of `first`: hashes in hexadecimal."""
        query = {"first": first, "second": second}
        answer = self._client.call("GET", "/audit/consistency", query=query, returns=dict[str, Any])
        return msgspec.convert(answer["path"], builtins.list[str])

    def keep_cosigned(self, note: str, *, witness: str) -> CheckpointInfo:
        """Keep a checkpoint that a witness signed; exports carry it from then on."""
        body = {"note": note, "witness": witness}
        return self._client.call("POST", "/audit/cosignatures", body=body, returns=CheckpointInfo)

    def cosign(self, url: str, *, witness: str) -> CheckpointInfo:
        """Have a witness sign the log as it is now, and keep its signature.

        Args:
            url: the witness's address, in front of `/add-checkpoint`.
            witness: its public key in text, from its operator.

        Raises:
            UnavailableError: it does not answer.
            IntegrityError: it refuses, because the log does not continue what it saw before; or its signature is wrong.
        """
        now = self.fresh_checkpoint()
        lines = load("everline.sdk.witnessing").add_checkpoint(url, now.note, now.size, prove=self.consistency)
        return self.keep_cosigned(now.note + lines, witness=witness)

    def verify(self) -> LogReport:
        """Let the server recompute its log; for a check that does not trust it, `export` and verify offline."""
        return self._client.call("GET", "/audit/verify", returns=LogReport)

    def export(self, target: Path) -> Path:
        """Download the whole log as a bundle."""
        partial = target.with_name(target.name + ".partial")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(self._client.send("GET", "/api/v1/audit/export").content)
        return partial.replace(target)

    def rotate_key(self, *, reason: str) -> KeyRotation:
        """Let the server sign with a new key from now on; what the old one signed stays valid."""
        return self._client.call("POST", "/keys/rotate", body={"reason": reason}, returns=KeyRotation)

    def keys(self) -> builtins.list[PublicKey]:
        """The public keys that the server says are its own."""
        answer = self._client.call("GET", "/keys", returns=dict[str, builtins.list[PublicKey]])
        return answer["keys"]
