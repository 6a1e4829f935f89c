"""Columns in shared memory: numbers as they lie in memory, text as offsets and UTF-8; never a pickle.

The model's own process runs this file too, where Everline is not installed: numpy and the standard library only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

ALIGNED = 16
_PLAIN = frozenset("biufM")


def size_of(arrays: dict[str, Any]) -> int:
    """How many bytes `pack` takes for these columns, at most."""
    size = 0
    for array in arrays.values():
        if array.dtype.kind in _PLAIN:
            size += array.nbytes + ALIGNED
        else:
            size += sum(4 * len(value) if isinstance(value, str) else 8 for value in array.tolist())
            size += 9 * (len(array) + 1) + 3 * ALIGNED
    return size


def pack(arrays: dict[str, Any], memory: Any) -> list[dict[str, Any]]:
    """Write columns into memory from its beginning; returns where each lies.

    Args:
        arrays: columns of booleans, numbers, times (`datetime64[us]`), or objects: text, booleans and None.
    """
    placed, end = [], 0
    for name, array in arrays.items():
        if array.dtype.kind in _PLAIN:
            where, end = _write(memory, end, np.ascontiguousarray(array))
            placed.append({"name": name, "kind": array.dtype.str, "rows": len(array), "at": where})
            continue
        values = array.tolist()
        missing = np.array([value is None for value in values], dtype=bool)
        if any(isinstance(value, bool) for value in values):
            bits = np.array([bool(value) for value in values], dtype=bool)
            where, end = _write(memory, end, bits)
            gaps, end = _write(memory, end, missing)
            placed.append({"name": name, "kind": "bool?", "rows": len(values), "at": where, "missing": gaps})
            continue
        texts = [b"" if value is None else str(value).encode() for value in values]
        bounds = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(text) for text in texts], out=bounds[1:])
        where, end = _write(memory, end, bounds)
        gaps, end = _write(memory, end, missing)
        content, end = _write(memory, end, np.frombuffer(b"".join(texts), np.uint8))
        placed.append(
            {"name": name, "kind": "text", "rows": len(texts), "at": where, "missing": gaps, "content": content}
        )
    return placed


def unpack(placed: list[dict[str, Any]], memory: Any) -> dict[str, Any]:
    """The columns that `pack` wrote, as copies.

    Raises:
        ValueError: a place lies outside of the memory, or holds something else than said.
    """
    arrays: dict[str, Any] = {}
    for column in placed:
        rows, kind = int(column["rows"]), str(column["kind"])
        if kind == "text":
            bounds = _read(memory, column["at"], rows + 1, np.dtype(np.int64))
            if bounds[0] != 0 or (np.diff(bounds) < 0).any():
                raise ValueError("the text of a column is not where it was said to be")
            missing = _read(memory, column["missing"], rows, np.dtype(bool)).tolist()
            content = _read(memory, column["content"], int(bounds[-1]), np.dtype(np.uint8)).tobytes()
            ends = bounds.tolist()
            texts = [None if missing[row] else content[ends[row] : ends[row + 1]].decode() for row in range(rows)]
            made = np.empty(rows, dtype=object)
            made[:] = texts
            arrays[column["name"]] = made
        elif kind == "bool?":
            bits = _read(memory, column["at"], rows, np.dtype(bool)).tolist()
            missing = _read(memory, column["missing"], rows, np.dtype(bool)).tolist()
            made = np.empty(rows, dtype=object)
            made[:] = [None if gap else bit for bit, gap in zip(bits, missing)]  # noqa: B905 - runs on any Python
            arrays[column["name"]] = made
        else:
            dtype = np.dtype(kind)
            if dtype.kind not in _PLAIN:
                raise ValueError(f"a column has the type {kind!r}, which is not carried")
            arrays[column["name"]] = _read(memory, column["at"], rows, dtype)
    return arrays


def _write(memory: Any, end: int, values: Any) -> tuple[int, int]:
    where = -(-end // ALIGNED) * ALIGNED
    stop = where + values.nbytes
    if stop > len(memory):
        raise ValueError(f"the columns take more than {len(memory)} bytes")
    memory[where:stop] = values.tobytes()
    return where, stop


def _read(memory: Any, where: int, count: int, dtype: Any) -> Any:
    stop = where + count * dtype.itemsize
    if not 0 <= where <= stop <= len(memory):
        raise ValueError("a column lies outside of the shared memory")
    return np.frombuffer(memory[where:stop], dtype=dtype).copy()
