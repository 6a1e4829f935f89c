"""A serving bundle behind a data plane: everything is verified, then the model is loaded; no control plane."""

from __future__ import annotations

import logging
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from everline.bundles import archive, verification
from everline.bundles.archive import Reader
from everline.bundles.types import Dependencies, Kind
from everline.errors import IntegrityError
from everline.governance.signing import VerifyKey
from everline.serving.dataplane.loading import Loader
from everline.serving.dataplane.metrics import Metrics, RevisionStats
from everline.serving.dataplane.routing import RoutingTable, ServedRevision, route
from everline.serving.dataplane.standing import Standing
from everline.serving.dataplane.store import LocalStore
from everline.serving.types import DesiredEndpoint

log = logging.getLogger("everline.serve")

TROUBLE = "not asked: what is served comes from a bundle"


def standing(store: LocalStore, metrics: Metrics, *, file: str, key: str | None) -> Standing:
    """What a process of the data plane serves from a bundle; see `open_bundle`.

    Args:
        key: the public key to believe, as text or a file's path.
    """
    return open_bundle(Path(file), store, metrics, key=None if key is None else VerifyKey.read(key))


def open_bundle(file: Path, store: LocalStore, metrics: Metrics, *, key: VerifyKey | None) -> Standing:
    """Verify a bundle and load its model.

    Args:
        key: the public key to believe; None takes the one that this home has believed before, and at the first time
            the bundle's own, which is believed from then on.

    Raises:
        InvalidInputError: the file cannot be read as a bundle, or is one of another kind.
        IntegrityError: something in it is not what it says; the message names the file or the check.
        MissingExtraError: the model's framework is not installed here.
    """
    with verification.opened(file, within=store.root) as reader:
        pinned = store.read_pinned_key()
        believed = key or pinned or _own_key(reader)
        report = verification.require(reader, believed, Kind.SERVING)
        endpoint = reader.read(archive.SERVING, DesiredEndpoint)
        assert endpoint is not None  # `require` has read it
        _tell_differences(reader)
        led = reader.read(archive.CERTIFICATES, list[dict[str, Any]]) or []
        loader = Loader(store, download=lambda digest, path: _copy(reader, digest, path), key=believed, rotations=led)
        (revision,) = endpoint.revisions
        predictor = loader.load(endpoint, revision)
    if key is None and pinned is None:
        log.warning("no --key was given: %s, which the bundle brought, is believed from now on", believed.text)
        store.pin_key(believed)
    for finding in report.findings:
        log.info("verified %s: %s", finding.name, finding.detail)
    log.info("serving %s: %s/%s", endpoint.endpoint, revision.model, revision.version)
    metrics.ready.labels(endpoint.endpoint, revision.revision).set(1)
    stats = RevisionStats(metrics, endpoint=endpoint.endpoint, revision=revision.revision)
    served = ServedRevision(desired=revision, stats=stats, predictor=predictor)
    table = RoutingTable(generation=0, endpoints=[route(endpoint, [served], before=None)])
    return Standing(table, trouble=TROUBLE)


def dependencies(reader: Reader) -> Dependencies:
    """What must be installed to serve a bundle.

    Raises:
        IntegrityError: it does not say.
    """
    found = reader.read(archive.DEPENDENCIES, Dependencies)
    if found is None:
        raise IntegrityError(f"The bundle has no {archive.DEPENDENCIES}.")
    return found


def _own_key(reader: Reader) -> VerifyKey:
    if not any(one.path == archive.KEY for one in reader.contents.files):
        raise IntegrityError(f"The bundle has no {archive.KEY}.")
    return VerifyKey.parse((reader.folder / archive.KEY).read_text())


def _tell_differences(reader: Reader) -> None:
    """Say what is installed here in another version than where the model was made: answers may differ in their bits."""
    needed = dependencies(reader)
    if needed.python != platform.python_version():
        log.warning("Python is %s here, and was %s where the model was made", platform.python_version(), needed.python)
    for one in needed.distributions:
        try:
            here = metadata.version(one.name) if one.model else one.version
        except metadata.PackageNotFoundError:
            here = "missing"
        if here != one.version:
            log.warning("%s is %s here, and was %s where the model was made", one.name, here, one.version)


def _copy(reader: Reader, digest: str, path: Path) -> None:
    found = next((one.path for one in reader.contents.files if one.digest == digest), None)
    if found is None:
        raise IntegrityError(f"The bundle has no file with the digest {digest}.")
    shutil.copyfile(reader.folder / found, path)
