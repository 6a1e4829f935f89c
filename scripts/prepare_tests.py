"""See that the suite's two outside programs are there: PostgreSQL and Chromium. Install them, or say how."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from tests_support import chromium, postgres

WANTED = {
    "postgresql": lambda: bool(os.environ.get("EVERLINE_TEST_POSTGRES_URL")) or postgres.find_binaries() is not None,
    "chromium": lambda: chromium.find_executable() is not None,
}


def main() -> int:
    missing = [package for package, present in WANTED.items() if not present()]
    if not missing:
        return 0
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {', '.join(missing)} …", flush=True)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        quiet = {"env": environment, "stdout": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update", "-qq"], **quiet)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], **quiet)
        missing = [package for package, present in WANTED.items() if not present()]
    if missing:
        print(
            f"The suite needs {' and '.join(missing)}, and may not install it here. On Debian or Ubuntu:\n"
            f"    sudo apt-get install --no-install-recommends {' '.join(missing)}\n"
            "A PostgreSQL server that runs already can be named instead: "
            "EVERLINE_TEST_POSTGRES_URL=postgresql://user:password@host:port/postgres\n"
            "A Chromium elsewhere: EVERLINE_TEST_CHROMIUM=/path/to/chromium",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
