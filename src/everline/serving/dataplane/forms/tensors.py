"""The binary tensor extension of the Open Inference Protocol: values behind the JSON, as they lie in memory.

Little endian, row-major; text as length (32 bits) and bytes, one after the other.
Source: https://github.com/kserve/open-inference-protocol (specification/protocol/binary_data_extension, as in
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html)
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from everline.errors import InvalidInputError
from everline.ids import whole_number
from everline.loader import late
from everline.models.signature import Array, ColumnType
from everline.serving.dataplane.http.messages import Request

if TYPE_CHECKING:
    import numpy as np
else:
    np = late("numpy")

HEADER = b"inference-header-content-length"
_LENGTH = struct.Struct("<I")
_DTYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_OUTPUT_DTYPES = {
    ColumnType.BOOLEAN: "?",
    ColumnType.INTEGER: "<i4",
    ColumnType.LONG: "<i8",
    ColumnType.FLOAT: "<f4",
    ColumnType.DOUBLE: "<f8",
}


class Raw:
    """The bytes behind the JSON, taken in the order of the inputs."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def take(self, name: str, datatype: str, size: Any, *, expected: int) -> Array | list[Any]:
        """The next tensor's values.

        Args:
            size: its bytes, as the request says.
            expected: its values, as its shape says.

        Raises:
            InvalidInputError: the bytes are not there, or are not so many values.
        """
        if type(size) is not int or size < 0 or self._position + size > len(self._data):
            raise InvalidInputError(
                f"The input {name!r} says that it has {str(size)[:20]} bytes; "
                f"{len(self._data) - self._position} are left behind the JSON.",
                hint="binary_data_size is the number of the tensor's bytes, in the order of the inputs.",
                field=name,
            )
        data = self._data[self._position : self._position + size]
        self._position += size
        if datatype == "BYTES":
            return _texts(name, data, expected=expected)
        dtype = np.dtype(_DTYPES[datatype])
        if size != expected * dtype.itemsize:
            raise InvalidInputError(
                f"The input {name!r} has {size} bytes, where {expected} values of {datatype} take "
                f"{expected * dtype.itemsize}.",
                hint="The product of the shape is the number of values.",
                field=name,
            )
        if datatype == "BOOL":
            return [value != 0 for value in data]
        return np.frombuffer(data, dtype)

    def finished(self) -> None:
        """Make sure that nothing is left.

        Raises:
            InvalidInputError: there are bytes that belong to no input.
        """
        if self._position != len(self._data):
            raise InvalidInputError(
                f"{len(self._data) - self._position} bytes behind the JSON belong to no input.",
                hint="Give each input that is sent in binary its binary_data_size.",
                field=HEADER.decode(),
            )


def split(request: Request) -> tuple[memoryview | bytes, Raw]:
    """The JSON of a request, and what lies behind it.

    Raises:
        InvalidInputError: the header that says where the JSON ends does not fit.
    """
    announced = request.header(HEADER)
    if announced is None:
        return request.body, Raw(memoryview(b""))
    length = whole_number(announced)
    if length is None or length > len(request.body):
        raise InvalidInputError(
            f"{HEADER.decode()} is {announced[:20]!r}; the body has {len(request.body)} bytes.",
            hint="It is the number of bytes of the JSON at the body's start, counted before any compression.",
            field=HEADER.decode(),
        )
    whole = memoryview(request.body)
    return whole[:length], Raw(whole[length:])


def encode(values: Array, kind: ColumnType) -> bytes:
    """An output's values as a binary tensor."""
    dtype = _OUTPUT_DTYPES.get(kind)
    if dtype is not None:
        return bytes(np.ascontiguousarray(values, dtype=dtype).tobytes())
    parts: list[bytes] = []
    for value in values.tolist():
        text = str(value).encode()
        parts += (_LENGTH.pack(len(text)), text)
    return b"".join(parts)


def _texts(name: str, data: memoryview, *, expected: int) -> list[Any]:
    texts: list[Any] = []
    position = 0
    try:
        while position < len(data) and len(texts) <= expected:
            (length,) = _LENGTH.unpack_from(data, position)
            position += 4 + length
            if position > len(data):
                break
            texts.append(str(data[position - length : position], "utf-8"))
    except (struct.error, UnicodeDecodeError):
        position = -1
    if position != len(data) or len(texts) != expected:
        raise InvalidInputError(
            f"The input {name!r} does not hold {expected} texts.",
            hint="Each is its length (32 bits, little endian) and so many bytes of UTF-8.",
            field=name,
        )
    return texts
