"""The exact versions that a model needs: a lock of the installed environment, as far as a framework reaches."""

from __future__ import annotations

import re
from importlib import metadata

REQUIREMENTS_FILE = "requirements.txt"
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
    return "".join(f"{name}=={version}\n" for name, version in sorted(installed_closure(*roots).items()))


def installed_closure(*roots: str) -> dict[str, str]:
    """The installed versions of the named distributions and of all that they need, by normalised name."""
    found: dict[str, str] = {}
    waiting = list(roots)
    while waiting and len(found) < _DEPTH_MAX:
        name = normalised(waiting.pop())
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
    return found


def parse_requirements(text: str) -> dict[str, str]:
    """The pins of such a text, by normalised name.

    Example:
        >>> parse_requirements("numpy==2.4.6\\nscikit_learn==1.9.1\\n")
        {'numpy': '2.4.6', 'scikit-learn': '1.9.1'}
    """
    pairs = (line.partition("==") for line in text.splitlines())
    return {normalised(name.strip()): version.strip() for name, equals, version in pairs if equals}


def normalised(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
