"""Bisection: all as in the earlier run, with the code of one commit, or one version of a dataset, after another."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from everline.errors import EverlineError, InvalidInputError
from everline.pipelines.codedigest import project_root
from everline.pipelines.measuring import Measure
from everline.pipelines.serialisers import bytes_of
from everline.reproduction.explaining.bisection import first_moved
from everline.reproduction.explaining.components import CODE, DATA, data_of, metric_in, parameters_of
from everline.reproduction.explaining.types import Bisection, Plan, Probe
from everline.runs.capture import RunRecord
from everline.sdk.client import Client
from everline.sdk.git import asks, clone, git
from everline.sdk.mixing import carry_out
from everline.sdk.mixing_process import Job, Task
from everline.sdk.pipeline_commands import folder_of
from everline.sdk.reproduction import Where
from everline.sdk.scripts import Inside

Watch = Callable[[str], None]


class Place(NamedTuple):
    """A commit or a dataset version.

    Attributes:
        title: what people call it.
        commit: its code; None takes the earlier run's.
        later: whether the code is the later run's own snapshot, with its uncommitted changes.
    """

    name: str
    title: str = ""
    commit: str | None = None
    later: bool = False
    data: Mapping[str, list[str]] = MappingProxyType({})


class Bisector:
    """Tries commits or versions between two runs."""

    def __init__(self, client: Client, plan: Plan, *, timeout_s: float, watch: Watch) -> None:
        if plan.metric_step is None or plan.before_value is None:
            raise InvalidInputError(f"Nothing can be bisected: {plan.problem}.", field="from")
        self._client, self._plan, self._timeout_s, self._watch = client, plan, timeout_s, watch
        self._records = [
            msgspec.convert(client.reproduction.prepare(run).record, RunRecord) for run in (plan.before, plan.after)
        ]

    def run(self, *, over: str | None, repository: Path | None, environment: Where) -> Bisection:
        """Search along the code, or along a dataset."""
        axis = self._axis(over)
        places = self._commits(repository) if axis == CODE else self._versions(axis.removeprefix(f"{DATA} "))
        before = self._plan.before_value
        assert before is not None
        with tempfile.TemporaryDirectory(prefix="everline-bisect-") as name:
            folder = Path(name).resolve()
            inside = self._client.reproduction.inside(
                self._records[0].environment, environment, folder / "environment", watch=self._watch
            )
            ends: list[float] = []

            def attempt(at: int) -> Probe:
                place = places[at]
                self._watch(f"trying {place.name[:19]} {place.title}".rstrip())
                probe = self._probe(place, folder / f"place-{at}", repository, inside)
                if probe.value is None:
                    return probe
                if not ends:  # the first trial is the later end
                    ends.append(probe.value)
                moved = abs(probe.value - before) > abs(probe.value - ends[0])
                return msgspec.structs.replace(probe, moved=moved)

            found = first_moved(len(places), attempt)
        among = tuple(
            next((probe for probe in found.probes if probe.name == places[at].name), _untried(places[at]))
            for at in found.among
        )
        return Bisection(
            metric=self._plan.metric,
            before=self._plan.before,
            after=self._plan.after,
            over=axis,
            before_value=before,
            first=among[-1] if len(among) == 1 else None,
            among=among,
            candidates=len(places),
            probes=tuple(found.probes),
            reason=_reason(self._plan.metric, axis, before, among, found.probes),
        )

    def _axis(self, over: str | None) -> str:
        """What to search along: what was asked for, or the only thing that differs and has an order."""
        names = [one.name for one in self._plan.components if one.idle is None]
        axes = [name for name in names if name == CODE or name.startswith(f"{DATA} ")]
        if over is not None:
            wanted = next((name for name in axes if over in (name, name.removeprefix(f"{DATA} "))), None)
            if wanted is None:
                raise InvalidInputError(
                    f"The runs do not differ in {over!r}.",
                    hint=f"They differ in {', '.join(names) or 'nothing that matters'}.",
                    field="--over",
                )
            return wanted
        if len(axes) != 1:
            raise InvalidInputError(
                f"There is more than one line to search: {', '.join(axes)}."
                if axes
                else "The runs differ in neither code nor data, so no line of commits or versions lies between them.",
                hint="Name one with --over; `everline explain` says which of them moved the metric." if axes else None,
                field="--over",
            )
        return axes[0]

    def _commits(self, repository: Path | None) -> list[Place]:
        old, new = (record.code for record in self._records)
        if old.commit is None or new.commit is None:
            raise InvalidInputError(
                "A run was not made in a Git repository, so its code has no commits to search.",
                hint="`everline explain` works without: it exchanges the whole of the code.",
                field="--over",
            )
        root = repository or Path.cwd()
        if not asks(root, "merge-base", "--is-ancestor", old.commit, new.commit):
            raise InvalidInputError(
                f"Commit {old.commit[:10]} is no ancestor of {new.commit[:10]} in {root}.",
                hint="Run it in a clone that has both (--repository), with the runs in the order of their commits.",
                field="--repository",
            )
        listed = git(root, "log", "--first-parent", "--reverse", "--format=%H %s", f"{old.commit}..{new.commit}")
        places = [Place(name=line[:40], title=line[41:], commit=line[:40]) for line in listed.splitlines()]
        if new.dirty or not places:
            places.append(Place(name="uncommitted changes", title="of the later run", later=True))
        return places

    def _versions(self, name: str) -> list[Place]:
        old, new = (data_of(record).get(name, []) for record in self._records)
        if len(old) != 1 or len(new) != 1:
            raise InvalidInputError(
                f"The runs read {len(old)} and {len(new)} versions of {name}, so there is no line between them.",
                hint="Bisect a dataset of which each run read one version.",
                field="--over",
            )
        first, last = (next(u.version for u in record.data if u.name == name) for record in self._records)
        if first >= last:
            raise InvalidInputError(
                f"{name}@{first} is not older than {name}@{last}.", hint="Exchange the two runs.", field="--from"
            )
        found = sorted(self._client.datasets.versions(name), key=lambda one: one.version)
        return [
            Place(name=f"{name}@{one.version}", title=", ".join(one.labels), data={name: [one.digest]})
            for one in found
            if first < one.version <= last
        ]

    def _probe(self, place: Place, folder: Path, repository: Path | None, inside: Inside) -> Probe:
        try:
            folder.mkdir()
            directory = self._code(place, folder, repository)
            run, problem = carry_out(
                self._task(place, directory), inside, timeout_s=self._timeout_s, heard=lambda _: None
            )[0]
            value = None if run is None or problem is not None else self._value(run)
        except EverlineError as error:
            return Probe(name=place.name, title=place.title, problem=error.message)
        if value is None:
            problem = problem or f"{self._plan.metric} is not a number there"
        return Probe(name=place.name, title=place.title, value=value, run=run, problem=problem)

    def _code(self, place: Place, folder: Path, repository: Path | None) -> Path:
        record = self._records[1 if place.later else 0]
        if place.commit is None:
            self._client.reproduction.materialise(record.code, folder)
        else:
            project = project_root((repository or Path.cwd()) / "any.py")
            clone(project, place.commit, folder)
            return folder / git(project, "rev-parse", "--show-prefix").strip() / folder_of(record)
        return folder / folder_of(record)

    def _task(self, place: Place, directory: Path) -> Task:
        record, settings = self._records[0], self._client.settings
        assert self._plan.metric_step is not None
        data = data_of(record)
        params = {name: value for name, value in parameters_of(record).items() if value is not None}
        return Task(
            url=settings.url,
            home=None if settings.url else str(settings.home.absolute()),
            project=self._client.project,
            entry=self._plan.entry,
            directory=str(directory),
            measure=Measure(step=self._plan.metric_step.name, tag=f"{self._plan.before} {self._plan.after}"),
            jobs=[Job(params=params, data={**data, **place.data}, seed=record.seed)],
        )

    def _value(self, run: str) -> float | None:
        assert self._plan.metric_step is not None
        name = self._plan.metric_step.name
        step = next((one for one in self._client.pipelines.steps(run) if one.name == name), None)
        if step is None or len(step.outputs) != 1 or step.outputs[0].kind != "json":
            return None
        return metric_in(bytes_of(step.outputs[0].files[0], self._client.blobs.get_bytes), self._plan.metric)


def _reason(metric: str, axis: str, before: float, among: Sequence[Probe], probes: Sequence[Probe]) -> str:
    last = probes[0]
    if last.value is None:
        return f"the later end does not run: {last.problem}"
    if not among:
        return f"with all else as in the earlier run {metric} ends at {last.value:.6g}: {axis} did not move it"
    if len(among) == 1:
        return f"{metric} moved from {before:.6g} to {among[0].value or last.value:.6g} at {_short(among[0].name)}"
    return f"{metric} moved somewhere in {len(among)} of them: those between did not run"


def _short(name: str) -> str:
    """A commit by its first digits, a version as it is."""
    return name[:10] if len(name) == 40 else name


def _untried(place: Place) -> Probe:
    return Probe(name=place.name, title=place.title)
