"""Signatures in the format of OpenSSF model signing 1.0, for verifiers that are not ours.

A signature is a Sigstore bundle (JSON) around a DSSE envelope; in it, an in-toto statement lists every file of a folder
with its digest. Two methods are offered: `key` (an elliptic-curve public key that the reader has) and `certificate`
(a chain to a root that the reader trusts). The keyless Sigstore method needs its servers, and is left to its own tools.

Rules that hold here:
1. The signature is checked before anything that it says is believed.
2. Every file of the folder is listed and every listed file is there, but for what the statement itself ignores, which
   is held to names that version control and this format use.

Sources: OpenSSF Model Signing 1.0 (github.com/ossf/model-signing-spec), and its reference implementation
`model-signing`; the Sigstore bundle 0.3; DSSE 1.0; RFC 5280 for the chain.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from everline.canonical import canonical_json
from everline.errors import IntegrityError, InvalidInputError
from everline.governance.signing import pae
from everline.ids import digest_file
from everline.models.signing import PAYLOAD_TYPE, PREDICATE_TYPE, root_of, statement_of_files

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGNATURE_FILE = "model.sig"
SIGNATURE_BYTES_MAX = 16 << 20
CHAIN_MAX = 8
FILES_MAX = 100_000
IGNORED = (SIGNATURE_FILE, ".git", ".gitattributes", ".github", ".gitignore")
"""What stands beside a model and is no part of it; nothing else may be left out of a statement."""

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """What a signature was found to say.

    Attributes:
        method: `key` or `certificate`.
        signer: digest of the public key, or the certificate's subject.
        files: how many files it covers.
    """

    method: str
    name: str
    signer: str
    files: int


def sign_files(
    files: Mapping[str, str],
    key: ec.EllipticCurvePrivateKey,
    *,
    name: str,
    chain: Sequence[x509.Certificate] = (),
) -> dict[str, Any]:
    """Return the Sigstore bundle for a folder's files.

    Args:
        files: digest (`sha256:…`) by path with forward slashes; of all files, `model.sig` apart.
        key: on the curve P-256, P-384 or P-521.
        name: what the statement calls the model.
        chain: for the certificate method: the signer's certificate first, then those between it and the root.

    Raises:
        InvalidInputError: the key is on another curve, or is not that of the first certificate.
    """
    algorithm = _hash_of(key.public_key())
    if chain and _pem(_certificate_key(chain[0])) != _pem(key.public_key()):
        raise InvalidInputError("The certificate belongs to another key.", field="certificate")
    digests = {path: files[path].removeprefix("sha256:") for path in sorted(files)}
    statement = statement_of_files(digests, name=name, ignored=IGNORED)
    payload = canonical_json(statement)
    signature = key.sign(pae(PAYLOAD_TYPE, payload), ec.ECDSA(algorithm))
    material: dict[str, Any] = {"publicKey": {"hint": hashlib.sha256(_pem(key.public_key())).hexdigest()}}
    if chain:
        certificates = [{"rawBytes": _text(one.public_bytes(Encoding.DER))} for one in chain]
        material = {"x509CertificateChain": {"certificates": certificates}}
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {**material, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": _text(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": _text(signature), "keyid": ""}],
        },
    }


def verify_folder(
    folder: Path,
    bundle: bytes,
    *,
    key: ec.EllipticCurvePublicKey | None = None,
    roots: Sequence[x509.Certificate] = (),
    signature_file: Path | None = None,
) -> Signed:
    """Check that a folder is what was signed: with a key, or with the roots that its certificate must lead to.

    Args:
        bundle: the signature's JSON.
        signature_file: where it lies, if inside of the folder under another name than `model.sig`.

    Raises:
        IntegrityError: not signed by that key or under these roots, or a file was altered, added or taken away.
        InvalidInputError: neither key nor roots are given, or the files are hashed in a way that is not offered.
    """
    if (key is None) == (not roots):
        raise InvalidInputError("Give a public key or root certificates, one of the two.", field="key")
    try:
        parsed = msgspec.json.decode(bundle)
        envelope, material = parsed["dsseEnvelope"], parsed["verificationMaterial"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        media_type, payload_type = parsed["mediaType"], envelope["payloadType"]
    except (KeyError, TypeError, IndexError, ValueError, msgspec.DecodeError) as error:
        raise IntegrityError("The signature is not a Sigstore bundle with a DSSE envelope.") from error
    if (media_type, payload_type) != (MEDIA_TYPE, PAYLOAD_TYPE):
        raise IntegrityError(f"The signature is of the type {media_type!r} around {payload_type!r}.")
    signer = f"sha256:{hashlib.sha256(_pem(key)).hexdigest()}" if key else ""
    trusted = key
    if trusted is None:
        certificate = _trusted_certificate(material, roots)
        trusted, signer = _certificate_key(certificate), certificate.subject.rfc4514_string()
    try:
        trusted.verify(signature, pae(PAYLOAD_TYPE, payload), ec.ECDSA(_hash_of(trusted)))
    except InvalidSignature:
        raise IntegrityError(
            "The signature was not made by the trusted key over this statement.",
            hint="The statement was altered, or another key signed it.",
        ) from None
    name, listed = _listed(payload)
    _compare(folder, listed, signature_file)
    return Signed(method="key" if key else "certificate", name=name, signer=signer, files=len(listed))


def read_private_key(path: Path, *, password: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """Read a private key in PEM.

    Raises:
        InvalidInputError: no such file, not a key, or not on one of the curves.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInputError(f"The file {path} is no private key: {error}.", field="private_key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidInputError("The key is not an elliptic-curve key.", field="private_key", hint="Make one on P-256.")
    _hash_of(key.public_key())
    return key


def read_public_key(text: bytes) -> ec.EllipticCurvePublicKey:
    """Read a public key in PEM.

    Raises:
        InvalidInputError: not such a key.
    """
    try:
        key = load_pem_public_key(text)
    except ValueError as error:
        raise InvalidInputError(f"This is no public key in PEM: {error}.", field="key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidInputError("The key is not an elliptic-curve key.", field="key")
    _hash_of(key)
    return key


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Read one or more certificates in PEM.

    Raises:
        InvalidInputError: no such file, or no certificates in it.
    """
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"The file {path} holds no certificates: {error}.", field="certificates") from error


def _trusted_certificate(material: Any, roots: Sequence[x509.Certificate]) -> x509.Certificate:
    """The signer's certificate, after a chain from it to a root was found that held when it was issued."""
    try:
        given = material["x509CertificateChain"]["certificates"][:CHAIN_MAX]
        chain = [x509.load_der_x509_certificate(base64.b64decode(one["rawBytes"], validate=True)) for one in given]
        signer = chain[0]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise IntegrityError("The signature carries no certificates.", hint="Give the public key.") from error
    moment = signer.not_valid_before_utc
    current = signer
    for _ in range(CHAIN_MAX):
        _require_valid(current, moment)
        root = next((one for one in roots if _issued(current, one)), None)
        if root is not None or current in roots:
            if root is not None:
                _require_valid(root, moment)
            _require_signing(signer)
            return signer
        issuer = next(
            (one for one in chain[1:] if one != current and _is_authority(one) and _issued(current, one)), None
        )
        if issuer is None:
            break
        current = issuer
    raise IntegrityError("The signer's certificate does not lead to a trusted root.")


def _require_valid(certificate: x509.Certificate, moment: datetime) -> None:
    if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
        raise IntegrityError(f"The certificate {certificate.subject.rfc4514_string()} was not valid at the signing.")


def _require_signing(certificate: x509.Certificate) -> None:
    extensions = certificate.extensions
    try:
        if extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
            return
    except x509.ExtensionNotFound:
        pass
    try:
        if ExtendedKeyUsageOID.CODE_SIGNING in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value:
            return
    except x509.ExtensionNotFound:
        pass
    raise IntegrityError("The signer's certificate is not meant for signatures.")


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _listed(payload: bytes) -> tuple[str, dict[str, str]]:
    """The statement's name and files, after its own digest was seen to fit them."""
    try:
        statement = msgspec.json.decode(payload)
        predicate = statement["predicate"]
        resources = [{"name": one["name"], "digest": one["digest"], "algorithm": one["algorithm"]}
                     for one in predicate["resources"]]  # fmt: skip
        [subject] = statement["subject"]
        name, root = str(subject["name"]), subject["digest"]["sha256"]
        method, kind = predicate["serialization"]["method"], statement["predicateType"]
        ignored = {str(path) for path in predicate["serialization"].get("ignore_paths", [])}
    except (KeyError, TypeError, ValueError, msgspec.DecodeError) as error:
        raise IntegrityError("The signed statement is not one of model signing 1.0.") from error
    if kind != PREDICATE_TYPE:
        raise IntegrityError(f"The signed statement is of the type {kind!r}, not {PREDICATE_TYPE!r}.")
    if method != "files" or {one["algorithm"] for one in resources} - {"sha256"}:
        raise InvalidInputError(
            "The files were hashed in shards, or not with SHA-256: that is not offered here.",
            hint="Verify it with the `model-signing` package.",
        )
    if root != _root(resources) or len({one["name"] for one in resources}) != len(resources):
        raise IntegrityError("The signed statement contradicts itself: its digest is not that of its files.")
    if odd := sorted(path for path in ignored if Path(path).name not in IGNORED and not path.endswith(".sig")):
        raise IntegrityError(f"The statement leaves out {odd[0]!r}, which could be part of the model.")
    return name, {one["name"]: one["digest"] for one in resources}


def _compare(folder: Path, listed: Mapping[str, str], signature_file: Path | None) -> None:
    if not folder.is_dir():
        raise InvalidInputError(f"There is no folder {folder}.", field="folder")
    found: dict[str, Path] = {}
    aside = signature_file.resolve() if signature_file else None
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if relative.parts[0] in IGNORED or path.resolve() == aside:
            continue
        if path.is_symlink():
            raise IntegrityError(f"{relative.as_posix()} is a link, and links are not followed.")
        if path.is_file():
            found[relative.as_posix()] = path
        if len(found) > FILES_MAX:
            raise InvalidInputError(f"The folder has more than {FILES_MAX} files.", field="folder")
    if missing := sorted(listed.keys() - found.keys()):
        raise IntegrityError(f"{missing[0]} was signed and is gone.")
    if added := sorted(found.keys() - listed.keys()):
        raise IntegrityError(f"{added[0]} was not signed.")
    for name, path in found.items():
        if digest_file(path) != f"sha256:{listed[name]}":
            raise IntegrityError(f"{name} is not what was signed.")


def _root(resources: Sequence[Mapping[str, str]]) -> str:
    try:
        return root_of(one["digest"] for one in resources)
    except (ValueError, TypeError) as error:
        raise IntegrityError("A digest in the signed statement is malformed.") from error


def _hash_of(key: ec.EllipticCurvePublicKey) -> hashes.HashAlgorithm:
    algorithm = _HASHES.get(key.curve.name)
    if algorithm is None:
        raise InvalidInputError(
            f"Keys on the curve {key.curve.name} are not part of the format.", hint="Use P-256, P-384 or P-521.",
            field="key",
        )  # fmt: skip
    return algorithm


def _certificate_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidInputError("The certificate's key is not an elliptic-curve key.", field="certificate")
    return key


def _pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
