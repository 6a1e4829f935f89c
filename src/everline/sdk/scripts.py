"""A script or notebook, done again: in a fresh folder, a process of its own, and with no way to change anything else.

A run of `everline.run()` has its code in its record. A run of the MLflow client names a commit and a script; it gets a
record by its rebuild, which can then be rebuilt in turn, up to the last level.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from everline.errors import EverlineError, InvalidInputError
from everline.loader import load
from everline.reproduction.failures import cause_of
from everline.reproduction.types import ARGUMENTS_TAG, Cause, Source
from everline.runs.capture import RunRecord, capture
from everline.runs.environment import REDACTED, Environment
from everline.runs.types import Run
from everline.runs.undeclared import UNDECLARED_TAG, merged, own_folders, peers, tag_of
from everline.runs.watching import Seen, injected, read_report
from everline.sdk.checkouts import check_out
from everline.sdk.client import Client
from everline.sdk.door import Door
from everline.sdk.git import CodeUnavailableError
from everline.sdk.looking import looking
from everline.sdk.processes import run_process

PARENT_TAG = "mlflow.parentRunId"
_ARGUMENTS_HINT = "the MLflow client records no arguments: give them after `--`"


class Failure(NamedTuple):
    """Why a script could not be done again, or not to its end."""

    detail: str
    cause: Cause


class Outcome(NamedTuple):
    """One repetition: the run that it left, if it did, and what went wrong, if anything did."""

    run: str | None
    failure: Failure | None = None


class Inside(NamedTuple):
    """A Python and the environment variables of its process."""

    python: str
    variables: dict[str, str]


class Script(NamedTuple):
    """What is done again.

    Attributes:
        record: what the run recorded, or None for one of the MLflow client, which has a `source`.
        arguments: those of the record, or given by hand in their place.
        given: whether they were.
        repository: where to look for the commit; None looks into what is here.
        over: a folder whose files replace those of the same path.
    """

    run: Run
    record: RunRecord | None
    source: Source | None
    arguments: tuple[str, ...]
    given: bool
    repository: str | None
    over: Path | None


def read_script(
    run: Run,
    *,
    record: RunRecord | None,
    source: Source | None,
    arguments: Sequence[str] | None,
    repository: str | None,
    over: Path | None,
) -> Script:
    """Put together what is to be done again.

    Args:
        arguments: of the script, in place of the recorded ones; None takes those.

    Raises:
        InvalidInputError: an argument was left out of the record because it looks like a secret.
    """
    recorded = record.argv if record is not None else ()
    if arguments is None and any(REDACTED in one for one in recorded):
        raise InvalidInputError(
            "An argument of the script was left out of the record, because it looks like a secret: "
            f"{' '.join(recorded)[:200]}",
            hint="Give all arguments again after `--`.",
        )
    return Script(
        run=run, record=record, source=source, repository=repository, over=over,
        arguments=tuple(recorded if arguments is None else arguments),
        given=arguments is not None and tuple(arguments) != recorded,
    )  # fmt: skip


def repeat(
    client: Client,
    script: Script,
    inside: Inside,
    *,
    materialise: Callable[..., None],
    timeout_s: float,
) -> Outcome:
    """Do a script again.

    Args:
        materialise: writes a code snapshot into a folder, as `ReproductionApi.materialise`.
    """
    with tempfile.TemporaryDirectory(prefix="everline-rebuild-") as name:
        root, beside = (Path(name).resolve() / part for part in ("project", "watch"))
        root.mkdir()
        beside.mkdir()
        try:
            path, folder = _materialise(script, root, materialise)
        except EverlineError as error:
            why = f"{error.message} {error.hint or ''}".strip()
            return Outcome(None, Failure(why, Cause.CODE if isinstance(error, CodeUnavailableError) else Cause.RECORD))
        with Door(client, reproduces=script.run.run) as door:
            variables = {**inside.variables, **door.variables, **_experiment(script)}
            record = _record(script, root, path, folder, inside, variables)
            declared = [str(root), *own_folders(client.settings.home)]
            watched, report = injected(str(beside), folders=declared, peers=peers(door.url))
            # First on the path, so that the process looks at itself before anything else runs in it.
            paths = [str(beside), variables.get("PYTHONPATH", "")]
            variables |= watched | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
            command = [inside.python, *_runner(path, beside), str(root / path), *script.arguments]
            if path.endswith(".ipynb"):
                variables |= {"JPY_SESSION_NAME": path, "IPYTHONDIR": str(beside / "ipython")}
            with looking(client, python=inside.python, root=root.parent, url=door.url) as look:
                failure = run_process(
                    command, folder=root / folder, variables=variables, timeout_s=timeout_s, supervisor=look.supervisor
                )
        made = _counterpart(client, script.run, door.made)
        if made is not None:
            _keep(client, made, record, script, merged(read_report(report), look.seen()))
        return Outcome(made.run if made is not None else None, _failure(failure, made, door, script))


def _runner(path: str, folder: Path) -> list[str]:
    """What runs a notebook's cells: a copy, so that no module of ours lies on its path; nothing for a script."""
    if not path.endswith(".ipynb"):
        return []
    target = folder / "run_cells.py"
    target.write_bytes(Path(str(load("everline.sdk.notebook_runner").__file__)).read_bytes())
    return [str(target)]


