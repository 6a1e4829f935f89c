"""From a desired revision to a model in memory: nothing is loaded before all of this holds.

1. The release statement is signed by the pinned key, says that this release let this package onto this
   endpoint of this project, and names the package by its digest.
2. The manifest has the package digest; every file has the digest and size that the manifest gives.
3. The package signature is made by the pinned key over exactly these files.

The order is deliberate: bytes that nobody released are not even downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from everline.errors import IntegrityError
from everline.governance.rotations import expand
from everline.governance.signing import VerifyKey, dsse_verify
from everline.ids import check_digest, digest_file
from everline.models.package import Package, Predictor, fetch_package
from everline.models.signing import verify_package_signature
from everline.serving.dataplane.store import LocalStore
from everline.serving.types import DesiredEndpoint, DesiredRevision

RELEASE_PREDICATE = "https://in-toto.io/attestation/svr/v0.1"
RELEASED = "EVERLINE_RELEASED"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"


class _Subject(msgspec.Struct, frozen=True):
    name: str
    digest: dict[str, str]


class _Release(msgspec.Struct, frozen=True):
    endpoint: str
    project: str
    release: str
    properties: list[str]


class _Statement(msgspec.Struct, frozen=True, rename={"predicate_type": "predicateType"}):
    subject: list[_Subject]
    predicate_type: str
    predicate: _Release


class Loader:
    """Fetches, verifies and loads; keeps what it verified on local disk, and verifies it again from there."""

    def __init__(
        self,
        store: LocalStore,
        *,
        download: Callable[[str, Path], object],
        key: VerifyKey,
        rotations: Sequence[Mapping[str, Any]] = (),
        pickle_projects: Collection[str] = (),
    ) -> None:
        """Load from a store.

        Args:
            download: writes the blob of a digest to a path: from the control plane, or out of a bundle.
            rotations: signed statements that lead from the pinned key to others.
            pickle_projects: projects whose MLflow models may hold pickles.
        """
        self._store = store
        self._download = download
        self._keys = expand([key], rotations)
        self._pickle_projects = frozenset(pickle_projects)

    def load(self, endpoint: DesiredEndpoint, revision: DesiredRevision) -> Predictor:
        """Load a revision.

        Raises:
            MissingExtraError: the model's framework is not installed here.
            EverlineError: what `fetch` raises.
        """
        return self.fetch(endpoint, revision).load(allow_pickle=endpoint.project in self._pickle_projects)

    def fetch(self, endpoint: DesiredEndpoint, revision: DesiredRevision) -> Package:
        """Bring a revision's package to this disk and verify it.

        Raises:
            IntegrityError: something is not what it claims to be; the message says what.
            UnavailableError: something is not on this disk and the control plane does not answer.
        """
        verify_release(endpoint, revision, key=self._keys)
        check_digest(revision.package, field="package")
        directory = self._store.packages / revision.package.removeprefix("sha256:")
        package = fetch_package(revision.package, download=self._download, out_dir=directory)
        verify_package_signature(package.manifest_bytes, self._envelope(revision.signature), self._keys)
        return package

    def _envelope(self, digest: str) -> dict[str, Any]:
        check_digest(digest, field="signature")
        path = self._store.signatures / f"{digest.removeprefix('sha256:')}.json"
        if not path.exists() or digest_file(path) != digest:
            partial = path.with_suffix(".partial")
            self._download(digest, partial)
            partial.rename(path)
        try:
            envelope: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.DecodeError) as error:
            raise IntegrityError(f"The package signature {digest} cannot be read: {error}.") from error
        return envelope


def verify_release(
    endpoint: DesiredEndpoint, revision: DesiredRevision, *, key: VerifyKey | Sequence[VerifyKey]
) -> None:
    """Check that a release let exactly this package onto exactly this endpoint.

    Raises:
        IntegrityError: not signed by the key, or signed about something else.
    """
    payload = dsse_verify(revision.statement, key, payload_type=_PAYLOAD_TYPE)
    try:
        statement = msgspec.json.decode(payload, type=_Statement)
    except msgspec.DecodeError as error:
        raise IntegrityError(f"The release statement cannot be read: {error}.") from error
    if statement.predicate_type != RELEASE_PREDICATE or RELEASED not in statement.predicate.properties:
        raise IntegrityError("The signed statement is not a release decision.")
    digests = [subject.digest.get("sha256") for subject in statement.subject]
    if digests != [revision.package.removeprefix("sha256:")]:
        raise IntegrityError(f"The release statement lets another package pass than {revision.package}.")
    said, wanted = statement.predicate, (endpoint.endpoint, endpoint.project, revision.release)
    for what, found, expected in zip(
        ("endpoint", "project", "release"), (said.endpoint, said.project, said.release), wanted, strict=True
    ):
        if found != expected:
            raise IntegrityError(f"The release statement is for the {what} {found!r}, not {expected!r}.")
    name = f"{revision.model}/{revision.version}"
    if statement.subject[0].name != name:
        raise IntegrityError(f"The release statement is for {statement.subject[0].name!r}, not {name!r}.")
