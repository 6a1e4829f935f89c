"""The digest of a file by what it says: without the moment, the place and the addresses in memory of its making.

content_digest("model/MLmodel", data)     equal for two runs that logged the same model

A zip archive counts by the names and contents of its members, a gzip file without its time stamp, an MLflow model
description without the identifiers of its run. In a model of skops, files and shared objects are named by their
address in memory: here files are named by content, and objects by the order in which they come.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import yaml

from everline.ids import digest_bytes

MEMBERS_BYTES_MAX = 1 << 30
"""An archive that unpacks to more than this counts byte for byte."""
_ZIP, _GZIP = b"PK\x03\x04", b"\x1f\x8b"
_GZIP_TIME = slice(4, 8)
# What MLflow writes about the occasion, not about the model. The size is that of files which are compared themselves.
_OF_THE_OCCASION = frozenset(
    {"run_id", "model_id", "model_uuid", "utc_time_created", "artifact_path", "model_size_bytes"}
)


def is_plain(path: str, head: bytes) -> bool:
    """Whether a file counts byte for byte, seen from its name and its first four bytes."""
    return path.rpartition("/")[2] != "MLmodel" and not head.startswith((_ZIP, _GZIP))


def content_digest(path: str, data: bytes) -> str:
    """The digest of a file's content; of what cannot be read as its name says, that of its bytes.

    Args:
        path: its name; only the last part counts.
    """
    if path.rpartition("/")[2] == "MLmodel":
        return _description(data)
    if data.startswith(_ZIP):
        return _archive(data)
    if data.startswith(_GZIP):
        changed = bytearray(data)
        changed[_GZIP_TIME] = bytes(4)
        return digest_bytes(bytes(changed))
    return digest_bytes(data)


def _description(data: bytes) -> str:
    try:
        said = yaml.safe_load(data)
        if isinstance(said, dict):
            return _digest({str(key): _placeless(value) for key, value in said.items() if key not in _OF_THE_OCCASION})
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        pass
    return digest_bytes(data)


def _placeless(node: Any) -> Any:
    """A part of a description without the places that a model's files were once copied from."""
    if isinstance(node, list):
        return [_placeless(child) for child in node]
    if not isinstance(node, dict):
        return node
    from_elsewhere = isinstance(node.get("path"), str) and isinstance(node.get("uri"), str)
    return {str(key): _placeless(value) for key, value in node.items() if not (from_elsewhere and key == "uri")}


def _archive(data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as source:
            members = source.infolist()
            if sum(one.file_size for one in members) > MEMBERS_BYTES_MAX or any(one.flag_bits & 1 for one in members):
                return digest_bytes(data)
            contents = {one.filename: source.read(one) for one in members if not one.is_dir()}
        schema = json.loads(contents["schema.json"]) if "schema.json" in contents else None
        if isinstance(schema, dict) and "__loader__" in schema:
            return _digest(_skops(schema, contents, {}))
    # zipfile has a NotImplementedError for compressions that it does not know.
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, NotImplementedError, OSError, RecursionError):
        return digest_bytes(data)
    return _digest({name: digest_bytes(content) for name, content in contents.items()})


def _skops(node: Any, contents: Mapping[str, bytes], seen: dict[Any, int]) -> Any:
    """A description of skops with numbers for addresses, and digests for names of files."""
    if isinstance(node, list):
        return [_skops(child, contents, seen) for child in node]
    if not isinstance(node, dict):
        return node if not isinstance(node, float) else repr(node)
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key == "__id__":
            found[key] = seen.setdefault(value, len(seen))
        elif key == "file" and isinstance(value, str) and value in contents:
            found[key] = digest_bytes(contents[value])
        else:
            found[key] = _skops(value, contents, seen)
    return found


def _digest(value: Any) -> str:
    return digest_bytes(json.dumps(value, sort_keys=True, default=str).encode())
