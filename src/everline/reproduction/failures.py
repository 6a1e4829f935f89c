"""What a repetition's failure was about, from its last words."""

from __future__ import annotations

from everline.reproduction.types import Cause

_INPUT_GONE = ("FileNotFoundError", "ConnectionError", "ConnectError", "URLError", "gaierror", "PermissionError")
_NOT_INSTALLED = ("ModuleNotFoundError", "ImportError", "PackageNotFoundError")
_ACCELERATOR = ("no nvidia driver", "torch not compiled with cuda", "no cuda gpus", "cuda error", "no gpu", "cudnn",
                "cudaerror", "hip error", "no visible device")  # fmt: skip
_ARGUMENTS = ("the following arguments are required", "unrecognized arguments", "usage:", "missing argument",
              "missing option", "sys.argv")  # fmt: skip


def cause_of(failure: str) -> Cause:
    """The class of a script's failure, from the last words that it said."""
    lines = [line.strip() for line in failure.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    said = failure.lower()
    found = cause_of_error(last.partition(":")[0], last)
    if found is not None:
        return found
    if any(word in said for word in _ARGUMENTS):
        return Cause.PARAMETERS
    return Cause.RECORD


def cause_of_error(kind: str, message: str) -> Cause | None:
    """The class of an error by its type and message, or None if they do not tell.

    Example:
        >>> cause_of_error("RuntimeError", "No CUDA GPUs are available")
        <Cause.HARDWARE: 'hardware'>
    """
    kind = kind.strip().rpartition(".")[2]
    if any(word in message.lower() for word in _ACCELERATOR):
        return Cause.HARDWARE
    if kind in _NOT_INSTALLED:
        return Cause.ENVIRONMENT
    if kind in _INPUT_GONE or kind.endswith("ConnectionError"):
        return Cause.HIDDEN_INPUT
    return None
