"""The data plane starts light: no database, no server, and no framework before a package needs it."""

from __future__ import annotations

import subprocess
import sys

FORBIDDEN = [
    *("sqlalchemy", "alembic", "starlette", "everline.server", "everline.storage", "everline.access"),
    *("sklearn", "skops", "pandas", "scipy", "pyarrow", "polars", "opentelemetry", "grpc"),
]


def test_the_data_plane_imports_no_database_no_server_and_no_framework() -> None:
    code = (
        "import sys, everline.cli.serve, everline.serving.dataplane.process, everline.bundles.serving\n"
        f"print([name for name in {FORBIDDEN!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


def test_the_shipper_imports_no_database_and_no_server() -> None:
    code = (
        "import sys, everline.serving.dataplane.log.shipper\n"
        f"print([name for name in {FORBIDDEN[:6]!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
