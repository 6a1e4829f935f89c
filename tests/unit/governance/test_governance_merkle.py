"""The tree against published vectors, and checkpoints against tampering."""

from __future__ import annotations

import base64

import pytest

from everline.errors import IntegrityError
from everline.governance.signing import SigningKey, VerifyKey
from everline.governance.tree import merkle
from everline.governance.tree.checkpoint import open_checkpoint, sign_checkpoint, sign_note

# The reference tree of the Certificate Transparency code base, used by every implementation since.
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_roots_equal_the_reference_tree() -> None:
    hashes = [merkle.leaf_hash(leaf) for leaf in LEAVES]
    grown = [merkle.grow(0, (), hashes[:size]).root.hex() for size in range(1, 9)]
    assert grown == ROOTS
    assert merkle.Growth.start().root == merkle.EMPTY_ROOT


def test_the_paths_of_rfc_9162_section_2_1_5() -> None:
    """The seven-leaf tree that the RFC draws: which nodes each proof names."""
    hashes = [merkle.leaf_hash(f"d{i}".encode()) for i in range(7)]
    nodes = dict(merkle.grow(0, (), hashes).nodes)

    def read(wanted: object) -> dict[merkle.Node, bytes]:
        return nodes

    a, b, c, d, e, f, j = hashes
    g, h, i = merkle.node_hash(a, b), merkle.node_hash(c, d), merkle.node_hash(e, f)
    k = merkle.node_hash(g, h)
    hash_l = merkle.node_hash(i, j)
    assert merkle.inclusion_proof(0, 7, read) == [b, h, hash_l]
    assert merkle.inclusion_proof(3, 7, read) == [c, g, hash_l]
    assert merkle.inclusion_proof(4, 7, read) == [f, j, k]
    assert merkle.inclusion_proof(6, 7, read) == [i, k]
    assert merkle.consistency_proof(3, 7, read) == [c, d, g, hash_l]
    assert merkle.consistency_proof(4, 7, read) == [hash_l]
    assert merkle.consistency_proof(6, 7, read) == [i, j, k]


def test_a_checkpoint_comes_back_and_has_the_c2sp_form() -> None:
    key = SigningKey.generate(name="everline.test/log")
    note = sign_checkpoint(key, size=7, root=b"\x07" * 32)
    assert note.split("\n")[:4] == ["everline.test/log", "7", base64.b64encode(b"\x07" * 32).decode(), ""]
    opened = open_checkpoint(note, VerifyKey.parse(key.public_text))
    assert (opened.size, opened.root) == (7, b"\x07" * 32)


def test_a_witness_signature_beside_ours_is_no_hindrance() -> None:
    key, witness = SigningKey.generate(), SigningKey.generate(name="witness")
    note = sign_checkpoint(key, size=1, root=b"\x01" * 32)
    body = note.rpartition("\n\n")[0] + "\n"
    cosigned = (
        note + f"— witness {base64.b64encode(witness.verify_key.short_hash + witness.sign(body.encode())).decode()}\n"
    )
    assert open_checkpoint(cosigned, key.verify_key).size == 1
    with pytest.raises(IntegrityError, match="belongs to the log"):
        open_checkpoint(cosigned, witness.verify_key)


def test_a_forged_or_cut_checkpoint_is_refused() -> None:
    key = SigningKey.generate()
    note = sign_checkpoint(key, size=7, root=b"\x07" * 32)
    forged = [
        note.replace("\n7\n", "\n8\n"),
        note.replace("everline\n", "everlime\n", 1),
        note[:-1],
        note.partition("\n\n")[0],
        note + "— everline\n",
        "",
        "x" * 100_000,
        sign_checkpoint(SigningKey.generate(), size=7, root=b"\x07" * 32),
    ]
    for text in forged:
        with pytest.raises(IntegrityError):
            open_checkpoint(text, key.verify_key)


@pytest.mark.parametrize("size", ["-1", "07", "1e3", "x", "²"])
def test_a_signed_but_malformed_size_is_refused(size: str) -> None:
    key = SigningKey.generate()
    root = base64.b64encode(bytes(32)).decode()
    with pytest.raises(IntegrityError):
        open_checkpoint(sign_note(key, f"everline\n{size}\n{root}\n"), key.verify_key)
