"""What runs in a model's own process: loads the model once, then answers calls until the other side is gone.

Started as a file by the model's own Python, which has numpy and what the model needs, and no Everline:

    python -I child.py SETUP

`SETUP` is JSON: descriptors of the socket and the memory, limits, where the model lies, what it answers. Calls and
answers are lines of JSON with a length before them; the columns themselves lie in the shared memory.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import mmap
import resource
import socket
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve one model."""
    setup = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    columns = _columns()
    memory = mmap.mmap(setup["memory_fd"], setup["memory_bytes"])
    line = socket.socket(fileno=setup["socket_fd"])
    try:
        # Before the model is loaded: what it takes then counts as well.
        resource.setrlimit(resource.RLIMIT_AS, (setup["address_bytes"], setup["address_bytes"]))
        ask = _loaded(setup)
    except BaseException as error:
        _send(line, {"ready": False, "error": _told(error)})
        return
    _send(line, {"ready": True})
    while (call := _receive(line)) is not None:
        try:
            arrays = columns.unpack(call["columns"], memory)
            answer = _as_columns(ask(arrays), setup["outputs"], call["rows"])
            _send(line, {"ok": True, "columns": columns.pack(answer, memory)})
        except MemoryError:
            _send(line, {"ok": False, "memory": True, "error": "it ran out of memory"})
        except Exception as error:
            _send(line, {"ok": False, "error": _told(error)})


def _loaded(setup: dict[str, Any]) -> Any:
    directory = Path(setup["directory"])
    if setup["kind"] == "function":
        sys.path.insert(0, str(directory / "code"))
        module, _, name = setup["entry"].partition(":")
        return getattr(importlib.import_module(module), name)
    pandas = importlib.import_module("pandas")
    model = importlib.import_module("mlflow.pyfunc").load_model(str(directory / setup["entry"]))
    return lambda arrays: model.predict(pandas.DataFrame(arrays))


def _as_columns(answer: Any, outputs: list[list[str]], rows: int) -> dict[str, Any]:
    """The answer as one column per output, of the type that the signature says; without one, as it comes."""
    import numpy as np  # noqa: PLC0415 - after the limits are set

    found = _named(answer, [name for name, _ in outputs], np)
    types = dict(outputs)
    if types and set(found) != set(types):
        raise ValueError(f"it answered with {', '.join(map(str, found))}, where {', '.join(types)} was expected")
    columns = {}
    for name, values in found.items():
        array = np.asarray(values)
        if array.shape != (rows,):
            raise ValueError(f"it answered {name!r} with the shape {array.shape} for {rows} rows")
        kind = types.get(name)
        if kind is not None:
            wanted = {"double": np.float64, "float": np.float32, "long": np.int64, "integer": np.int32, "boolean": bool}
            array = array.astype(wanted[kind]) if kind in wanted else array
        columns[str(name)] = array.astype(object) if array.dtype.kind in "USO" else array
    return columns


def _named(answer: Any, names: list[str], np: Any) -> dict[Any, Any]:
    if hasattr(answer, "columns") and hasattr(answer, "to_dict"):
        return {name: answer[name].to_numpy() for name in answer.columns}
    if isinstance(answer, dict):
        return answer
    array = np.asarray(answer)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 1:
        return {(names or ["prediction"])[0]: array}
    names = names or [f"prediction_{place}" for place in range(array.shape[1])]
    return {name: array[:, place] for place, name in enumerate(names)}


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def _columns() -> Any:
    spec = importlib.util.spec_from_file_location("_everline_columns", Path(__file__).with_name("columns.py"))
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def _send(line: socket.socket, said: dict[str, Any]) -> None:
    data = json.dumps(said).encode()
    line.sendall(len(data).to_bytes(4, "big") + data)


def _receive(line: socket.socket) -> Any:
    head = _exactly(line, 4)
    body = None if head is None else _exactly(line, int.from_bytes(head, "big"))
    return None if body is None else json.loads(body)


def _exactly(line: socket.socket, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        part = line.recv(count - len(data))
        if not part:
            return None
        data += part
    return data


if __name__ == "__main__":
    main()
