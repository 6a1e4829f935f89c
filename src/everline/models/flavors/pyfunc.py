"""MLflow models of any flavor: the folder goes into the package as it is, and runs only in a process of its own.

Most of them hold pickles. Such a package is built only if its maker says that they trust them, and loaded only where
pickles are allowed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from everline.errors import InvalidInputError
from everline.models.flavors.isolated import (
    check_pickles,
    check_written,
    compilable,
    from_files,
    load_model,
    to_files,
    write_isolated,
)
from everline.models.isolated.pickles import pickled_files
from everline.models.isolated.process import Limits
from everline.models.requirements import REQUIREMENTS_FILE, installed_closure, normalised
from everline.models.signature import Signature

__all__ = [
    "MlflowModel", "check_pickles", "check_written", "compilable", "from_files", "load_model", "to_files",
    "write_model",
]  # fmt: skip

FOLDER = "mlflow"
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?:==\s*([^\s;]+))?")


@dataclass(frozen=True)
class MlflowModel:
    """A folder that MLflow wrote.

    Attributes:
        path: where `MLmodel` lies.
        trust_pickle: whether pickles in it may be loaded, here and where the package will run.
    """

    path: Path
    trust_pickle: bool = False
    limits: Limits = field(default_factory=Limits)


def write_model(
    model: Any, signature: Signature, *, directory: Path, metadata: Mapping[str, Any], probe: Signature
) -> tuple[Signature, dict[str, Any]]:
    """Copy the folder and write what goes with it; return the whole signature and the flavor's facts.

    Raises:
        InvalidInputError: it is no MLflow model with a Python function, holds pickles that nobody trusts, or needs
            versions that are not installed here.
    """
    wanted = model if isinstance(model, MlflowModel) else MlflowModel(Path(model))
    try:
        said = yaml.safe_load((wanted.path / "MLmodel").read_text())
        loader = said["flavors"]["python_function"]["loader_module"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"{wanted.path} is no MLflow model that answers as a Python function.",
            hint="Give a folder that `mlflow.….save_model` wrote.",
            field="model",
        ) from error
    pickles = pickled_files(wanted.path)
    if pickles and not wanted.trust_pickle:
        raise InvalidInputError(
            f"The MLflow model holds pickles, which run whatever their author put in there: {', '.join(pickles[:5])}.",
            hint="If you trust who logged it, say so: MlflowModel(path, trust_pickle=True).",
            field="model",
        )
    shutil.copytree(wanted.path, directory / FOLDER, ignore=shutil.ignore_patterns("__pycache__"))
    return write_isolated(
        signature,
        directory=directory,
        probe=probe,
        kind="pyfunc",
        entry=FOLDER,
        needs=_needs(wanted.path),
        limits=wanted.limits,
        flavors={"everline_pyfunc": {"data": FOLDER, "loader_module": str(loader)}},
    )


def _needs(path: Path) -> tuple[str, ...]:
    """The distributions that the model says it needs, in the versions that it says."""
    listed = path / REQUIREMENTS_FILE
    found = {"pandas", "numpy"}
    missing = []
    for line in listed.read_text().splitlines() if listed.exists() else ():
        match = _NAME.match(line.partition("#")[0])
        if match is None:
            continue
        name, version = normalised(match[1]), match[2]
        here = installed_closure(name).get(name)
        if here is None and name == "mlflow":  # the client alone is the same code, of one version
            name, here = "mlflow-skinny", installed_closure("mlflow-skinny").get("mlflow-skinny")
        if here is None or (version is not None and here != version):
            missing.append(line.strip())
        found.add(name)
    if missing:
        raise InvalidInputError(
            f"The MLflow model needs what is not installed here: {', '.join(missing[:5])}.",
            hint=f"Package it in its own environment: pip install -r {listed}",
            field="model",
        )
    skinny = installed_closure("mlflow-skinny")
    return (*sorted(found), *(("mlflow-skinny",) if skinny else ("mlflow",)))
