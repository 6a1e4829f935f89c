"""Make `.peers/mlflow`: MLflow's genuine server in an environment of its own, for `make conformance` and `make bench`.

The wheel `mlflow` holds the whole of MLflow; `mlflow-skinny` and `mlflow-tracing` repeat parts of it and are
released at times of their own, so what they need is named here and the wheel goes in alone.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

MLFLOW = "mlflow==3.18.0"
NEEDS = """
    Flask-CORS<7 Flask<4 aiohttp<4 alembic<2 anyio!=4.15.0,<5 cachetools<8 click<9 cloudpickle<4 cryptography<51
    databricks-sdk<1 docker<8 fastapi<1 gitpython<4 graphene<4 gunicorn<27 huey<4 importlib_metadata<10
    matplotlib<4 numpy<3 opentelemetry-api<3 opentelemetry-proto<3 opentelemetry-sdk<3 packaging<27 pandas<4
    protobuf<8 pyarrow<27 pydantic<3 python-dotenv<2 pyyaml<7 requests<3 scikit-learn<2 scipy<2 skops<1
    sqlalchemy<3 sqlparse<1 starlette<2 typing-extensions<5 uvicorn<1
"""


def main(target: Path) -> int:
    if not (target / "bin" / "python").exists():
        venv.create(target, with_pip=True)
    pip = [str(target / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    for what in (NEEDS.split(), ["--no-deps", MLFLOW]):
        code = subprocess.run([*pip, *what]).returncode
        if code != 0:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".peers/mlflow")))
