"""Tiles that a static server can host, and witnesses that cosign what continues a log and nothing else."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from everline.canonical import canonical_json
from everline.clock import FixedClock, SystemClock
from everline.errors import IntegrityError, InvalidInputError
from everline.governance.signing import SigningKey, VerifyKey
from everline.governance.tree import merkle
from everline.governance.tree.checkpoint import open_checkpoint, sign_checkpoint
from everline.governance.tree.cosignature import WitnessKey, cosign, cosigned_at
from everline.governance.tree.tiles import tile_path, verify_tiles, write_tiles
from everline.governance.witness import RefusedError, Witness, write_request

KEY = SigningKey.generate(name="log.example")
OTHER = SigningKey.generate(name="log.example")
LEAVES = [canonical_json({"n": number, "pad": "x" * (number % 7)}) for number in range(70_000)]


def note_of(leaves: list[bytes], key: SigningKey = KEY) -> str:
    tree = merkle.grow(0, (), map(merkle.leaf_hash, leaves))
    return sign_checkpoint(key, size=tree.size, root=tree.root)


def proof(leaves: list[bytes], first: int) -> list[bytes]:
    nodes = dict(merkle.grow(0, (), map(merkle.leaf_hash, leaves)).nodes)
    return merkle.consistency_proof(first, len(leaves), lambda wanted: {node: nodes[node] for node in wanted})


def test_paths_of_tiles_are_those_of_the_specification() -> None:
    assert tile_path(0, 0) == "tile/0/000"
    assert tile_path(5, 999) == "tile/5/999"
    assert tile_path(0, 1_000) == "tile/0/x001/000"
    assert tile_path(0, 1_234_067) == "tile/0/x001/x234/067"
    assert tile_path("entries", 3, width=17) == "tile/entries/003.p/17"


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 700, 70_000])
def test_a_log_is_laid_out_and_verified_and_grows_in_its_place(tmp_path: Path, size: int) -> None:
    before = size // 3
    for count in (before, size):
        assert write_tiles(tmp_path, leaves=LEAVES[:count], note=note_of(LEAVES[:count]), key=KEY.verify_key) == count
    report = verify_tiles(tmp_path, KEY.verify_key, known=[note_of(LEAVES[:before])])
    assert (report.verified, report.size, report.problems) == (True, size, [])
    if size == 70_000:
        top = (tmp_path / "tile/1/000").read_bytes()
        whole = merkle.grow(0, (), map(merkle.leaf_hash, LEAVES[:256]))
        assert top[:32] == whole.root
        assert (tmp_path / "tile/2/000.p/1").stat().st_size == 32
        assert (tmp_path / "tile/entries/273.p/112").exists()
        assert hashlib.sha256(b"\x00" + LEAVES[0]).digest() == (tmp_path / "tile/0/000").read_bytes()[:32]


def test_any_flipped_byte_of_any_tile_is_found(tmp_path: Path) -> None:
    write_tiles(tmp_path, leaves=LEAVES[:600], note=note_of(LEAVES[:600]), key=KEY.verify_key)
    files = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    chance = random.Random(1)
    for path in files:
        kept = path.read_bytes()
        for place in chance.sample(range(len(kept)), 12):
            path.write_bytes(kept[:place] + bytes([kept[place] ^ (1 << chance.randrange(8))]) + kept[place + 1 :])
            assert not verify_tiles(tmp_path, KEY.verify_key).verified, (path, place)
        path.unlink()
        if path.name != "checkpoint":
            assert not verify_tiles(tmp_path, KEY.verify_key).verified, path
        path.write_bytes(kept)
    assert verify_tiles(tmp_path, KEY.verify_key).verified
    rolled = [note_of(LEAVES[:700])]
    assert {one.what for one in verify_tiles(tmp_path, KEY.verify_key, known=rolled).problems} == {"truncated"}
    with pytest.raises(IntegrityError, match="another log"):
        write_tiles(tmp_path, leaves=LEAVES[1:601], note=note_of(LEAVES[1:601]), key=KEY.verify_key)
    with pytest.raises(IntegrityError, match="signed root"):
        write_tiles(tmp_path / "x", leaves=LEAVES[:599], note=note_of(LEAVES[:600]), key=KEY.verify_key)


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness(
        tmp_path / "witness", SigningKey.generate(name="witness.example/w1"), [KEY.verify_key],
        clock=FixedClock(SystemClock().now()),
    )  # fmt: skip


def refused(witness: Witness, request: bytes) -> int:
    with pytest.raises(RefusedError) as caught:
        witness.add_checkpoint(request)
    return caught.value.status


def test_a_witness_cosigns_what_continues_a_log_across_restarts(witness: Witness) -> None:
    first, second = note_of(LEAVES[:5]), note_of(LEAVES[:900])
    line = witness.add_checkpoint(write_request(old=0, path=[], note=first))
    assert cosigned_at(first + line, witness.public) == int(witness.clock.now().timestamp())
    assert open_checkpoint(first + line, KEY.verify_key).size == 5  # readers who know no witness skip its line
    again = Witness(witness.folder, witness.key, [KEY.verify_key], clock=witness.clock)
    with pytest.raises(RefusedError) as caught:
        again.add_checkpoint(write_request(old=0, path=[], note=second))
    assert (caught.value.status, caught.value.size) == (409, 5)
    assert again.add_checkpoint(write_request(old=5, path=[], note=first)) == line  # the same once more
    again.add_checkpoint(write_request(old=5, path=proof(LEAVES[:900], 5), note=second))
    assert refused(again, write_request(old=5, path=[], note=first)) == 409  # rolled back


def test_a_witness_refuses_what_the_protocol_says_and_keeps_contradictions(witness: Witness) -> None:
    witness.add_checkpoint(write_request(old=0, path=[], note=note_of(LEAVES[:5])))
    other = [*LEAVES[:4], b'{"n":"forged"}']
    assert refused(witness, write_request(old=5, path=[], note=note_of(other))) == 409
    longer = [*other, *LEAVES[5:9]]
    assert refused(witness, write_request(old=5, path=proof(longer, 5), note=note_of(longer))) == 422
    assert len(list(witness.folder.glob("*.contradiction"))) == 2
    assert refused(witness, write_request(old=5, path=[], note=note_of(LEAVES[:9]))) == 422
    assert refused(witness, write_request(old=5, path=proof(LEAVES[:9], 4), note=note_of(LEAVES[:9]))) == 422
    assert refused(witness, write_request(old=5, path=[], note=note_of(LEAVES[:9], OTHER))) == 403
    stranger = SigningKey.generate(name="elsewhere")
    assert refused(witness, write_request(old=0, path=[], note=note_of(LEAVES[:9], stranger))) == 404
    assert refused(witness, write_request(old=10, path=[], note=note_of(LEAVES[:9]))) == 400
    for nonsense in (b"", b"old\n\n", b"old 05\n\n" + note_of(LEAVES[:5]).encode(), b"old 0\nAAAA\n\nx", b"\xff" * 9):
        assert refused(witness, nonsense) == 400
    assert refused(witness, b"old 0\n" + b"x" * 100_000) == 413


def test_keys_of_logs_and_witnesses_are_not_taken_for_each_other(witness: Witness) -> None:
    assert WitnessKey.parse(witness.public.text) == witness.public
    with pytest.raises(InvalidInputError, match="not an Ed25519 key"):
        VerifyKey.parse(witness.public.text)
    with pytest.raises(InvalidInputError, match="not an Ed25519 key"):
        WitnessKey.parse(KEY.public_text)
    note = note_of(LEAVES[:5])
    line = cosign(witness.key, note.rpartition("\n\n")[0] + "\n", timestamp=7)
    assert cosigned_at(note + line, witness.public) == 7
    with pytest.raises(IntegrityError, match="does not belong"):
        cosigned_at(note_of(LEAVES[:6]) + line, witness.public)
