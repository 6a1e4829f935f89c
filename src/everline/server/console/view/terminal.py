"""What programs print for a terminal, as plain text: no colours, no moves of the cursor, no half-drawn bars.

`static/js/output.js` does the same to what arrives later.
"""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\|\Z)"  # titles and links, up to their end
    r"|\x1b\[[0-?]*[ -/]*(?:[@-~]|\Z)"  # colours and moves
    r"|\x1b[PX^_].*?(?:\x1b\\|\Z)"  # strings to the terminal itself
    r"|\x1b[ -/]*[0-~]?",
    re.DOTALL,
)
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """The text as it would stand on a terminal at the end; a line that is drawn again shows its last state.

    Example:
        >>> plain("\\x1b[31mred\\x1b[0m 10 %\\rred 90 %\\n")
        'red 90 %\\n'
    """
    text = _CONTROLS.sub("", _ESCAPES.sub("", text)).replace("\r\n", "\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
