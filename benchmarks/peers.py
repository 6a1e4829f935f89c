"""Peers in environments of their own, under `.peers/`: built once from the package registry, never a part of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parent.parent / ".peers"
REQUIREMENTS = {"mlflow": "mlflow==3.18.0", "dvc": "dvc==3.67.1", "oxen": "oxenai==0.65.1"}


def python_of(peer: str) -> Path:
    """The Python that has the peer installed; the first call takes minutes."""
    python = PEERS / peer / "bin" / "python"
    if not python.exists():
        print(f"installing {REQUIREMENTS[peer]} into {PEERS / peer}, once …", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", PEERS / peer], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", REQUIREMENTS[peer]], check=True)
    return python
