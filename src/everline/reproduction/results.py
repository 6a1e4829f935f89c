"""What a script left in its run, and how it compares with what a repetition left.

Metrics count with their whole history, value by value in its 64 bits at each step, whenever they were logged; files of
the run and of the models that it logged by what they say (`contents`). Parameters and datasets are no results: they
are what the results were made of. Measurements of the machine (`system/…`) are neither.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial

import msgspec

from everline.access.unit_of_work import UnitOfWork
from everline.canonical import canonical_digest
from everline.errors import EverlineError
from everline.models.logged import rows as logged_rows
from everline.models.tables import logged_model
from everline.models.types import LoggedModel
from everline.reproduction.contents import content_digest, is_plain
from everline.reproduction.tolerance import RELATIVE_MAX
from everline.reproduction.types import StepComparison
from everline.runs import artifacts, tracking
from everline.runs.types import LOGGED_MODEL, Artifact, TrackedRun

READ_BYTES_MAX = 1 << 30
"""A file larger than this counts byte for byte."""
FILES_MAX = 10_000
"""Most files of a run and its models that are compared; each has a line in the certificate."""
SYSTEM = "system/"
MODELS_MAX = 1_000

Points = tuple[tuple[int, float], ...]
"""Steps and values, by step and then by value."""


class Content:
    """A file of a run: equal bytes are settled by its digest; only other bytes are read, for what they say."""

    def __init__(self, digest: str, read: Callable[[], str] | None = None) -> None:
        self.digest = digest
        self._read = read

    @cached_property
    def said(self) -> str:
        """The digest of its content."""
        return self.digest if self._read is None else self._read()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Content) and (self.digest == other.digest or self.said == other.said)

    def __hash__(self) -> int:
        return hash(self.said)


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """The results of one run.

    Attributes:
        metrics: history by name.
        files: content by result name, such as `artifact plots/roc.png` or `model m/MLmodel`.
        data: digest by dataset, with its context if it has one.
    """

    params: dict[str, str]
    metrics: dict[str, Points]
    files: dict[str, Content]
    data: dict[str, str]

    def __bool__(self) -> bool:
        return bool(self.metrics or self.files)


class Different(msgspec.Struct, frozen=True, kw_only=True):
    """A result that is not as recorded, for people."""

    name: str
    detail: str


def gather(uow: UnitOfWork, project: str, run: TrackedRun) -> Results:
    """Read the results of a run, within whose unit of work they are to be compared: files are read when they differ."""
    metrics = {}
    for name in sorted(one.key for one in run.latest):
        if not name.startswith(SYSTEM):
            points, _ = tracking.metric_history(uow, project, run.run, name)
            metrics[name] = tuple(sorted(((p.step, p.value) for p in points), key=lambda p: (p[0], _bits(p[1]))))
    files = {f"output {one.name}": Content(one.digest) for one in run.outputs if one.kind != LOGGED_MODEL}
    for name, found in _files(uow, project, run):
        files[name] = Content(found.digest or "", partial(_content, uow, found))
    data = {
        f"{one.name} ({one.context})" if one.context else one.name: one.digest
        for one in run.inputs
        if one.source_type != LOGGED_MODEL
    }
    return Results(params=dict(run.params), metrics=metrics, files=files, data=data)


def models_of(uow: UnitOfWork, project: str, run: str) -> list[LoggedModel]:
    """The models that a run logged, in the order of their making."""
    statement = (
        logged_model.select()
        .where(logged_model.c.source_run == run, logged_model.c.project == project, logged_model.c.deleted.is_(False))
        .order_by(logged_model.c.id)
        .limit(MODELS_MAX)
    )
    return logged_rows.load(uow.conn, [dict(row) for row in uow.conn.execute(statement).mappings()])


def compare(before: Results, after: Results | None) -> tuple[tuple[StepComparison, ...], list[Different]]:
    """Compare results by name: metrics first, then files."""
    found: list[StepComparison] = []
    different: list[Different] = []
    for name in sorted(before.metrics.keys() | (after.metrics.keys() if after else set())):
        found.append(_metric(name, before.metrics.get(name), after.metrics.get(name) if after else None, len(found)))
        detail = None
        if after is not None and found[-1].equal != "bits":
            detail = _points_detail(before.metrics.get(name, ()), after.metrics.get(name, ()))
        if detail is not None:
            different.append(Different(name=found[-1].name, detail=detail))
    for name in sorted(before.files.keys() | (after.files.keys() if after else set())):
        old, new = before.files.get(name), after.files.get(name) if after else None
        equal = "bits" if old == new else "missing" if new is None else "no"
        # Of files that are equal in what they say but not in their bytes, that is the digest that counts.
        same_bytes = old is not None and new is not None and old.digest == new.digest
        digests = [one if one is None else one.digest if same_bytes or new is None else one.said for one in (old, new)]
        recorded, rebuilt = ((one,) if one is not None else () for one in digests)
        found.append(StepComparison(name=name, position=len(found), equal=equal, recorded=recorded, rebuilt=rebuilt))
        if after is not None and equal != "bits":
            detail = "was not made again" if new is None else "is new" if old is None else "has another content"
            different.append(Different(name=name, detail=detail))
    return tuple(found), different


def _files(uow: UnitOfWork, project: str, run: TrackedRun) -> Iterator[tuple[str, Artifact]]:
    if artifacts.is_ours(run.artifact_uri):
        for one in artifacts.all_files(uow, project, artifacts.proxy_path(run.artifact_uri)):
            yield f"artifact {one.path}", one
    seen: dict[str, int] = {}
    for model in models_of(uow, project, run.run):
        seen[model.name] = seen.get(model.name, 0) + 1
        name = model.name if seen[model.name] == 1 else f"{model.name} ({seen[model.name]})"
        if artifacts.is_ours(model.artifact_uri):
            for one in artifacts.all_files(uow, project, artifacts.proxy_path(model.artifact_uri)):
                yield f"model {name}/{one.path}", one


def _content(uow: UnitOfWork, file: Artifact) -> str:
    """The digest of what a file says; of its bytes, as recorded, if they are gone or too many to read."""
    digest = file.digest or ""
    if (file.bytes or 0) > READ_BYTES_MAX:
        return digest
    try:
        data = uow.blobs.get_bytes(digest)
    except EverlineError:
        return digest
    return digest if is_plain(file.path, data[:4]) else content_digest(file.path, data)


def _metric(name: str, before: Points | None, after: Points | None, position: int) -> StepComparison:
    old, new = _history_digest(before), _history_digest(after)
    equal, difference = ("bits", None) if old == new else ("missing", None) if after is None else _closeness(
        before or (), after
    )  # fmt: skip
    return StepComparison(
        name=f"metric {name}", position=position, recorded=() if old is None else (old,),
        rebuilt=() if new is None else (new,), equal=equal, difference=difference,
    )  # fmt: skip


def _closeness(before: Points, after: Points) -> tuple[str, float | None]:
    if [step for step, _ in before] != [step for step, _ in after]:
        return "no", None
    worst = 0.0
    for (_, old), (_, new) in zip(before, after, strict=True):
        if _bits(old) == _bits(new):
            continue
        if old != old or new != new:
            return "no", None
        worst = max(worst, abs(old - new) / max(abs(old), abs(new)) if old != new else 0.0)
    return ("tolerance" if worst <= RELATIVE_MAX else "no"), worst


def _points_detail(before: Points, after: Points) -> str:
    """The first step at which two histories differ, with both values."""
    if not before:
        return "is new"
    if not after:
        return "was not logged again"
    old, new = _by_step(before), _by_step(after)
    for step in sorted(old.keys() | new.keys()):
        left, right = old.get(step, []), new.get(step, [])
        if [_bits(v) for v in left] != [_bits(v) for v in right]:
            return f"at step {step}: {_told(left)} recorded, {_told(right)} rebuilt"
    return "has other values"


def _by_step(points: Points) -> Mapping[int, list[float]]:
    found: dict[int, list[float]] = {}
    for step, value in points:
        found.setdefault(step, []).append(value)
    return found


def _told(values: list[float]) -> str:
    return ", ".join(repr(v) for v in values[:3]) if values else "nothing"


def _history_digest(points: Points | None) -> str | None:
    if points is None:
        return None
    return canonical_digest([[step, _bits(value)] for step, value in points])


def _bits(value: float) -> str:
    """A double by its 64 bits, in an order that is one and the same everywhere; all NaN are one."""
    return "nan" if value != value else struct.pack(">d", value).hex()
