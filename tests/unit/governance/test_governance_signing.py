"""Keys and signed statements: what is forged, altered or misplaced is refused."""

from __future__ import annotations

import base64
import stat
import threading
from pathlib import Path

import pytest

from everline.errors import IntegrityError, InvalidInputError
from everline.governance.signing import SigningKey, VerifyKey, dsse_sign, dsse_verify, pae


def test_a_new_key_is_private_and_loads_again(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signing.key"
    key = SigningKey.load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey.load_or_create(path).public_text == key.public_text
    assert path.with_suffix(".pub").read_text().strip() == key.public_text
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["signing.key", "signing.pub"]


def test_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    seen: list[str] = []
    threads = [
        threading.Thread(target=lambda: seen.append(SigningKey.load_or_create(path).public_text)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 1
    assert len(seen) == 8


def test_the_known_go_note_key_parses() -> None:
    """The verifier key of golang.org/x/mod/sumdb/note's own example."""
    key = VerifyKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    encoded = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    raw = base64.b64decode(encoded)
    assert raw[:4] == key.short_hash
    assert key.verify(raw[4:], text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "everline",
        "everline+00000000+AQ==",
        "a b+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz",
        "x" * 5000,
    ],
)
def test_a_broken_public_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        VerifyKey.parse(text)


def test_a_key_is_read_from_text_or_file(tmp_path: Path) -> None:
    key = SigningKey.load_or_create(tmp_path / "signing.key")
    assert VerifyKey.read(key.public_text) == VerifyKey.read(str(tmp_path / "signing.pub"))
    with pytest.raises(InvalidInputError, match="no readable key file"):
        VerifyKey.read(str(tmp_path / "absent.pub"))


def test_a_damaged_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    SigningKey.load_or_create(path)
    text = path.read_text()
    for damaged in ("", "nonsense", text[:30], text.replace("everline", "everlime")):
        path.write_text(damaged)
        with pytest.raises(InvalidInputError):
            SigningKey.load_or_create(path)


def test_the_private_key_never_shows() -> None:
    key = SigningKey.generate()
    assert "PRIVATE" not in repr(key)
    assert "Ed25519PrivateKey" not in repr(key)


def test_pae_follows_the_dsse_vector() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_a_signed_statement_comes_back_whole() -> None:
    key = SigningKey.generate()
    envelope = dsse_sign(key, "application/json", b'{"a":1}')
    assert dsse_verify(envelope, key.verify_key) == b'{"a":1}'
    assert dsse_verify(envelope, [SigningKey.generate().verify_key, key.verify_key]) == b'{"a":1}'


def test_a_statement_under_another_type_or_key_is_refused() -> None:
    key = SigningKey.generate()
    envelope = dsse_sign(key, "application/json", b"{}")
    for forged in (
        {**envelope, "payloadType": "text/plain"},
        {**envelope, "payload": "e30K"},
        {**envelope, "payload": "not base64!"},
        {**envelope, "signatures": []},
        {**envelope, "signatures": "no"},
        {},
    ):
        with pytest.raises(IntegrityError):
            dsse_verify(forged, key.verify_key)
    with pytest.raises(IntegrityError, match="not signed by a trusted key"):
        dsse_verify(envelope, SigningKey.generate().verify_key)
    with pytest.raises(IntegrityError, match="was expected"):
        dsse_verify(envelope, key.verify_key, payload_type="application/vnd.in-toto+json")
