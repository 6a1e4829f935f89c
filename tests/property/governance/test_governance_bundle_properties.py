"""Flip any byte of any event, cut, swap or repeat at will: only the true log verifies."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everline.canonical import canonical_json
from everline.governance.bundle import Leaf, verify_bundle, write_bundle
from everline.governance.signing import SigningKey
from everline.governance.tree import merkle
from everline.governance.tree.checkpoint import sign_checkpoint

KEY = SigningKey.generate()
LEAVES = [
    canonical_json({
        "schema": 1, "at": "2026-03-01T00:00:00.000000Z", "actor": "u", "actor_name": "maya", "action": "a.b",
        "subject": f"thing:{number}", "project": "default", "data": {"number": number},
    })
    for number in range(9)
]  # fmt: skip
HASHES = [merkle.leaf_hash(leaf) for leaf in LEAVES]
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def members(tmp_path: Path) -> dict[str, bytes]:
    path = tmp_path / "log.zip"
    root = merkle.grow(0, (), HASHES).root
    rows = map(Leaf, LEAVES, HASHES)
    note = sign_checkpoint(KEY, size=len(LEAVES), root=root)
    write_bundle(path, leaves=rows, note=note, earlier=[], key=KEY.verify_key)
    with zipfile.ZipFile(path) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


def verified(members: dict[str, bytes], path: Path) -> bool:
    with zipfile.ZipFile(path, "w") as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    return verify_bundle(path, KEY.public_text).verified


@SETTINGS
@given(data=st.data())
def test_any_flipped_byte_of_a_leaf_is_found(members: dict[str, bytes], tmp_path: Path, data: st.DataObject) -> None:
    leaves = bytearray(members["leaves.jsonl"])
    position = data.draw(st.integers(0, len(leaves) - 1))
    leaves[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "forged.zip"
    assert not verified(members | {"leaves.jsonl": bytes(leaves)}, path)
    lines = bytes(leaves).split(b"\n")[:-1]
    mended = b"".join(merkle.leaf_hash(line) for line in lines)
    assert not verified(members | {"leaves.jsonl": bytes(leaves), "hashes.bin": mended}, path)


@SETTINGS
@given(order=st.lists(st.integers(0, len(LEAVES) - 1), max_size=12))
def test_any_other_sequence_of_true_events_is_found(
    members: dict[str, bytes], tmp_path: Path, order: list[int]
) -> None:
    leaves = b"".join(LEAVES[index] + b"\n" for index in order)
    hashes = b"".join(HASHES[index] for index in order)
    forged = members | {"leaves.jsonl": leaves, "hashes.bin": hashes}
    assert verified(forged, tmp_path / "forged.zip") == (order == list(range(len(LEAVES))))
