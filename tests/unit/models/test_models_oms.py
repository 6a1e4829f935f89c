"""OpenSSF model signing: ours is verified by the reference implementation, and its signatures by us."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import model_signing
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from everline.cli.app import run
from everline.errors import IntegrityError, InvalidInputError
from everline.ids import digest_file
from everline.models import oms

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "everline.json").write_text("{}")
    (folder / "model.skops").write_bytes(b"weights" * 1000)
    (folder / "deep" / "é.txt").write_text("umlaut")
    return folder


def files_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): digest_file(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "model.sig"
    }


def write_pair(folder: Path, key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
    private, public = folder / "key.pem", folder / "key.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def certificate(name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate | None, by: ec.EllipticCurvePrivateKey, *, ca: bool, sign: bool = True) -> x509.Certificate:  # fmt: skip  # noqa: E501
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(sign, False, False, False, False, ca, ca, False, False)
    return (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(START).not_valid_after(START + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(by, hashes.SHA256())
    )  # fmt: skip


class Chain:
    """A root, an authority below it, and a signer below that."""

    def __init__(self, folder: Path, *, sign: bool = True) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        top, middle = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
        self.root = certificate("root", top, None, top, ca=True)
        self.authority = certificate("authority", middle, self.root, top, ca=True)
        self.signer = certificate("maya", self.key, self.authority, middle, ca=False, sign=sign)
        for name in ("root", "authority", "signer"):
            (folder / f"{name}.pem").write_bytes(getattr(self, name).public_bytes(Encoding.PEM))


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda one: one.name)
def test_the_reference_implementation_verifies_our_signature_by_key(model: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:  # fmt: skip  # noqa: E501
    key = ec.generate_private_key(curve)
    _, public = write_pair(tmp_path, key)
    signature = model / "model.sig"
    signature.write_text(json.dumps(oms.sign_files(files_of(model), key, name="flight-delay/1")))
    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public).verify(model, signature)
    (model / "model.skops").write_bytes(b"other")
    with pytest.raises(Exception, match="mismatch"):
        model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public).verify(model, signature)


def test_we_verify_its_signature_by_key(model: Path, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = write_pair(tmp_path, key)
    signature = model / "model.sig"
    model_signing.signing.Config().use_elliptic_key_signer(private_key=private).sign(model, signature)
    found = oms.verify_folder(model, signature.read_bytes(), key=oms.read_public_key(public.read_bytes()))
    assert (found.method, found.name, found.files) == ("key", "model", 3)
    assert run(["signature", "verify", str(model), "--key", str(public)]) == 0
    (model / "deep" / "é.txt").write_text("other")
    assert run(["signature", "verify", str(model), "--key", str(public)]) == 1


def test_certificates_are_verified_both_ways(model: Path, tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    private, _ = write_pair(tmp_path, chain.key)
    ours, theirs = tmp_path / "ours.sig", tmp_path / "theirs.sig"
    ours.write_text(
        json.dumps(oms.sign_files(files_of(model), chain.key, name="m", chain=[chain.signer, chain.authority]))
    )
    verifier = model_signing.verifying.Config().use_certificate_verifier(certificate_chain=[tmp_path / "root.pem"])
    verifier.verify(model, ours)
    model_signing.signing.Config().use_certificate_signer(
        private_key=private, signing_certificate=tmp_path / "signer.pem", certificate_chain=[tmp_path / "authority.pem"]
    ).sign(model, theirs)
    for signature in (ours, theirs):
        found = oms.verify_folder(model, signature.read_bytes(), roots=[chain.root])
        assert (found.method, found.signer) == ("certificate", "CN=maya")
    stranger = Chain(tmp_path)
    with pytest.raises(IntegrityError, match="trusted root"):
        oms.verify_folder(model, ours.read_bytes(), roots=[stranger.root])
    weak = Chain(tmp_path, sign=False)
    signed = json.dumps(oms.sign_files(files_of(model), weak.key, name="m", chain=[weak.signer, weak.authority]))
    with pytest.raises(IntegrityError, match="not meant for signatures"):
        oms.verify_folder(model, signed.encode(), roots=[weak.root])
    with pytest.raises(InvalidInputError, match="another key"):
        oms.sign_files(files_of(model), weak.key, name="m", chain=[chain.signer])


def test_what_was_altered_added_taken_away_or_forged_is_found(model: Path, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    bundle = oms.sign_files(files_of(model), key, name="m")
    good = json.dumps(bundle).encode()
    public = key.public_key()
    oms.verify_folder(model, good, key=public)
    for path in sorted(model.rglob("*")):
        if path.is_file():
            kept = path.read_bytes()
            path.write_bytes(bytes([kept[0] ^ 1]) + kept[1:])
            with pytest.raises(IntegrityError, match="not what was signed"):
                oms.verify_folder(model, good, key=public)
            path.write_bytes(kept)
    (model / "added.bin").write_bytes(b"x")
    with pytest.raises(IntegrityError, match="was not signed"):
        oms.verify_folder(model, good, key=public)
    (model / "added.bin").rename(tmp_path / "aside")
    (model / "deep" / "é.txt").rename(tmp_path / "gone")
    with pytest.raises(IntegrityError, match="is gone"):
        oms.verify_folder(model, good, key=public)
    (model / "deep" / "é.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(IntegrityError, match="is a link"):
        oms.verify_folder(model, good, key=public)
    with pytest.raises(IntegrityError, match="not made by"):
        oms.verify_folder(model, good, key=ec.generate_private_key(ec.SECP256R1()).public_key())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    statement["predicate"]["serialization"]["ignore_paths"].append("model.skops")
    hiding = oms.canonical_json(statement)
    forged = {**bundle, "dsseEnvelope": {**bundle["dsseEnvelope"], "payload": base64.b64encode(hiding).decode()}}
    with pytest.raises(IntegrityError, match="not made by"):
        oms.verify_folder(model, json.dumps(forged).encode(), key=public)
    for nonsense in (b"", b"[]", b"{}", b'{"dsseEnvelope": {}, "verificationMaterial": {}, "mediaType": 1}'):
        with pytest.raises(IntegrityError):
            oms.verify_folder(model, nonsense, key=public)
