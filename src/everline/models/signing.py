"""The signature of a package: an OpenSSF model-signing statement in a DSSE envelope.

The statement lists every file of the package with its SHA-256, the manifest among them, so the
signature binds the package digest too.

Source: OpenSSF Model Signing, https://github.com/ossf/model-signing-spec (predicate type v1.0).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from everline.canonical import canonical_json
from everline.errors import IntegrityError
from everline.governance.signing import SigningKey, VerifyKey, dsse_sign, dsse_verify, signed_by
from everline.ids import digest_bytes
from everline.models.package import MANIFEST_FILE, Package, parse_manifest

PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"


class _Resource(msgspec.Struct, frozen=True):
    name: str
    digest: str
    algorithm: str


class _Predicate(msgspec.Struct, frozen=True):
    resources: list[_Resource]


class _Subject(msgspec.Struct, frozen=True):
    name: str
    digest: dict[str, str]


class _Statement(msgspec.Struct, frozen=True, rename={"kind": "_type", "predicate_type": "predicateType"}):
    kind: str
    subject: list[_Subject]
    predicate_type: str
    predicate: _Predicate


def sign_package(package: Package, key: SigningKey, *, name: str = "package") -> dict[str, Any]:
    """Return the signed statement about a package, as the JSON object of a DSSE envelope.

    Args:
        name: what the statement calls the package, such as "flight-delay/1".
    """
    statement = statement_of_files(_resources(package.manifest_bytes), name=name)
    return dsse_sign(key, PAYLOAD_TYPE, canonical_json(statement))


def statement_of_files(digests: Mapping[str, str], *, name: str, ignored: Sequence[str] = ()) -> dict[str, Any]:
    """The in-toto statement of the format about a folder's files.

    Args:
        digests: SHA-256 in hexadecimal by path, in the order of the paths.
        name: what the statement calls the folder.
        ignored: files of the folder that it does not speak of.
    """
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": root_of(digests.values())}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(ignored),
            },
            "resources": [{"name": path, "digest": digest, "algorithm": "sha256"} for path, digest in digests.items()],
        },
    }


def root_of(digests: Iterable[str]) -> str:
    """SHA-256 over the concatenated raw digests, in their order.

    Raises:
        ValueError: one is not hexadecimal.
    """
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()


def verify_package_signature(
    manifest_bytes: bytes, envelope: Mapping[str, Any], keys: VerifyKey | Iterable[VerifyKey]
) -> VerifyKey:
    """Check that one of `keys` signed exactly the files that this manifest lists, and the manifest itself.

    Returns:
        The key that did.

    Raises:
        IntegrityError: not signed by a trusted key, or signed for another package.
    """
    trusted = [keys] if isinstance(keys, VerifyKey) else list(keys)
    payload = dsse_verify(envelope, trusted, payload_type=PAYLOAD_TYPE)
    try:
        statement = msgspec.json.decode(payload, type=_Statement)
    except msgspec.DecodeError as error:
        raise IntegrityError(f"The package signature does not hold a model-signing statement: {error}.") from error
    if statement.predicate_type != PREDICATE_TYPE:
        raise IntegrityError(
            f"The package signature holds a statement of type {statement.predicate_type!r}, not {PREDICATE_TYPE!r}."
        )
    expected = _resources(manifest_bytes)
    signed = {resource.name: resource.digest for resource in statement.predicate.resources}
    if len(signed) != len(statement.predicate.resources) or signed != expected:
        differing = sorted(name for name in signed.keys() | expected.keys() if signed.get(name) != expected.get(name))
        first = differing[0] if differing else "a file named twice"
        raise IntegrityError(
            f"The package signature was made for another package: {first} differs.",
            hint="Register the package again, so that its files are signed as they are now.",
        )
    roots = [subject.digest.get("sha256") for subject in statement.subject]
    if roots != [root_of(expected.values())]:
        raise IntegrityError("The package signature's subject does not match the files that it lists.")
    return next(key for key in trusted if signed_by(envelope, key))


def _resources(manifest_bytes: bytes) -> dict[str, str]:
    files = {entry.path: entry.digest for entry in parse_manifest(manifest_bytes).files}
    files[MANIFEST_FILE] = digest_bytes(manifest_bytes)
    return {path: files[path].removeprefix("sha256:") for path in sorted(files)}