def _materialise(script: Script, root: Path, materialise: Callable[..., None]) -> tuple[str, str]:
    """Write the code; return the script's path and the folder it is started in, below the root."""
    if script.record is not None:
        materialise(script.record.code, root, over=script.over)
        return _entry(script.record), script.record.folder
    assert script.source is not None
    found = check_out(script.source, root, repository=script.repository, here=Path.cwd())
    if script.over is not None:
        for file in sorted(script.over.rglob("*")):
            if file.is_file():
                target = root / file.relative_to(script.over)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
    return found.script, found.folder


def _entry(record: RunRecord) -> str:
    """The path of a recorded script; older records have its name only."""
    names = [file.path for file in record.code.files]
    if record.entry in names:
        return record.entry
    found = [name for name in names if f"/{name}".endswith(f"/{record.entry}")]
    if len(found) != 1:
        raise CodeUnavailableError(
            f"The recorded code has no script {record.entry!r}, so it cannot be started.",
            hint="It lay outside of the project's folder, or was typed into a console; run a file inside of it.",
        )
    return found[0]


def _experiment(script: Script) -> dict[str, str]:
    """The experiment that a script of MLflow's logs to unless it says otherwise."""
    return {"MLFLOW_EXPERIMENT_ID": script.run.experiment_id, "MLFLOW_RUN_ID": ""}


def _record(script: Script, root: Path, path: str, folder: str, inside: Inside, variables: Mapping[str, str]) -> _Kept:
    """What a rebuild is recorded with that records nothing itself: its code as it is before it runs."""
    environment: Environment = load("everline.reproduction.environments").environment_of(inside.python, variables)
    captured = capture(root, path, script.arguments, folder=folder)
    return _Kept(msgspec.structs.replace(captured.record, environment=environment), captured.blobs)


class _Kept(NamedTuple):
    record: RunRecord
    blobs: dict[str, bytes]


def _counterpart(client: Client, original: Run, made: Sequence[str]) -> Run | None:
    """Of the runs that a script started, the one that stands for the recorded one: by parameters, never by results."""
    found: list[Run] = [client.runs.get(uid) for uid in made]
    if not found:
        return None

    def likeness(one: Run) -> tuple[bool, int, int]:
        equal = sum(one.params.get(name) == value for name, value in original.params.items())
        nested = (PARENT_TAG in one.tags) == (PARENT_TAG in original.tags)
        return nested, equal, -len(one.params.keys() - original.params.keys())

    return max(found, key=likeness)  # the first of equals


def _keep(client: Client, made: Run, kept: _Kept, script: Script, seen: Sequence[Seen]) -> None:
    if made.record is None:
        for content in kept.blobs.values():
            client.blobs.put_bytes(content)
        record = msgspec.structs.replace(kept.record, params=dict(made.params))
        client.runs.set_record(made.run, msgspec.to_builtins(record))
    tags = {UNDECLARED_TAG: "[]", **tag_of(seen)}
    if script.given:
        tags[ARGUMENTS_TAG] = str(len(script.arguments))
    client.runs.log_batch(made.run, tags=tags)


def _failure(failure: str | None, made: Run | None, door: Door, script: Script) -> Failure | None:
    if failure is not None:
        cause = cause_of(failure)
        hint = f" ({_ARGUMENTS_HINT})" if cause is Cause.PARAMETERS and script.source is not None else ""
        held = f" What was asked and not done: {'; '.join(door.refused[:3])}." if door.refused else ""
        return Failure(f"{failure}{hint}{held}", cause)
    if made is None:
        why = "it ended well, and started no run here: it names its own tracking server, or starts none any more"
        return Failure(why, Cause.RECORD)
    return None
