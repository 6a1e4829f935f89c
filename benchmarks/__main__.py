"""`python -m benchmarks [NAME …]`: run one, several or all benchmarks; the name of a folder runs all in it."""

from __future__ import annotations

import importlib
import itertools
import os
import platform
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
_MAIN = re.compile(r"^def main\(\) -> None:", re.MULTILINE)


def names() -> list[str]:
    """The benchmarks there are: modules with a `main`."""
    files = (path for path in HERE.rglob("*.py") if _MAIN.search(path.read_text()))
    return sorted(".".join(path.relative_to(HERE).with_suffix("").parts) for path in files)


def within(name: str) -> list[str]:
    """The benchmarks that a name means: itself, or all of a folder."""
    return [one for one in names() if one == name or one.startswith(f"{name}.")]


def main(wanted: list[str]) -> int:
    """Run what is wanted, or everything."""
    unknown = [name for name in wanted if not within(name)]
    if unknown:
        print(f"There is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names())}.", file=sys.stderr)
        return 2
    print(f"Python {platform.python_version()}, {machine()}; times drift with the machine, ratios less.")
    for name in itertools.chain.from_iterable(map(within, wanted)) if wanted else names():
        module = importlib.import_module(f"benchmarks.{name}")
        print(f"\n## {name}: {(module.__doc__ or '').strip().splitlines()[0]}\n")
        module.main()
    return 0


def machine() -> str:
    """The machine in a line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    described = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in described if line.startswith("model name")]
    return f"{os.cpu_count()} cores ({models[0] if models else platform.machine()}), {memory:.0f} GiB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
