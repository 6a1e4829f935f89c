"""The Merkle tree of RFC 9162, section 2.1: hashes, growth, inclusion and consistency proofs.

Nothing here knows a database. A tree is stored as the hashes of its *complete* subtrees: the node
`(level, index)` covers the leaves `index << level` up to `(index + 1) << level`, so it never changes once
it is there. Any root or proof needs O(log n) such nodes, which a `NodeReader` fetches in one go.

Source: RFC 9162, sections 2.1.1 to 2.1.5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, Self

from everline.errors import IntegrityError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

Node = tuple[int, int]
"""(level, index); level 0 are the leaf hashes."""

Range = tuple[int, int]
"""Leaves from the first up to, without, the second."""


class NodeReader(Protocol):
    """Fetches stored nodes: every node asked for is in the answer."""

    def __call__(self, nodes: Sequence[Node], /) -> Mapping[Node, bytes]:
        """Return the hash of each node."""


def leaf_hash(leaf: bytes) -> bytes:
    """Hash one leaf, under its own prefix so that no leaf can pass for an interior node."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two children into their parent."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Growth(NamedTuple):
    """A tree's state, and the nodes that became complete on the way to it."""

    size: int
    peaks: tuple[bytes, ...]
    nodes: list[tuple[Node, bytes]]

    @classmethod
    def start(cls) -> Self:
        """The tree without leaves."""
        return cls(0, (), [])

    @property
    def root(self) -> bytes:
        """The Merkle tree hash."""
        return fold(self.peaks)


def grow(size: int, peaks: Iterable[bytes], leaf_hashes: Iterable[bytes]) -> Growth:
    """Append leaves to a tree known by its peaks.

    Args:
        size: leaves in the tree so far.
        peaks: hashes of the complete subtrees of `peak_nodes(size)`, left to right.
        leaf_hashes: hashes of the new leaves, in order.

    Returns:
        The new size and peaks, and every new node of level 0 and above, children before parents.
    """
    stack = list(peaks)
    nodes: list[tuple[Node, bytes]] = []
    for leaf in leaf_hashes:
        level, index, value = 0, size, leaf
        nodes.append(((0, index), value))
        while index & 1:
            value = node_hash(stack.pop(), value)
            level, index = level + 1, index >> 1
            nodes.append(((level, index), value))
        stack.append(value)
        size += 1
    return Growth(size, tuple(stack), nodes)


def peak_nodes(size: int) -> list[Node]:
    """The complete subtrees that make up a tree of `size` leaves, largest first."""
    return _complete_nodes((0, size))


def fold(hashes: Sequence[bytes]) -> bytes:
    """Combine the hashes of neighbouring complete subtrees, largest first, into the one above them."""
    if not hashes:
        return EMPTY_ROOT
    value = hashes[-1]
    for left in reversed(hashes[:-1]):
        value = node_hash(left, value)
    return value


def root(size: int, read: NodeReader) -> bytes:
    """The Merkle tree hash of the first `size` leaves."""
    return _hash_ranges([(0, size)], read)[0]


def inclusion_proof(index: int, size: int, read: NodeReader) -> list[bytes]:
    """Prove that the leaf `index` is in the tree of `size` leaves (RFC 9162, 2.1.3.1).

    Returns:
        The audit path, from the leaf's sibling up to the root's child: at most 64 hashes.
    """
    if not 0 <= index < size:
        raise IndexError(f"leaf {index} is not in a tree of {size}")
    ranges: list[Range] = []
    start, end = 0, size
    while end - start > 1:
        split = start + _split(end - start)
        if index < split:
            ranges.append((split, end))
            end = split
        else:
            ranges.append((start, split))
            start = split
    return _hash_ranges(ranges[::-1], read)


def consistency_proof(first: int, second: int, read: NodeReader) -> list[bytes]:
    """Prove that the tree of `first` leaves is the beginning of that of `second` (RFC 9162, 2.1.4.1)."""
    if not 0 < first <= second:
        raise IndexError(f"no consistency proof from {first} to {second} leaves")
    ranges: list[Range] = []
    start, end, whole = 0, second, True
    while end != first:
        split = start + _split(end - start)
        if first <= split:
            ranges.append((split, end))
            end = split
        else:
            ranges.append((start, split))
            start, whole = split, False
    if not whole:
        ranges.append((start, end))
    return _hash_ranges(ranges[::-1], read)


def verify_inclusion(leaf: bytes, *, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check an audit path (RFC 9162, 2.1.3.2).

    Args:
        leaf: the leaf's hash, 32 bytes.

    Raises:
        IntegrityError: the path does not lead from this leaf, at this index, to this root.
    """
    if not 0 <= index < size:
        raise IntegrityError(f"Event {index} cannot be in a log of {size} events.")
    position, last, value = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise IntegrityError("The inclusion proof is longer than the tree is high.")
        if position & 1 or position == last:
            value = node_hash(sibling, value)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        position, last = position >> 1, last >> 1
    if last != 0 or value != root:
        raise IntegrityError(
            f"The inclusion proof does not lead from event {index} to the signed root.",
            hint="The event, its index or the proof was changed, or the proof belongs to another log.",
        )


def verify_consistency(
    first: int, second: int, *, path: Sequence[bytes], first_root: bytes, second_root: bytes
) -> None:
    """Check that one tree is the beginning of another (RFC 9162, 2.1.4.2).

    Raises:
        IntegrityError: the second tree does not continue the first: events were removed, altered or reordered.
    """
    if not 0 < first <= second or (first == second and path) or (first < second and not path):
        raise IntegrityError("The consistency proof does not have the form that these two sizes ask for.")
    if first == second:
        if first_root != second_root:
            raise IntegrityError(f"Two logs of {first} events have different roots: one of them was rewritten.")
        return
    hashes = list(path)
    if first & (first - 1) == 0:
        hashes.insert(0, first_root)
    position, last = first - 1, second - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = hashes[0]
    for value in hashes[1:]:
        if last == 0:
            raise IntegrityError("The consistency proof is longer than the tree is high.")
        if position & 1 or position == last:
            old, new = node_hash(value, old), node_hash(value, new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, value)
        position, last = position >> 1, last >> 1
    if last != 0 or old != first_root or new != second_root:
        raise IntegrityError(f"The log of {second} events does not continue the log of {first} events.")


def _split(size: int) -> int:
    """The largest power of two below `size`, which is 2 or more."""
    return 1 << ((size - 1).bit_length() - 1)


def _complete_nodes(leaves: Range) -> list[Node]:
    """Cut a range that begins at a subtree's left edge into complete subtrees, largest first."""
    start, end = leaves
    nodes: list[Node] = []
    while start < end:
        level = (end - start).bit_length() - 1
        nodes.append((level, start >> level))
        start += 1 << level
    return nodes


def _hash_ranges(ranges: Sequence[Range], read: NodeReader) -> list[bytes]:
    """The hash of each range, all nodes fetched at once."""
    cut = [_complete_nodes(leaves) for leaves in ranges]
    wanted = [node for nodes in cut for node in nodes]
    found = read(wanted) if wanted else {}
    return [fold([found[node] for node in nodes]) for nodes in cut]
