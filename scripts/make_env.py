"""Make a virtual environment, or say exactly what is missing; needs nothing but a Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NEEDED = (3, 11)


def main(target: str) -> int:
    if sys.version_info < NEEDED:
        print(
            f"Everline needs Python {NEEDED[0]}.{NEEDED[1]} or newer; {sys.executable} is {sys.version.split()[0]}.\n"
            "Name another one: make PYTHON=python3.12 …",
            file=sys.stderr,
        )
        return 1
    if not _create(target) and not (_install_venv_package() and _create(target)):
        print(
            "Python cannot make virtual environments here: its `ensurepip` is missing.\n"
            f"On Debian or Ubuntu: apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-venv",
            file=sys.stderr,
        )
        return 1
    python = str(Path(target) / "bin" / "python")
    # Dependency groups need pip 25.1; the one that ships with Python 3.11 is older.
    return subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25.1"]).returncode


def _create(target: str) -> bool:
    return subprocess.run([sys.executable, "-m", "venv", "--clear", target], stderr=subprocess.DEVNULL).returncode == 0


def _install_venv_package() -> bool:
    """Debian splits `venv` off; install it where we may."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=environment)
    return subprocess.run(["apt-get", "install", "-y", "-qq", package], env=environment).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
