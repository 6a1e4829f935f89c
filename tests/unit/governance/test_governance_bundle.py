"""An exported log in a stranger's hands: whatever is done to it is found with the public key alone."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from everline.canonical import canonical_json
from everline.errors import IntegrityError, InvalidInputError
from everline.governance.bundle import Leaf, read_proof, verify_bundle, verify_proof, write_bundle
from everline.governance.signing import SigningKey
from everline.governance.tree import merkle
from everline.governance.tree.checkpoint import sign_checkpoint
from everline.governance.types import InclusionProof, LogReport

KEY = SigningKey.generate()
PUBLIC = KEY.public_text


def leaf(number: int) -> bytes:
    return canonical_json({
        "schema": 1,
        "at": "2026-03-01T00:00:00.000000Z",
        "actor": "u1",
        "actor_name": "maya",
        "action": "release.promote",
        "subject": f"release:{number}",
        "project": "default",
        "data": {"share": 0.1, "reason": "für alle\nund jeden"},
    })  # fmt: skip


LEAVES = [leaf(number) for number in range(12)]


def signed(leaves: list[bytes], key: SigningKey = KEY) -> str:
    return sign_checkpoint(key, size=len(leaves), root=merkle.grow(0, (), map(merkle.leaf_hash, leaves)).root)


def write(path: Path, leaves: list[bytes] = LEAVES, *, note: str | None = None, earlier: tuple[str, ...] = ()) -> Path:
    rows = [Leaf(text, merkle.leaf_hash(text)) for text in leaves]
    write_bundle(path, leaves=rows, note=note or signed(leaves), earlier=earlier, key=KEY.verify_key)
    return path


def rewrite(path: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    """Change one member of the archive and pack it again, as a careful forger would."""
    with zipfile.ZipFile(path) as bundle:
        members = {member: bundle.read(member) for member in bundle.namelist()}
    members[name] = change(members[name])
    with zipfile.ZipFile(path, "w") as bundle:
        for member, data in members.items():
            bundle.writestr(member, data)
    return path


def relist(path: Path, leaves: list[bytes]) -> Path:
    """Replace the events and the list of their hashes; only the signature is out of the forger's reach."""
    rewrite(path, "leaves.jsonl", lambda _: b"".join(text + b"\n" for text in leaves))
    return rewrite(path, "hashes.bin", lambda _: b"".join(map(merkle.leaf_hash, leaves)))


def found(report: LogReport) -> set[tuple[str, int | None]]:
    assert not report.verified
    return {(problem.what, problem.index) for problem in report.problems}


def test_a_whole_bundle_verifies_with_the_key_alone(tmp_path: Path) -> None:
    report = verify_bundle(write(tmp_path / "log.zip", earlier=(signed(LEAVES[:5]),)), PUBLIC)
    assert report.verified
    assert (report.size, report.checkpoint_size, report.checkpoints, report.problems) == (12, 12, 2, [])


def test_an_empty_log_verifies(tmp_path: Path) -> None:
    assert verify_bundle(write(tmp_path / "log.zip", []), PUBLIC).verified


def swap(leaves: list[bytes]) -> list[bytes]:
    return [*leaves[:3], leaves[4], leaves[3], *leaves[5:]]


TAMPERED = {
    "removed": (LEAVES[:4] + LEAVES[5:], ("removed", 4)),
    "reordered": (swap(LEAVES), ("reordered", 3)),
    "altered": ([*LEAVES[:6], LEAVES[6].replace(b"maya", b"ravi"), *LEAVES[7:]], ("altered", 6)),
    "invented": ([*LEAVES[:2], leaf(99), *LEAVES[2:]], ("invented", 2)),
    "appended": ([*LEAVES, leaf(99)], ("invented", 12)),
    "truncated": (LEAVES[:9], ("truncated", 9)),
    "repeated": ([*LEAVES[:2], LEAVES[1], *LEAVES[2:]], ("invented", 1)),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_changed_list_of_events_is_found_and_named(tmp_path: Path, name: str) -> None:
    leaves, expected = TAMPERED[name]
    path = write(tmp_path / "log.zip")
    rewrite(path, "leaves.jsonl", lambda _: b"".join(text + b"\n" for text in leaves))
    assert expected in found(verify_bundle(path, PUBLIC))


@pytest.mark.parametrize("name", TAMPERED)
def test_a_forger_who_also_mends_the_hashes_is_found(tmp_path: Path, name: str) -> None:
    path = relist(write(tmp_path / "log.zip", earlier=(signed(LEAVES[:5]),)), TAMPERED[name][0])
    assert found(verify_bundle(path, PUBLIC))


def test_the_place_of_a_forgery_is_narrowed_down_by_earlier_checkpoints(tmp_path: Path) -> None:
    path = write(tmp_path / "log.zip", earlier=(signed(LEAVES[:5]), signed(LEAVES[:8])))
    report = verify_bundle(relist(path, TAMPERED["altered"][0]), PUBLIC)
    assert ("rewritten", 5) in found(report)
    assert "events 5 to 7" in report.problems[0].detail


def test_a_log_signed_by_another_key_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "log.zip", note=signed(LEAVES, SigningKey.generate()))
    assert ("unsigned", None) in found(verify_bundle(path, PUBLIC))
    assert found(verify_bundle(write(tmp_path / "b.zip"), SigningKey.generate().public_text))


