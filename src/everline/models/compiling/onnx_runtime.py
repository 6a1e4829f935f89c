"""The runtime `onnx`: a compiled model in ONNX Runtime, on one thread, in chunks of at most 128 rows.

Its tree operator slows down beyond that number; chunks change no bit, for each row is summed by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from everline.errors import IntegrityError
from everline.models.compiling.onnx_door import session_of
from everline.models.compiling.plan import Encoder, Link, Plan
from everline.models.signature import Array

ROWS_AT_ONCE = 128
PLAN_KEY = "everline.plan"


class OnnxModel:
    """A compiled model in memory."""

    rows_alone = False

    def __init__(self, path: Path) -> None:
        """Read a compiled model.

        Raises:
            IntegrityError: the file is no compiled model.
        """
        try:
            session = session_of(path.read_bytes())
            plan = msgspec.json.decode(session.get_modelmeta().custom_metadata_map[PLAN_KEY], type=Plan)
            self._run: Any = session.run
            self._encoder = Encoder(plan)
            self._link = Link(plan)
            # One row now: what is only imported or allocated at a first answer must not delay that one.
            self._link.outputs(self._run(None, {"X": np.zeros((1, len(plan.columns)), self._encoder.dtype)})[0])
        except Exception as error:  # ONNX Runtime has errors of its own for each kind of damage
            raise IntegrityError(f"The compiled model {path.name} cannot be read: {str(error)[:300]}.") from error

    def predict(self, arrays: Mapping[str, Array], *, rows: int) -> dict[str, Array]:
        """Answer all rows; the same bits in a batch of any size."""
        return self._link.outputs(self.scores(arrays, rows=rows))

    def matrix(self, arrays: Mapping[str, Array], *, rows: int) -> Array:
        """The columns that the arithmetic takes, shape (rows, columns)."""
        return self._encoder.matrix(arrays, rows=rows)

    def scores(self, arrays: Mapping[str, Array], *, rows: int) -> Array:
        """The scores before the link, shape (rows, outputs)."""
        matrix = self.matrix(arrays, rows=rows)
        if rows <= ROWS_AT_ONCE:
            found: Array = self._run(None, {"X": matrix})[0]
            return found
        parts = [
            self._run(None, {"X": matrix[start : start + ROWS_AT_ONCE]})[0] for start in range(0, rows, ROWS_AT_ONCE)
        ]
        return np.concatenate(parts)
