"""What the MLflow client wrote down of where a run came from: its tags, and the requirements of a model that it logged.

The client of MLflow 3 sets `mlflow.source.name` (the script as it was started), `mlflow.source.type`, and inside of a
Git repository `mlflow.source.git.commit`, `.branch` and `.repoURL`. Whether there were uncommitted changes it writes
only for the models of `mlflow.genai.enable_git_model_versioning`, as `mlflow.source.git.dirty` and `.diff`; a run may
have them from a person, or through MLFLOW_RUN_CONTEXT.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import yaml

from everline.access.unit_of_work import UnitOfWork
from everline.errors import EverlineError
from everline.models.types import LoggedModel
from everline.reproduction import results
from everline.reproduction.types import Cause, FirstDifference, Source
from everline.runs import artifacts
from everline.runs.types import TrackedRun

_NAME, _KIND = "mlflow.source.name", "mlflow.source.type"
_COMMIT, _BRANCH, _ADDRESS = (f"mlflow.source.git.{word}" for word in ("commit", "branch", "repoURL"))
_DIRTY, _DIFF = "mlflow.source.git.dirty", "mlflow.source.git.diff"
_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==\s*([A-Za-z0-9][A-Za-z0-9._+!-]*)\s*(?:[;#].*)?")
REQUIREMENTS_BYTES_MAX = 1 << 20


def read_source(uow: UnitOfWork, project: str, run: TrackedRun) -> Source | FirstDifference:
    """Where the code of a run lies that has no record of ours, or why nobody can know."""
    tags = run.tags
    script, commit = tags.get(_NAME, ""), tags.get(_COMMIT, "").lower()
    if not script or script.startswith("<"):
        return _missing("no script was recorded: there is no tag mlflow.source.name", run)
    if not commit:
        return _missing(f"{script} was recorded without a Git commit: there is no tag {_COMMIT}", run)
    if not _SHA.fullmatch(commit):
        return _missing(f"the tag {_COMMIT} is no commit: {commit[:80]!r}", run)
    models = results.models_of(uow, project, run.run)
    told = next((one.tags for one in models if _DIRTY in one.tags), {}) | tags
    model, requirements, python = _environment(uow, project, models)
    return Source(
        script=script,
        notebook=tags.get(_KIND) == "NOTEBOOK" or script.endswith(".ipynb"),
        commit=commit,
        branch=tags.get(_BRANCH),
        repository=tags.get(_ADDRESS),
        dirty=_truth(told.get(_DIRTY)),
        diff=told.get(_DIFF),
        requirements=requirements,
        python=python,
        model=model,
    )


def pins(text: str) -> tuple[str, ...]:
    """The exact versions of a requirements file, one `name==version` each, by normalised name.

    Example:
        >>> pins("scikit-learn==1.9.1\\nnumpy>=2  # a wish\\nNumPy == 2.4.6")
        ('numpy==2.4.6', 'scikit-learn==1.9.1')
    """
    found = {}
    for line in text.splitlines():
        match = _PIN.fullmatch(line.strip())
        if match:
            found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return tuple(f"{name}=={version}" for name, version in sorted(found.items()))


def _environment(
    uow: UnitOfWork, project: str, models: Sequence[LoggedModel]
) -> tuple[str | None, tuple[str, ...], str | None]:
    """Name, requirements and Python of the first model that says what it needs."""
    for model in models:
        if not artifacts.is_ours(model.artifact_uri):
            continue
        root = artifacts.proxy_path(model.artifact_uri)
        text = _text(uow, project, f"{root}/requirements.txt")
        if text is not None:
            return model.name, pins(text), _python(_text(uow, project, f"{root}/python_env.yaml") or "")
    return None, (), None


def _text(uow: UnitOfWork, project: str, path: str) -> str | None:
    try:
        found = artifacts.get_file(uow, project, path)
        if found.digest is None or (found.bytes or 0) > REQUIREMENTS_BYTES_MAX:
            return None
        return uow.blobs.get_bytes(found.digest).decode("utf-8", errors="replace")
    except EverlineError:
        return None


def _python(text: str) -> str | None:
    try:
        said = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return None
    version = said.get("python") if isinstance(said, Mapping) else None
    return str(version) if version is not None and re.fullmatch(r"\d+(\.\d+){0,2}", str(version)) else None


def _truth(value: str | None) -> bool | None:
    return None if value is None else value.strip().lower() in ("true", "1", "yes")


def _missing(why: str, run: TrackedRun) -> FirstDifference:
    hint = "start it inside of a Git repository with GitPython installed, or use everline.run(), which records the code"
    detail = f"Run {run.run} recorded no code and environment, and {why}; {hint}"
    return FirstDifference(step=None, cause=Cause.RECORD, detail=detail)
