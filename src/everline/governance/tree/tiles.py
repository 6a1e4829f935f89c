"""The log as files that any static web server can host: checkpoint, hash tiles and entry bundles.

    checkpoint                      the signed note
    tile/<L>/<N>[.p/<W>]            256 hashes of level 8·L, fewer in a partial tile
    tile/entries/<N>[.p/<W>]        256 events, each behind its length as a big-endian uint16

Full tiles never change; partial ones are written beside them under their width. The checkpoint is replaced last, so
that a reader who follows it finds every tile that it needs.

Source: https://c2sp.org/tlog-tiles.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from everline.errors import IntegrityError, InvalidInputError
from everline.governance.signing import VerifyKey
from everline.governance.tree import merkle
from everline.governance.tree.checkpoint import NOTE_BYTES_MAX, Checkpoint, open_checkpoint
from everline.governance.tree.walk import Walk
from everline.governance.types import LogReport

WIDTH = 256
HEIGHT = 8
ENTRY_BYTES_MAX = 65_535
CHECKPOINT = "checkpoint"
ENTRIES = "entries"


def tile_path(level: int | str, index: int, *, width: int = WIDTH) -> str:
    """Where a tile lies.

    Example:
        >>> tile_path(0, 1234067), tile_path("entries", 0, width=7)
        ('tile/0/x001/x234/067', 'tile/entries/000.p/7')
    """
    digits = f"{index:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    parts = [digits[start : start + 3] for start in range(0, len(digits), 3)]
    path = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
    return f"tile/{level}/{path}" + (f".p/{width}" if width < WIDTH else "")


def write_tiles(folder: Path, *, leaves: Iterable[bytes], note: str, key: VerifyKey) -> int:
    """Lay a log out; full tiles that are there already are left as they are.

    Args:
        leaves: the events that the checkpoint covers, in order.

    Returns:
        The number of events.

    Raises:
        IntegrityError: the events do not have the signed root, or a full tile is there that differs.
    """
    signed = open_checkpoint(note, key)
    tree = merkle.Growth.start()
    hashes: dict[int, list[bytes]] = {}
    entries: list[bytes] = []
    for leaf in leaves:
        if len(leaf) > ENTRY_BYTES_MAX:
            raise IntegrityError(f"Event {tree.size} has {len(leaf)} bytes; a tile holds {ENTRY_BYTES_MAX}.")
        entries.append(struct.pack(">H", len(leaf)) + leaf)
        tree = merkle.grow(tree.size, tree.peaks, [merkle.leaf_hash(leaf)])
        for (level, index), value in tree.nodes:
            if level % HEIGHT == 0:
                tile = hashes.setdefault(level // HEIGHT, [])
                tile.append(value)
                if len(tile) == WIDTH:
                    _put(folder, tile_path(level // HEIGHT, index // WIDTH), b"".join(tile), full=True)
                    tile.clear()
        if len(entries) == WIDTH:
            _put(folder, tile_path(ENTRIES, tree.size // WIDTH - 1), b"".join(entries), full=True)
            entries.clear()
    if (tree.size, tree.root) != (signed.size, signed.root):
        raise IntegrityError(f"The {tree.size} events do not have the signed root of {signed.size}.")
    for level, tile in hashes.items():
        if tile:
            index = (tree.size >> (HEIGHT * level)) // WIDTH
            _put(folder, tile_path(level, index, width=len(tile)), b"".join(tile), full=False)
    if entries:
        _put(folder, tile_path(ENTRIES, tree.size // WIDTH, width=len(entries)), b"".join(entries), full=False)
    _put(folder, CHECKPOINT, note.encode(), full=False)
    return tree.size


def verify_tiles(folder: Path, key: VerifyKey, *, known: Iterable[str] = ()) -> LogReport:
    """Check a tree of tiles: every event, every hash, under the signature of one key.

    Args:
        known: checkpoints that you kept from earlier.

    Raises:
        InvalidInputError: there is no checkpoint.
    """
    note = _read(folder / CHECKPOINT, NOTE_BYTES_MAX).decode("utf-8", "replace")
    walk = Walk([note, *known], key)
    try:
        signed = open_checkpoint(note, key)
    except IntegrityError:
        signed = Checkpoint(origin=key.name, size=0, root=merkle.EMPTY_ROOT)
    levels: dict[int, list[bytes]] = {}
    for start in range(0, signed.size, WIDTH):
        width = min(WIDTH, signed.size - start)
        try:
            leaves = list(_entries(folder / tile_path(ENTRIES, start // WIDTH, width=width), width))
        except (IntegrityError, InvalidInputError, struct.error) as error:
            walk.report("malformed", start, f"The entries from {start} on cannot be read: {error}.")
            break
        for (level, _), value in walk.feed([merkle.leaf_hash(leaf) for leaf in leaves]):
            if level % HEIGHT == 0:
                levels.setdefault(level // HEIGHT, []).append(value)
    _compare_tiles(folder, walk, levels)
    walk.finish()
    return LogReport(
        verified=not walk.problems and walk.agreed == signed.size,
        size=walk.tree.size,
        root=walk.tree.root.hex(),
        checkpoint_size=walk.agreed,
        checkpoints=len(walk.checkpoints),
        key=key.text,
        problems=walk.problems,
    )


def _compare_tiles(folder: Path, walk: Walk, levels: dict[int, list[bytes]]) -> None:
    for level, values in levels.items():
        for start in range(0, len(values), WIDTH):
            expected = values[start : start + WIDTH]
            path = tile_path(level, start // WIDTH, width=len(expected))
            try:
                stored = _read(folder / path, WIDTH * merkle.HASH_BYTES)
            except InvalidInputError:
                stored = b""
            if stored != b"".join(expected):
                walk.report("rewritten", start << (HEIGHT * level), f"The tile {path} is not that of these events.")


def _entries(path: Path, width: int) -> Iterator[bytes]:
    data = _read(path, WIDTH * (ENTRY_BYTES_MAX + 2))
    place = 0
    for _ in range(width):
        (length,) = struct.unpack_from(">H", data, place)
        leaf = data[place + 2 : place + 2 + length]
        if len(leaf) != length:
            raise IntegrityError("an event is cut short")
        yield leaf
        place += 2 + length
    if place != len(data):
        raise IntegrityError("there is more behind the last event")


def _put(folder: Path, path: str, data: bytes, *, full: bool) -> None:
    target = folder / path
    if full and target.exists():
        if target.read_bytes() != data:
            raise IntegrityError(f"The tile {path} is there already with other content: this is another log's folder.")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.partial")
    temporary.write_bytes(data)
    temporary.replace(target)


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.", field="tiles") from error
    if len(data) > bytes_max:
        raise InvalidInputError(f"{path} is longer than {bytes_max} bytes.", field="tiles")
    return data
