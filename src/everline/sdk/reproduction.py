"""Reproduction and replay through the client: the work is done here, the comparison by the server.

client.reproduction.reproduce("0192f5c47d2e7c319d7e0a4b5c6d7e8f").level    'L5'
client.reproduction.replay("0192f5c4-7d2e-7c31-9d7e-0a4b5c6d7e8f").level   'P3'
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path, PurePosixPath

import msgspec

from everline.errors import EverlineError, InvalidInputError
from everline.loader import load
from everline.reproduction import determinism
from everline.reproduction.types import (
    REPEATS_MAX,
    REPEATS_MIN,
    Cause,
    Certificate,
    CertificateDetail,
    CertifyReplay,
    CertifyReproduction,
    Determinism,
    Preparation,
    Replay,
    ReplayBatch,
    Reproduction,
    Variation,
    Verdict,
)
from everline.runs.capture import CodeSnapshot, RunRecord
from everline.runs.environment import Environment, pinned_variables
from everline.sdk.client import Client
from everline.sdk.looking import looking
from everline.sdk.pipeline_commands import Changes, command_of, folder_of
from everline.sdk.processes import run_process
from everline.sdk.scripts import Failure, Inside, Script, read_script, repeat

Watch = Callable[[str], None]
TIMEOUT_S = 24 * 3600.0
_UNEXPLAINED = frozenset({Cause.NON_DETERMINISM, Cause.HIDDEN_INPUT})
_UNCHANGED = _UNEXPLAINED | {Cause.HARDWARE}
_RUN = re.compile(r"[0-9a-f]{32}")


class Where(StrEnum):
    """The environment that a rebuild runs in."""

    AUTO = "auto"
    HERE = "here"
    FRESH = "fresh"


class ReproductionApi:
    """Do recorded work again, and compare."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def reproduce(
        self,
        target: str,
        *,
        changes: Changes | None = None,
        environment: Where = Where.AUTO,
        repository: str | None = None,
        arguments: Sequence[str] | None = None,
        repeats: int = 0,
        timeout_s: float = TIMEOUT_S,
        watch: Watch = lambda message: None,
    ) -> Reproduction:
        """Rebuild a run from its record alone, compare every step's output, and have the result certified.

        A run without steps is a script's or a notebook's: it is run again, and its metrics, files and models are
        compared. Of a run that the MLflow client made, tags name the commit and the script.

        Args:
            target: a run's uid, or a model as `name`, `name/version` or `name@alias`.
            changes: what to do differently, to see which step it changes first; of a script, only its code.
            repository: a clone's folder or an address that has the commit of an MLflow client's run; None looks into
                what is here, and asks no network.
            arguments: of a script, in place of the recorded ones; the MLflow client records none.
            repeats: how many more rebuilds with other seeds to make where results differ, 3 to 50: the recorded numbers
                are then held against the band of theirs, for L3. 0 makes none.
            environment: where to run: in the environment of this process (`here`), in one that is made from the record
                (`fresh`), or in the former if it is as recorded or the latter cannot be made (`auto`).
            timeout_s: most seconds that one rebuild may take.
            watch: is told what happens, in short sentences.

        Returns:
            Level, verdict and first difference. A run without a record gives a verdict too, never an exception.

        Raises:
            NotFoundError: there is no such run or model.
        """
        run = self.run_of(target)
        changes = changes or Changes()
        if repeats and (changes or not REPEATS_MIN <= repeats <= REPEATS_MAX):
            raise InvalidInputError(
                f"Bands come from {REPEATS_MIN} to {REPEATS_MAX} repeats of the run as it was recorded.",
                hint="Leave --param, --seed, --data and --code out, and take more repeats." if changes else None,
                field="repeats",
            )
        watch("reading the record and every byte it names")
        prepared = self.prepare(run)
        if prepared.problem is not None:
            return self._compare(run, [], failure=None, certify=not changes)
        if not prepared.has_steps:
            return self._reproduce_script(
                prepared, changes, environment, repository=repository, arguments=arguments, repeats=repeats,
                timeout_s=timeout_s, watch=watch,
            )  # fmt: skip
        if arguments is not None or repository is not None:
            raise InvalidInputError(
                "This run is a pipeline's: it has no arguments of its own, and its code is in its record.",
                hint="Change its parameters with --param.",
                field="arguments",
            )
        record = msgspec.convert(prepared.record, RunRecord)
        rebuilds: list[str] = []
        with tempfile.TemporaryDirectory(prefix="everline-environment-") as name:
            try:
                inside = self.inside(record.environment, environment, Path(name) / "venv", watch=watch)
            except EverlineError as error:
                missing = f"{error.message} {error.hint or ''}".strip()
                return self._compare(run, [], failure=missing, cause=Cause.ENVIRONMENT, certify=not changes)
            watch("running again in a process of its own")
            failure = self._rebuild(run, record, changes, inside, timeout_s=timeout_s, rebuilds=rebuilds)
            report = self._compare(run, rebuilds, failure=failure, certify=False)
            first = report.first_difference
            if first is not None and first.cause in _UNEXPLAINED and rebuilds and failure is None:
                watch("running once more, to tell chance from a hidden input")
                self._rebuild(run, record, changes, inside, timeout_s=timeout_s, rebuilds=rebuilds)
            again: list[str] = []
            if _is_worth_repeating(report, repeats, failure):

                def once(seed: int) -> None:
                    other = Changes() if record.seed is None else Changes(seed=record.seed + seed)
                    self._rebuild(run, record, other, _reseeded(inside, seed), timeout_s=timeout_s, rebuilds=again)

                again = self._repeated(once, again, repeats, watch=watch)
        if changes:
            return self._compare(run, rebuilds, failure=failure, certify=False)
        watch("comparing and signing")
        return self._compare(run, rebuilds, failure=failure, certify=True, repeats=again)

    def check_determinism(
        self,
        target: str,
        *,
        environment: Where = Where.AUTO,
        timeout_s: float = TIMEOUT_S,
        watch: Watch = lambda message: None,
    ) -> Determinism:
        """Repeat a run with another hash seed, number of threads and order of files, one at a time.

        Args:
            target, environment, timeout_s, watch: as in `reproduce`; there are four repetitions.

        Returns:
            For each the first step with other bits. A run that cannot be repeated gives the reason, never an exception.

        Raises:
            NotFoundError: there is no such run or model.
        """
        run = self.run_of(target)
        prepared = self.prepare(run)
        if prepared.problem is not None or not prepared.has_steps:
            detail = prepared.problem.detail if prepared.problem is not None else "it is no pipeline's and has no steps"
            return Determinism(run=run, deterministic=False, reason=f"the run cannot be repeated: {detail}")
        record = msgspec.convert(prepared.record, RunRecord)
        found: list[Variation] = []
        with tempfile.TemporaryDirectory(prefix="everline-environment-") as name:
            try:
                inside = self.inside(record.environment, environment, Path(name) / "venv", watch=watch)
            except EverlineError as error:
                return Determinism(run=run, deterministic=False, reason=f"the run cannot be repeated: {error.message}")
            for change in determinism.changes(record.environment):
                watch(f"changing {change.name}: {change.what}")
                found.append(self._vary(run, record, inside, change, timeout_s=timeout_s))
        return Determinism(
            run=run,
            deterministic=all(one.equal for one in found),
            reason=_why_not_deterministic(found),
            variations=tuple(found),
        )

    def _reproduce_script(
        self,
        prepared: Preparation,
        changes: Changes,
        where: Where,
        *,
        repository: str | None,
        arguments: Sequence[str] | None,
        repeats: int,
        timeout_s: float,
        watch: Watch,
    ) -> Reproduction:
        if changes.params or changes.data or changes.seed is not None:
            raise InvalidInputError(
                "This run is a script's: it has no parameters, data or seed that could be set from outside.",
                hint="Give it other arguments after `--`, or other code with --code.",
                field="changes",
            )
        run = prepared.run
        record = None if prepared.record is None else msgspec.convert(prepared.record, RunRecord)
        try:
            script = read_script(
                self._client.runs.get(run), record=record, source=prepared.source, arguments=arguments,
                repository=repository, over=changes.code,
            )  # fmt: skip
        except InvalidInputError as error:
            return self._compare(run, [], failure=f"{error.message} {error.hint}", certify=not changes)
        # Arguments in place of recorded ones are a change; where none were recorded, they are part of the claim.
        certify = not changes and not (script.given and record is not None)
        if self._compare(run, [], failure=None, certify=False).verdict is Verdict.UNVERIFIABLE:
            return self._compare(run, [], failure=None, certify=certify)
        rebuilds: list[str] = []
        with tempfile.TemporaryDirectory(prefix="everline-environment-") as name:
            try:
                inside = self.inside(self._wanted(script), where, Path(name) / "venv", watch=watch)
            except EverlineError as error:
                missing = f"{error.message} {error.hint or ''}".strip()
                return self._compare(run, [], failure=missing, cause=Cause.ENVIRONMENT, certify=certify)
            watch("running again in a process of its own")
            failure = self._repeat(script, inside, rebuilds, timeout_s=timeout_s)
            report = self._compare_script(run, rebuilds, failure, certify=False)
            first = report.first_difference
            if first is not None and first.cause in _UNEXPLAINED and rebuilds and failure is None:
                watch("running once more, to tell chance from a hidden input")
                self._repeat(script, inside, rebuilds, timeout_s=timeout_s)
            again: list[str] = []
            if _is_worth_repeating(report, repeats, failure):

                def once(seed: int) -> None:
                    self._repeat(script, _reseeded(inside, seed), again, timeout_s=timeout_s)

                again = self._repeated(once, again, repeats, watch=watch)
        watch("comparing and signing" if certify else "comparing")
        return self._compare_script(run, rebuilds, failure, certify=certify, repeats=again)

    def _repeated(self, once: Callable[[int], None], made: list[str], wanted: int, *, watch: Watch) -> list[str]:
        """Repeat, each time with another seed; the runs that came to their end, or none if that were too few."""
        for seed in range(1, wanted + 1):
            watch(f"repeating with another seed, {seed} of {wanted}")
            once(seed)
        ended = [uid for uid in made if self._client.runs.get(uid).status == "finished"]
        return ended if len(ended) >= REPEATS_MIN else []

    def _repeat(self, script: Script, inside: Inside, rebuilds: list[str], *, timeout_s: float) -> Failure | None:
        outcome = repeat(self._client, script, inside, materialise=self.materialise, timeout_s=timeout_s)
        rebuilds.extend([outcome.run] if outcome.run is not None else [])
        return outcome.failure

    def _compare_script(
        self,
        run: str,
        rebuilds: Sequence[str],
        failure: Failure | None,
        *,
        certify: bool,
        repeats: Sequence[str] = (),
    ) -> Reproduction:
        if failure is None:
            return self._compare(run, rebuilds, failure=None, certify=certify, repeats=repeats)
        return self._compare(run, rebuilds, failure=failure.detail, cause=failure.cause, certify=certify)

    def _wanted(self, script: Script) -> Environment:
        """The environment that a script's record asks for; what it does not say is as it is here."""
        if script.record is not None:
            return script.record.environment
        assert script.source is not None
        environments = load("everline.reproduction.environments")
        here = environments.environment_of(sys.executable, dict(os.environ))
        wanted: Environment = environments.as_required(here, script.source.requirements, script.source.python)
        return wanted

    def _vary(
        self, run: str, record: RunRecord, inside: Inside, change: determinism.Change, *, timeout_s: float
    ) -> Variation:
        changed = Inside(inside.python, {**inside.variables, **change.variables})
        rebuilds: list[str] = []
        failure = self._rebuild(
            run, record, Changes(), changed, timeout_s=timeout_s, rebuilds=rebuilds, options=["--vary", change.vary]
        )
        report = self._compare(run, rebuilds, failure=failure, certify=False)
        step = determinism.first_step(report) if rebuilds else None
        return Variation(
            changed=change.name,
            what=change.what,
            equal=failure is None and bool(report.steps) and step is None,
            step=step,
            detail=failure or (None if report.steps else report.reason),
            run=rebuilds[0] if rebuilds else None,
        )

    def prepare(self, run: str) -> Preparation:
        """Have the server look whether a run can be rebuilt."""
        return self._client.call("GET", f"/runs/{run}/preparation", returns=Preparation)

    def replay(self, prediction: str, *, certify: bool = True) -> Replay:
        """Ask the package that gave a logged prediction again, and compare bit for bit.

        Raises:
            NotFoundError: there is no such prediction.
        """
        replays = load("everline.sdk.replaying")
        result: Replay = replays.replay_one(self._client, prediction)
        return self.certify_replay(result) if certify and result.level is not None else result

    def replay_many(self, endpoint: str, *, sample: int = 100) -> ReplayBatch:
        """Replay the newest `sample` predictions of an endpoint; each package is loaded once."""
        result: ReplayBatch = load("everline.sdk.replaying").replay_many(self._client, endpoint, sample=sample)
        return result

    def certify_replay(self, replay: Replay) -> Replay:
        """Have a replay checked against the prediction log and signed."""
        return self._client.call("POST", "/replays", body=CertifyReplay(replay=replay), returns=Replay)

    def certificates(self, subject: str | None = None, *, limit: int = 100) -> list[Certificate]:
        """Certificates, newest first."""
        return self._client.list_all("/certificates", kind=Certificate, query={"subject": subject}, limit=limit)

    def certificate(self, uid: str) -> CertificateDetail:
        """One certificate with its signed envelope."""
        return self._client.call("GET", f"/certificates/{uid}", returns=CertificateDetail)

    def inside(self, recorded: Environment, where: Where, directory: Path, *, watch: Watch) -> Inside:
        """The Python to rebuild with and its environment variables."""
        variables = self._environment(recorded)
        here = Inside(sys.executable, variables)
        if where is Where.HERE:
            return here
        environments = load("everline.reproduction.environments")
        paths = environments.search_path(sys.executable, variables)
        if where is Where.AUTO and environments.is_here(recorded, paths):
            return here
        watch("making the recorded environment")
        try:
            python = environments.make(recorded, directory, paths=paths, watch=watch)
        except EverlineError as error:
            if where is Where.FRESH:
                raise
            watch(f"{error.message} Going on in the environment that is here.")
            return here
        return Inside(str(python), environments.variables_for(variables))

    def _compare(
        self,
        run: str,
        rebuilds: Sequence[str],
        *,
        failure: str | None,
        cause: Cause = Cause.RECORD,
        certify: bool,
        repeats: Sequence[str] = (),
    ) -> Reproduction:
        body = CertifyReproduction(
            run=run, rebuilds=list(rebuilds), failure=failure, cause=cause, certify=certify, repeats=list(repeats)
        )
        return self._client.call("POST", "/reproductions", body=body, returns=Reproduction)

    def run_of(self, target: str) -> str:
        """The uid of a run that is meant by its uid, or by a model that it made: `name`, `name/version`, `name@alias`.

        Raises:
            NotFoundError: there is no such model.
            InvalidInputError: the model does not say which run made it.
        """
        plain = target.replace("-", "")
        if _RUN.fullmatch(plain) and len(target) in (32, 36):
            return plain
        name, _, version = target.partition("@" if "@" in target else "/")
        if "@" in target:
            version = f"@{version}"
        found = self._client.models.get(name, version or "latest")
        if found.run is None:
            raise InvalidInputError(
                f"{found.model}/{found.version} does not say which run made it, so there is nothing to rebuild.",
                hint="Models that a pipeline registered name their run.",
                field="target",
            )
        return str(found.run)

    def _rebuild(
        self,
        run: str,
        record: RunRecord,
        changes: Changes,
        inside: Inside,
        *,
        timeout_s: float,
        rebuilds: list[str],
        options: Sequence[str] = (),
    ) -> str | None:
        """Run once more in a fresh process; adds the rebuild's uid, returns what went wrong in one sentence."""
        known = set(self._rebuilds_of(run))
        with tempfile.TemporaryDirectory(prefix="everline-rebuild-") as name:
            root = Path(name).resolve()
            try:
                self.materialise(record.code, root, over=changes.code)
                command = [inside.python, *command_of(self._client, run, record, changes)]
                command += [*options, "--directory", str(root / folder_of(record))]
            except EverlineError as error:
                return error.message
            url = self._client.settings.url
            with looking(self._client, python=inside.python, root=root, url=url) as look:
                failure = run_process(
                    command, folder=root, variables=inside.variables, timeout_s=timeout_s, supervisor=look.supervisor
                )
        # A rebuild that failed names no run in its answer: it is the one that was not there before.
        made = [uid for uid in self._rebuilds_of(run) if uid not in known][:1]
        for uid in made:
            look.note(self._client, uid)
        rebuilds.extend(made)
        return failure

    def materialise(self, code: CodeSnapshot, root: Path, *, over: Path | None = None) -> None:
        """Write a recorded code snapshot into an empty folder, every file verified by digest.

        Args:
            over: a folder whose files replace those of the same path.
        """
        # The mark of a project, so that the rebuild takes this folder, and nothing above it, as the project.
        (root / ".git").mkdir()
        for file in code.files:
            target = root.joinpath(*PurePosixPath(file.path).parts)
            if not target.resolve().is_relative_to(root):
                raise InvalidInputError(f"The record names {file.path!r}, which lies outside the project.")
            target.parent.mkdir(parents=True, exist_ok=True)
            source = over / file.path if over is not None and (over / file.path).is_file() else None
            content = source.read_bytes() if source is not None else self._client.blobs.get_bytes(file.digest)
            target.write_bytes(content)

    def _environment(self, recorded: Environment) -> dict[str, str]:
        """This process's variables, with those that decide bits set as recorded, or removed if they were not set."""
        pinned = pinned_variables(recorded)
        decisive = load("everline.runs.environment").REPLAYED
        kept = {name: value for name, value in os.environ.items() if name not in decisive}
        token = self._client.token
        return {**kept, **pinned, **({"EVERLINE_TOKEN": token} if token else {})}

    def _rebuilds_of(self, run: str) -> list[str]:
        found = self._client.runs.search(f"tags.`everline.reproduces` = '{run}'", limit=1_000)
        return [item.run for item in found]


def _is_worth_repeating(report: Reproduction, repeats: int, failure: object) -> bool:
    """Whether bands can say more: the rebuild came to its end, its results differ, and nothing was changed."""
    first = report.first_difference
    if not repeats or failure is not None or report.verdict is not Verdict.DIVERGED or first is None:
        return False
    return first.cause in _UNCHANGED


def _reseeded(inside: Inside, seed: int) -> Inside:
    """The same process with another order of sets."""
    return Inside(inside.python, {**inside.variables, "PYTHONHASHSEED": str(seed)})


def _why_not_deterministic(found: Sequence[Variation]) -> str:
    """The first step that depends on something, and on what."""
    different = [one for one in found if not one.equal]
    if not different:
        return "no result depends on hash seed, threads or file order"
    first = different[0]
    if first.step is None:
        return first.detail or "it could not be repeated"
    if first.changed == "nothing":
        return f"step {first.step} gives other results although nothing was changed"
    return f"step {first.step} depends on the {first.changed}"
