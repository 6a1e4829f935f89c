"""What a run recorded by itself: its code, file by file, and its environment, package by package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from everline.errors import EverlineError, NotFoundError
from everline.runs import service
from everline.runs.types import TrackedRun
from everline.runs.undeclared import warnings_of
from everline.server.console import pages
from everline.server.console.run import frame
from everline.server.console.view import preview, render
from everline.server.http import Request, begin

routes = pages.console_routes()
FILES_SHOWN = 300
DIFF = "uncommitted changes"
_SOURCE_TAGS = {
    "Source": "mlflow.source.name",
    "Entry point": "mlflow.project.entryPoint",
    "Commit": "mlflow.source.git.commit",
    "Branch": "mlflow.source.git.branch",
    "Repository": "mlflow.source.git.repoURL",
}


@routes.get("/runs/{run}/code")
def show_code(request: Request) -> Response:
    """The source files of a run as they were, one of them at `?file=`, or what was not committed at `?diff=1`."""
    run, record = _record(request)
    code = _part(record, "code")
    wanted, name = request.query("q", str, "").casefold(), request.query("file", str, "")
    diff = code.get("diff") if request.query("diff", str, "") else None
    found = [one for one in code.get("files") or () if wanted in one["path"].casefold()]
    names = {one["path"]: one["digest"] for one in code.get("files") or ()}
    if name and name not in names:
        raise NotFoundError(
            f"The code of this run has no file {name[:200]!r}.", hint="Choose one of the list.", field="file"
        )
    shown = diff or (names[name] if name else None)
    lines, problem = _lines(request, shown) if shown else ([], "")
    return frame.page(
        request,
        "run_code.html",
        run,
        here="code",
        facts=_code_facts(run, record),
        files=[{"path": one["path"], "size": one["bytes"], "here": one["path"] == name} for one in found[:FILES_SHOWN]],
        total=len(names),
        left=max(0, len(found) - FILES_SHOWN),
        wanted=wanted,
        has_diff=bool(code.get("diff")),
        shown=shown,
        name=DIFF if diff else name,
        is_diff=bool(diff),
        lines=lines,
        problem=problem,
        omitted=code.get("omitted") or (),
        recorded=bool(record),
    )


@routes.get("/runs/{run}/environment")
def show_environment(request: Request) -> Response:
    """What a run ran on: Python, machine, threads, variables and every installed package; `?q=` filters these."""
    run, record = _record(request)
    environment = _part(record, "environment")
    wanted = request.query("q", str, "")[:100]
    packages = environment.get("distributions") or []
    return frame.page(
        request,
        "run_environment.html",
        run,
        here="environment",
        recorded=bool(record),
        facts=_environment_facts(environment),
        packages=[one for one in packages if wanted.casefold() in one["name"]],
        total=len(packages),
        wanted=wanted,
        variables=environment.get("variables") or {},
        warnings=[*(record.get("nondeterminism") or ()), *warnings_of(run.tags)],
    )


def _record(request: Request) -> tuple[TrackedRun, Mapping[str, Any]]:
    project, uid = request.project, request.path["run"]
    with begin(request) as uow:
        run = service.get_run(uow, project, uid)
        return run, service.get_record(uow, project, uid) if run.record else {}


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = record.get(name)
    return part if isinstance(part, Mapping) else {}


def _lines(request: Request, digest: str) -> tuple[list[str], str]:
    """The lines of a recorded file, or the reason why it cannot be shown."""
    try:
        return preview.of_text(request.app.blobs.get_bytes(digest)), ""
    except EverlineError as error:
        return [], error.message


def _code_facts(run: TrackedRun, record: Mapping[str, Any]) -> list[tuple[str, Any]]:
    if not record:
        return [(label, run.tags[tag]) for label, tag in _SOURCE_TAGS.items() if run.tags.get(tag)]
    code = _part(record, "code")
    facts = [
        ("Entry", record.get("entry")),
        ("Command", " ".join(str(one) for one in record.get("argv") or ())),
        ("Commit", code.get("commit")),
        ("Branch", code.get("branch")),
        ("Repository", code.get("repository")),
        ("Digest", code.get("digest")),
    ]
    return [(label, value) for label, value in facts if value]


def _environment_facts(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    machine = _part(environment, "machine")
    threads = ", ".join(f"{name}={value}" for name, value in sorted(_part(environment, "threads").items()))
    facts = [
        ("Python", f"{environment.get('python')} ({environment.get('implementation')})"),
        ("Digest", environment.get("digest")),
        ("System", machine.get("os")),
        ("Architecture", machine.get("architecture")),
        ("Processor", machine.get("cpu")),
        ("Vector units", ", ".join(machine.get("cpu_features") or ())),
        ("Processors usable", render.number(machine.get("cpus_usable"))),
        ("C library", machine.get("libc")),
        ("BLAS", ", ".join(environment.get("blas") or ())),
        ("Threads", threads),
        ("Hash seed", environment.get("hash_seed")),
    ]
    return [(label, str(value)) for label, value in facts if value] if environment else []
