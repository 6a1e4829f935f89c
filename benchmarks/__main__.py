"""`python -m benchmarks [NAME …]`: run one, several or all benchmarks."""

from __future__ import annotations

import importlib
import pkgutil
import platform
import sys
from pathlib import Path

HERE = Path(__file__).parent


def names() -> list[str]:
    """The benchmarks there are."""
    found = [module for module in pkgutil.walk_packages([str(HERE)], prefix="benchmarks.") if not module.ispkg]
    inside = {module.name.removeprefix("benchmarks.") for module in found}
    return sorted(inside - {"timing", "__main__"})


def main(wanted: list[str]) -> int:
    """Run what is wanted, or everything."""
    unknown = set(wanted) - set(names())
    if unknown:
        print(f"There is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names())}.", file=sys.stderr)
        return 2
    print(f"Python {platform.python_version()}, {platform.machine()}; times drift with the machine, ratios less.")
    for name in wanted or names():
        module = importlib.import_module(f"benchmarks.{name}")
        print(f"\n## {name}: {(module.__doc__ or '').strip().splitlines()[0]}\n")
        module.main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
