"""Peers in environments of their own, under `.peers/`: built once from the package registry, never a part of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parent.parent / ".peers"
TABLES = "numpy==2.4.6 pandas==3.1.1 pyarrow==26.0.1"
MODELS = "scikit-learn==1.9.1 numpy==2.4.6 pandas==3.1.1 xgboost==3.2.0 joblib==1.6.0"
REQUIREMENTS = {
    "mlflow": "mlflow==3.18.0",
    "dvc": "dvc==3.67.1",
    "oxen": "oxenai==0.65.1",
    "prefect": f"prefect==3.9.1 fastapi<0.165 {TABLES}",  # it crashes on newer ones of FastAPI
    "dagster": f"dagster==1.13.28 {TABLES}",
    "metaflow": f"metaflow==2.19.39 {TABLES}",
    "kedro": f"kedro==1.7.0 kedro-datasets==9.6.0 {TABLES}",
    "zenml": f"zenml[local]==0.98.0 {TABLES}",
    "ray": f"ray==2.60.0 {TABLES}",
    "dbos": f"dbos==3.4.0 {TABLES}",
    "fastapi": f"fastapi==0.165.0 uvicorn[standard]==0.54.0 onnxruntime==1.32.0 skl2onnx==1.20.0 protobuf<7 {MODELS}",
    "litserve": f"litserve==0.2.19 {MODELS}",
    "bentoml": f"bentoml==1.4.40 {MODELS}",
    "mlserver": f"mlserver==1.7.1 {MODELS}",
    # Drift tools, each with what it needs and does not say: pandas 2, statsmodels.
    "evidently": "evidently==0.7.23 pandas<3 pyarrow",
    "nannyml": "nannyml==0.13.1 statsmodels pandas<3 pyarrow",
    "whylogs": "whylogs==1.6.4 numpy<2 pandas<3 pyarrow",
    "alibi-detect": "alibi-detect==0.13.0 numpy<2 pandas<3 pyarrow",
    "rayserve": f"ray[serve]==2.60.0 {MODELS}",
}


def python_of(peer: str) -> Path:
    """The Python that has the peer installed; the first call takes minutes."""
    python = PEERS / peer / "bin" / "python"
    if not python.exists():
        print(f"installing {REQUIREMENTS[peer]} into {PEERS / peer}, once …", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", PEERS / peer], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS[peer].split()], check=True)
    return python
