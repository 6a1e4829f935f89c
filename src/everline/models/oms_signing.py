"""A version's package, signed by the server for verifiers of the OpenSSF model-signing format."""

from __future__ import annotations

import functools
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.config import Settings
from everline.errors import IntegrityError, InvalidInputError
from everline.governance.signing import publish
from everline.models import oms, service
from everline.models.package import MANIFEST_FILE, parse_manifest
from everline.models.types import OpenSignature

KEY_FILE = "model-signing.pem"


@read
def sign_version(uow: UnitOfWork, project: str, model: str, version: int | str) -> OpenSignature:
    """Sign the files of a version's package, after every byte of it was checked against our own signature.

    Raises:
        NotFoundError: there is no such version.
        InvalidInputError: it has no package of ours.
        IntegrityError: a file of it was altered; nothing is signed.
    """
    uow.require(Permission.MODEL_READ, project)
    found = service.get_version(uow, project, model, version)
    if found.package is None:
        raise InvalidInputError(f"{found.model}/{found.version} has no package to be signed.", field="version")
    check = service.check_package(uow, found)
    if not check.verified:
        raise IntegrityError(f"{found.model}/{found.version} is not signed: {check.problem}")
    manifest = parse_manifest(uow.blobs.get_bytes(found.package))
    files = {one.path: one.digest for one in manifest.files} | {MANIFEST_FILE: found.package}
    key = open_key(uow.settings)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return OpenSignature(bundle=oms.sign_files(files, key, name=f"{found.model}/{found.version}"), public_key=public)


def open_key(settings: Settings) -> ec.EllipticCurvePrivateKey:
    """The server's P-256 key for this format, beside its signing key; made at the first call ever."""
    return _load(settings.signing_key_file.absolute().with_name(KEY_FILE))


@functools.lru_cache(maxsize=16)
def _load(path: Path) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")
        publish(path, text, mode=0o600)
    return oms.read_private_key(path)
