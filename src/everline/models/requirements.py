"""The exact versions that a model needs: a lock of the installed environment, as far as a framework reaches."""

from __future__ import annotations

import re
from importlib import metadata

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r";.*\bextra\s*==")
_DEPTH_MAX = 1000


def pinned_requirements(*roots: str) -> str:
    """Return `requirements.txt` for the named distributions and all that they need, as installed here.

    Args:
        roots: distribution names; those that are not installed are left out.

    Returns:
        Lines `name==version`, sorted; the same environment always gives the same text.
    """
    found: dict[str, str] = {}
    waiting = list(roots)
    while waiting and len(found) < _DEPTH_MAX:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[name] = distribution.version
        for line in distribution.requires or ():
            match = _NAME.match(line)
            # A dependency that an environment marker rules out is simply not installed.
            if match and not _EXTRA.search(line):
                waiting.append(match.group())
    return "".join(f"{name}=={version}\n" for name, version in sorted(found.items()))
