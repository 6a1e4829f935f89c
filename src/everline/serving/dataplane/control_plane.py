"""The HTTP client of the data plane; used from threads beside the event loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import msgspec

from everline.errors import EverlineError, IntegrityError, UnavailableError, from_problem
from everline.governance.signing import VerifyKey
from everline.ids import digest_file
from everline.serving.types import DesiredState, Health

_CHUNK_BYTES = 1 << 20


class _Key(msgspec.Struct):
    public: str


class _Keys(msgspec.Struct):
    keys: list[_Key]


class ControlPlane:
    """Asks the control plane; every failure to reach it is an `UnavailableError`."""

    def __init__(self, url: str, *, token: str | None, timeout_s: float, blob_bytes_max: int) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout_s = timeout_s
        self._blob_bytes_max = blob_bytes_max
        self._client = httpx.Client(base_url=url, headers=headers, timeout=timeout_s)

    def read_state(self, generation: int, *, wait_s: float) -> DesiredState:
        """The desired state; waits up to `wait_s` seconds while it still is of this generation."""
        answer = self._ask(
            "GET",
            "/api/v1/dataplane/state",
            params={"generation": generation, "wait_s": wait_s},
            timeout=self._timeout_s + wait_s,
        )
        state: DesiredState = _decode(answer.content, DesiredState)
        return state

    def read_key(self) -> VerifyKey:
        """The newest public key with which the control plane signs."""
        found: _Keys = _decode(self._ask("GET", "/api/v1/keys").content, _Keys)
        if not found.keys:
            raise UnavailableError("The control plane named no public key.")
        return VerifyKey.parse(found.keys[0].public)

    def download(self, digest: str, path: Path) -> None:
        """Write a blob to a file.

        Raises:
            IntegrityError: the control plane does not have it, or its bytes do not match the digest.
            UnavailableError: the control plane does not answer.
        """
        size = 0
        try:
            with self._client.stream("GET", f"/api/v1/blobs/{digest}") as answer, path.open("wb") as file:
                if answer.status_code == 404:
                    raise IntegrityError(f"The control plane has no blob {digest}.")
                if answer.status_code != 200:
                    raise UnavailableError(f"The control plane gave no blob {digest}: status {answer.status_code}.")
                for chunk in answer.iter_raw(_CHUNK_BYTES):
                    size += len(chunk)
                    if size > self._blob_bytes_max:
                        raise IntegrityError(f"The blob {digest} is larger than {self._blob_bytes_max} bytes.")
                    file.write(chunk)
        except httpx.HTTPError as error:
            raise UnavailableError(f"The control plane does not answer: {error}.") from error
        found = digest_file(path)
        if found != digest:
            raise IntegrityError(f"The control plane sent the bytes of {found} as the blob {digest}.")

    def report(self, health: Health) -> None:
        """Tell how this replica is."""
        self._ask("POST", "/api/v1/dataplane/health", content=msgspec.json.encode(health))

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise UnavailableError(f"The control plane does not answer: {error or type(error).__name__}.") from error
        if answer.is_success:
            return answer
        raise _problem(answer)


def _decode(content: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        raise UnavailableError(f"The control plane's answer cannot be read: {error}.") from error


def _problem(answer: httpx.Response) -> EverlineError:
    try:
        body = msgspec.json.decode(answer.content, type=dict[str, Any])
    except msgspec.DecodeError:
        body = {}
    return from_problem(body, status=answer.status_code)
