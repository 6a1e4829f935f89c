"""Virtual environments of steps: a few distributions in versions of their own, before those of the run."""

from __future__ import annotations

import os
import re
import site
import sys
import sysconfig
import venv
from pathlib import Path

from everline.canonical import canonical_digest
from everline.errors import InvalidInputError
from everline.pipelines.types import Environment
from everline.runs.uv import install, made_whole

LINES_MAX = 2_000
_PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[^\]]*\])?\s*==\s*[^\s;]+(\s*;.*)?(\s+--hash=\S+)*")


def lines_of(environment: Environment, root: Path) -> tuple[str, ...]:
    """The requirements, one distribution a line, in order.

    Args:
        root: the project's folder, in which the file lies.

    Raises:
        InvalidInputError: the file is not there, or a line does not pin a version.
    """
    text = "\n".join(environment.requirements)
    if environment.file is not None:
        path = (root / environment.file).resolve()
        if not path.is_relative_to(root.resolve()) or not path.is_file():
            raise InvalidInputError(
                f"The requirements file {environment.file!r} of a step is not in the project.", field="environment"
            )
        text += "\n" + path.read_text()
    joined = text.replace("\\\n", " ")
    told = (" ".join(line.split()) for line in joined.splitlines())
    lines = tuple(sorted(line for line in told if line and line[0] != "#"))
    for line in lines:
        if not _PINNED.fullmatch(line):
            raise InvalidInputError(
                f"The environment of a step has the line {line[:120]!r}, which pins no version.",
                hint="Write `name==version`; `uv pip compile` makes such files.",
                field="environment",
            )
    if not 1 <= len(lines) <= LINES_MAX:
        raise InvalidInputError(
            f"The environment of a step has {len(lines)} distributions; 1 to {LINES_MAX} are possible.",
            field="environment",
        )
    return lines


def digest_of(lines: tuple[str, ...], *, run: str) -> str:
    """What a step in such an environment depends on.

    Args:
        run: digest of the run's environment, whose distributions are there too.
    """
    return canonical_digest({"own": list(lines), "run": run})


def make(lines: tuple[str, ...], *, home: Path) -> Path:
    """The Python of the environment, which is made if it is not there; seen by others only when it is whole.

    Raises:
        EnvironmentUnavailableError: uv is missing, or could not install a line.
    """
    name = canonical_digest({"own": list(lines), "python": sys.version, "prefix": sys.prefix}).removeprefix("sha256:")
    target = home / "environments" / name[:32]
    python = target / "bin" / "python"

    def make_in(folder: Path) -> None:
        venv.create(folder, symlinks=os.name != "nt", with_pip=False)
        install("\n".join(lines) + "\n", folder, python=folder / "bin" / "python")
        # Behind its own: a folder in a .pth file comes after the environment's own in the search path.
        (_site_of(folder) / "of-the-run.pth").write_text("\n".join(_folders_of_the_run()) + "\n")

    made_whole(target, make_in)
    return python


def project_path(path: list[str]) -> list[str]:
    """The part of a search path that is no library: where a project's own modules lie."""
    libraries = {*_folders_of_the_run(), *(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib"))}
    known = {str(Path(one).resolve()) for one in libraries}
    return [
        one
        for one in path
        if str(Path(one or ".").resolve()) not in known and not one.endswith((".zip", "lib-dynload"))
    ]


def _site_of(directory: Path) -> Path:
    return next((directory / "lib").glob("python*/site-packages"))


def _folders_of_the_run() -> list[str]:
    found = [one for one in site.getsitepackages() if Path(one).is_dir()]
    found += [str(Path(one)) for one in sys.path if one.endswith(("site-packages", "dist-packages"))]
    own = str(Path(__file__).parents[2])
    return list(dict.fromkeys([*found, own]))