def test_a_truncated_log_under_its_own_old_checkpoint_needs_the_one_that_a_reader_kept(tmp_path: Path) -> None:
    rolled_back = write(tmp_path / "log.zip", LEAVES[:5])
    assert verify_bundle(rolled_back, PUBLIC).verified
    assert ("truncated", 5) in found(verify_bundle(rolled_back, PUBLIC, known=[signed(LEAVES)]))


def test_two_logs_of_one_key_that_disagree_are_found(tmp_path: Path) -> None:
    path = write(tmp_path / "log.zip")
    assert ("rewritten", None) in found(verify_bundle(path, PUBLIC, known=[signed(swap(LEAVES))]))


@pytest.mark.parametrize(
    ("member", "change"),
    [
        ("checkpoint.txt", lambda data: b""),
        ("checkpoint.txt", lambda data: b"\xff\xfe"),
        ("checkpoint.txt", lambda data: data.replace(b"12", b"11")),
        ("checkpoints.jsonl", lambda data: b"{not json\n"),
        ("hashes.bin", lambda data: data[:-1]),
        ("hashes.bin", lambda data: b""),
        ("leaves.jsonl", lambda data: data[:-1]),
        ("leaves.jsonl", lambda data: b"x" * (2 << 20)),
        ("leaves.jsonl", lambda data: b"[]\n" * 12),
    ],
)
def test_a_damaged_bundle_is_not_verified_and_no_traceback(tmp_path: Path, member: str, change: object) -> None:
    assert not verify_bundle(rewrite(write(tmp_path / "log.zip"), member, change), PUBLIC).verified


def test_every_byte_of_the_file_counts_or_is_no_part_of_the_log(tmp_path: Path) -> None:
    """Flip bytes of the archive itself: never a crash, and whatever still verifies is the true log."""
    data = bytearray(write(tmp_path / "log.zip").read_bytes())
    path = tmp_path / "flipped.zip"
    for position in range(0, len(data), 7):
        data[position] ^= 0x55
        path.write_bytes(data)
        report = verify_bundle(path, PUBLIC)
        assert not report.verified or report.size == 12
        data[position] ^= 0x55


def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello")
    assert found(verify_bundle(tmp_path / "x", PUBLIC)) == {("malformed", None)}
    with pytest.raises(InvalidInputError, match="cannot be read"):
        verify_bundle(tmp_path / "absent", PUBLIC)


def proof(index: int) -> InclusionProof:
    nodes = dict(merkle.grow(0, (), map(merkle.leaf_hash, LEAVES)).nodes)
    path = merkle.inclusion_proof(index, len(LEAVES), lambda wanted: nodes)
    return InclusionProof(
        index=index,
        size=len(LEAVES),
        leaf=LEAVES[index].decode(),
        path=[value.hex() for value in path],
        checkpoint=signed(LEAVES),
    )


@pytest.mark.parametrize("index", range(len(LEAVES)))
def test_a_proof_verifies_with_the_key_alone_and_gives_the_event(index: int) -> None:
    assert verify_proof(proof(index), PUBLIC).subject == f"release:{index}"


@pytest.mark.parametrize(
    "change",
    [
        {"index": 4},
        {"size": 11},
        {"leaf": LEAVES[4].decode()},
        {"leaf": "not json"},
        {"path": []},
        {"path": ["00" * 32]},
        {"path": ["xx"]},
        {"path": ["00"]},
        {"checkpoint": signed(LEAVES[:11])},
        {"checkpoint": signed(LEAVES, SigningKey.generate())},
        {"checkpoint": ""},
    ],
)
def test_a_forged_proof_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(IntegrityError):
        verify_proof(msgspec.structs.replace(proof(3), **change), PUBLIC)


def test_a_proof_is_read_from_a_file_and_nonsense_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    path.write_bytes(msgspec.json.encode(proof(3)))
    assert verify_proof(read_proof(path), PUBLIC).index == 3
    for nonsense in (b"", b"{}", b"\xff", b"[" * 100_000):
        path.write_bytes(nonsense)
        with pytest.raises(InvalidInputError):
            read_proof(path)
