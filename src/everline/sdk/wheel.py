"""Everline as it is installed here, as one wheel: what wrote a bundle is what serves it, wherever that is."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from importlib import metadata
from pathlib import Path

import everline
from everline.errors import EverlineError

_WRITTEN_AT = (1980, 1, 1, 0, 0, 0)
_WHEEL = "Wheel-Version: 1.0\nGenerator: everline\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_KEPT = ("METADATA", "entry_points.txt")


def file_name() -> str:
    """The wheel's name, as installers expect it."""
    return f"everline-{everline.__version__}-py3-none-any.whl"


def build() -> bytes:
    """The wheel; equal installations give equal bytes.

    Source: PyPA, "Binary distribution format" (version 1.0) and "Recording installed projects".

    Raises:
        EverlineError: this Everline was not installed, but run from a folder of sources.
    """
    root = Path(everline.__file__).parent
    files = {
        f"everline/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts
    }
    info = f"everline-{everline.__version__}.dist-info"
    for name in _KEPT:
        files[f"{info}/{name}"] = _installed(name).encode()
    files[f"{info}/WHEEL"] = _WHEEL.encode()
    lines = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _WRITTEN_AT)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return target.getvalue()


def _installed(name: str) -> str:
    try:
        text = metadata.distribution("everline").read_text(name)
    except metadata.PackageNotFoundError:
        text = None
    if text is None:
        raise EverlineError(
            "Everline runs from a folder here and was not installed, so that no wheel can be made of it.",
            hint="Install it: `pip install everline`, or `pip install --editable .` in its sources.",
        )
    return text


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
