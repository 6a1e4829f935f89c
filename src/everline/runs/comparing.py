"""What differs between runs beyond their numbers: the lines of their code, the packages they ran on, their curves.

Code and environment come from the runs' records; a run without a record has neither. Everything is bounded: files
are strangers' text, and a difference of two texts costs more than their sum.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import and_, exists, or_, select

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import InvalidInputError, NotFoundError
from everline.ids import check_digest
from everline.runs import rows, service
from everline.runs.capture import CodeSnapshot, SourceFile
from everline.runs.environment import Distribution, Environment
from everline.runs.tables import latest_metric, metric, metric_key
from everline.runs.types import CodeDifference, Difference, FileDifference

T = TypeVar("T")
FILES_SHOWN_MAX = 200
FILE_BYTES_MAX = 256 << 10
FILE_LINES_MAX = 2_000
LINES_COMPARED_MAX = 20_000
"""Of all files together; what comes after them is named and not shown."""
CONTEXT_LINES = 3
CURVES_SHOWN_MAX = 500


@read
def compare_code(uow: UnitOfWork, project: str, before: str, after: str) -> CodeDifference:
    """The difference of the recorded source files of two runs, by path.

    Raises:
        NotFoundError: one of the runs has no record, as runs of MLflow clients have none.
    """
    uow.require(Permission.RUN_READ, project)
    codes = [_code(uow, project, uid) for uid in (before, after)]
    old, new = ({file.path: file for file in code.files} for code in codes)
    paths = [path for path in sorted({*old, *new}) if _digest(old.get(path)) != _digest(new.get(path))]
    files: list[FileDifference] = []
    left = LINES_COMPARED_MAX
    for path in paths[:FILES_SHOWN_MAX]:
        made, compared = _compare_file(uow, path, old.get(path), new.get(path), lines_max=left)
        left -= compared
        files.append(made)
    return CodeDifference(
        before=before,
        after=after,
        digests=[code.digest for code in codes],
        commits=[code.commit for code in codes],
        files=files,
        left_out=len(paths) - len(files),
    )


@read
def compare_packages(uow: UnitOfWork, project: str, uids: Sequence[str]) -> list[Difference]:
    """The versions of every distribution in the recorded environments of 2 to 20 runs, by name.

    Returns:
        One value per run: its version, None where the run lacks it or has no record. Equal versions with
        another content differ, and carry the first digits of their digest.
    """
    uow.require(Permission.RUN_READ, project)
    _check_number(uids)
    sides = [_packages(uow, project, uid) for uid in uids]
    lines = []
    for name in sorted({name for side in sides for name in side}):
        found = [side.get(name) for side in sides]
        versions = {one.version for one in found if one}
        rebuilt = len(versions) == 1 and len({one.digest for one in found if one and one.digest}) > 1
        values = [None if one is None else _version(one, with_digest=rebuilt) for one in found]
        lines.append(Difference(key=name, values=values, differs=len(set(values)) > 1))
    return lines


@read
def metrics_with_curves(uow: UnitOfWork, project: str, uids: Sequence[str]) -> list[str]:
    """The metrics of which one of the runs has more than one point, by name; at most 500."""
    uow.require(Permission.RUN_READ, project)
    _check_number(uids)
    numbers = [rows.find_run(uow, project, uid)["id"] for uid in uids]
    newest = latest_metric.c
    another = and_(
        metric.c.run == newest.run,
        metric.c.key == newest.key,
        or_(metric.c.at_ms != newest.at_ms, metric.c.step != newest.step),
    )
    statement = (
        select(metric_key.c.name)
        .distinct()
        .join(latest_metric, newest.key == metric_key.c.id)
        .where(newest.run.in_(numbers), exists().where(another))
        .order_by(metric_key.c.name)
        .limit(CURVES_SHOWN_MAX)
    )
    return list(uow.conn.execute(statement).scalars())


def _code(uow: UnitOfWork, project: str, uid: str) -> CodeSnapshot:
    # A record is whatever its client sent.
    code = _part_of_record(service.get_record(uow, project, uid), "code", CodeSnapshot)
    if code is None:
        raise NotFoundError(
            f"Run {uid} recorded no code that can be read.", hint="Runs of `everline.run()` do.", field="runs"
        )
    return code


def _packages(uow: UnitOfWork, project: str, uid: str) -> dict[str, Distribution]:
    if rows.find_run(uow, project, uid)["record"] is None:
        return {}
    environment = _part_of_record(service.get_record(uow, project, uid), "environment", Environment)
    return {} if environment is None else {one.name: one for one in environment.distributions}


def _part_of_record(record: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    try:
        return msgspec.convert(record.get(name), kind)
    except msgspec.ValidationError:
        return None


def _version(one: Distribution, *, with_digest: bool) -> str:
    if not with_digest:
        return one.version
    return f"{one.version} ({(one.digest or 'no digest').removeprefix('sha256:')[:8]})"


def _digest(file: SourceFile | None) -> str | None:
    return None if file is None else file.digest


def _compare_file(
    uow: UnitOfWork,
    path: str,
    old: SourceFile | None,
    new: SourceFile | None,
    *,
    lines_max: int,
) -> tuple[FileDifference, int]:
    """The difference of one file, and how many lines were compared for it."""
    change = "added" if old is None else "removed" if new is None else "changed"
    sides: list[list[str]] = []
    for file in (old, new):
        text, why_not = _text(uow, file)
        if text is None:
            return FileDifference(path=path, change=change, note=why_not), 0
        sides.append(text.splitlines())
    count = len(sides[0]) + len(sides[1])
    if max(map(len, sides)) > FILE_LINES_MAX or count > lines_max:
        return FileDifference(path=path, change=change, note="too many lines to compare here"), 0
    found = list(difflib.unified_diff(sides[0], sides[1], lineterm="", n=CONTEXT_LINES))[2:]
    return FileDifference(
        path=path,
        change=change,
        added=sum(line.startswith("+") for line in found),
        removed=sum(line.startswith("-") for line in found),
        lines=found,
        note="" if found else "only the ends of lines differ",
    ), count


def _text(uow: UnitOfWork, file: SourceFile | None) -> tuple[str | None, str]:
    """A recorded file's text, or why it cannot be shown; the text of a file that is not there is empty."""
    if file is None:
        return "", ""
    try:
        # Its size is asked of the store: what the record says is a client's word.
        size = uow.blobs.size(check_digest(file.digest))
        if size is None:
            return None, "its content was not uploaded"
        if size > FILE_BYTES_MAX:
            return None, "too large to compare here"
        return uow.blobs.get_bytes(file.digest).decode(), ""
    except InvalidInputError:
        return None, "recorded without a digest"
    except UnicodeDecodeError:
        return None, "not a text in UTF-8"


def _check_number(uids: Sequence[str]) -> None:
    if not 1 <= len(uids) <= service.RUNS_PER_COMPARISON_MAX:
        raise InvalidInputError(
            f"A comparison takes 2 to {service.RUNS_PER_COMPARISON_MAX} runs, not {len(uids)}.", field="runs"
        )
