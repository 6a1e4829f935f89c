"""The one place where ONNX Runtime is imported and its sessions are made: on one thread, and silent.

Its wheels report to their maker unless told otherwise before they are imported, and write an identifier of the
machine into the user's home for that. Nothing that is served here is anybody else's business.
"""

from __future__ import annotations

import os
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime  # after the switch, which is read when it is imported

VERSION: str = onnxruntime.__version__


def session_of(content: bytes) -> Any:
    """A session for a model.

    Raises:
        Exception: of ONNX Runtime's own kinds; the content is no model that it can run.
    """
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
