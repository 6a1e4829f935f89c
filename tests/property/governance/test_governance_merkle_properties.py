"""The tree against the RFC's recursive definition, over every shape that Hypothesis can think of."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from everline.errors import IntegrityError
from everline.governance.tree import merkle


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH(D[n]), as RFC 9162 section 2.1.1 defines it."""
    if not leaves:
        return merkle.EMPTY_ROOT
    if len(leaves) == 1:
        return merkle.leaf_hash(leaves[0])
    k = naive_split(len(leaves))
    return merkle.node_hash(naive_root(leaves[:k]), naive_root(leaves[k:]))


def naive_split(size: int) -> int:
    k = 1
    while k * 2 < size:
        k *= 2
    return k


def naive_path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D[n]) of section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = naive_split(len(leaves))
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m: int, leaves: Sequence[bytes], known: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b) of section 2.1.4.1."""
    if m == len(leaves):
        return [] if known else [naive_root(leaves)]
    k = naive_split(len(leaves))
    if m <= k:
        return [*naive_subproof(m, leaves[:k], known), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], False), naive_root(leaves[:k])]


class CountingReader:
    """Serves stored nodes and remembers how many were asked for."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.nodes = dict(merkle.grow(0, (), [merkle.leaf_hash(leaf) for leaf in leaves]).nodes)
        self.reads = 0

    def __call__(self, nodes: Sequence[merkle.Node], /) -> dict[merkle.Node, bytes]:
        self.reads += len(nodes)
        return {node: self.nodes[node] for node in nodes}


def logs(min_size: int = 1, max_size: int = 130) -> st.SearchStrategy[list[bytes]]:
    return st.integers(min_size, max_size).map(lambda n: [i.to_bytes(2) for i in range(n)])


@given(leaves=logs(0), data=st.data())
def test_growth_in_any_batches_gives_the_defined_root(leaves: list[bytes], data: st.DataObject) -> None:
    state = merkle.Growth.start()
    nodes: dict[merkle.Node, bytes] = {}
    rest = [merkle.leaf_hash(leaf) for leaf in leaves]
    while rest:
        batch = data.draw(st.integers(1, len(rest)))
        state = merkle.grow(state.size, state.peaks, rest[:batch])
        nodes |= dict(state.nodes)
        rest = rest[batch:]
    assert state.root == naive_root(leaves)
    assert tuple(nodes[node] for node in merkle.peak_nodes(state.size)) == state.peaks
    for size in range(len(leaves) + 1):
        assert merkle.root(size, lambda wanted: nodes) == naive_root(leaves[:size])


@given(leaves=logs(), data=st.data())
def test_inclusion_proofs_are_those_of_the_rfc_and_verify(leaves: list[bytes], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(leaves)))
    index = data.draw(st.integers(0, size - 1))
    reader = CountingReader(leaves)
    path = merkle.inclusion_proof(index, size, reader)
    assert path == naive_path(index, leaves[:size])
    assert reader.reads <= 2 * size.bit_length()
    root = naive_root(leaves[:size])
    leaf = merkle.leaf_hash(leaves[index])
    merkle.verify_inclusion(leaf, index=index, size=size, path=path, root=root)

    wrong = data.draw(st.integers(0, size).filter(lambda i: i != index))
    for attack in (
        {"index": wrong},
        {"path": [*path, root]},
        {"path": path[:-1]} if path else {"root": bytes(32)},
        {"root": merkle.leaf_hash(root)},
    ):
        with pytest.raises(IntegrityError):
            merkle.verify_inclusion(leaf, **({"index": index, "size": size, "path": path, "root": root} | attack))
    with pytest.raises(IntegrityError):
        merkle.verify_inclusion(merkle.leaf_hash(b"invented"), index=index, size=size, path=path, root=root)


@given(leaves=logs(), data=st.data())
def test_consistency_proofs_are_those_of_the_rfc_and_verify(leaves: list[bytes], data: st.DataObject) -> None:
    second = data.draw(st.integers(1, len(leaves)))
    first = data.draw(st.integers(1, second))
    reader = CountingReader(leaves)
    path = merkle.consistency_proof(first, second, reader)
    assert path == naive_subproof(first, leaves[:second], True)
    assert reader.reads <= 3 * second.bit_length()
    roots = {"first_root": naive_root(leaves[:first]), "second_root": naive_root(leaves[:second])}
    merkle.verify_consistency(first, second, path=path, **roots)
    rewritten = [b"rewritten", *leaves[1:second]]
    with pytest.raises(IntegrityError):
        merkle.verify_consistency(first, second, path=path, **(roots | {"second_root": naive_root(rewritten)}))
    with pytest.raises(IntegrityError):
        merkle.verify_consistency(first, second, path=[*path, bytes(32)], **roots)


@settings(max_examples=300)
@given(
    leaf=st.binary(min_size=32, max_size=32),
    index=st.integers(-2, 2**70),
    size=st.integers(-2, 2**70),
    path=st.lists(st.binary(min_size=32, max_size=32), max_size=80),
    root=st.binary(min_size=32, max_size=32),
)
def test_no_made_up_proof_verifies_or_crashes(
    leaf: bytes, index: int, size: int, path: list[bytes], root: bytes
) -> None:
    assume(leaf != root)  # a log of one event has that event's hash as its root
    with pytest.raises(IntegrityError):
        merkle.verify_inclusion(leaf, index=index, size=size, path=path, root=root)
    with pytest.raises(IntegrityError):
        merkle.verify_consistency(index, size, path=path, first_root=leaf, second_root=root)
