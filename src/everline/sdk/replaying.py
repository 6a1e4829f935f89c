"""Replays: fetch a prediction's package, verify it, ask it the logged inputs again, compare bits.

P0 logged     the prediction is in the log, and its segment is what its digest says
P1 traced     the release and revision that gave it are known, and the package is theirs, byte for byte
P2 equal      every replayed number within 1e-9 of the logged one, everything else equal
P3 bit-equal  every replayed output has the logged bits
P4 elsewhere  P3 by an outsider, from a bundle; not earned here
"""

from __future__ import annotations

import math
import struct
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from everline.errors import EverlineError, IntegrityError, InvalidInputError, NotFoundError
from everline.governance.signing import VerifyKey
from everline.models.package import Package, Predictor, fetch_package
from everline.models.signing import verify_package_signature
from everline.reproduction.tolerance import RELATIVE_MAX
from everline.reproduction.types import REPLAY_LEVELS, Cause, FirstDifference, Replay, ReplayBatch, Verdict
from everline.sdk.client import Client
from everline.serving.types import Prediction

FAILED_MAX = 100
SAMPLE_MAX = 100_000


class _PublicKey(msgspec.Struct, frozen=True):
    public: str


class _Keys(msgspec.Struct, frozen=True):
    keys: list[_PublicKey]


def replay_one(client: Client, prediction: str) -> Replay:
    """Replay one prediction; tampering is named, not raised.

    Raises:
        NotFoundError: there is no such prediction.
    """
    try:
        logged: Prediction = client.predictions.get(prediction)
    except IntegrityError as error:
        first = FirstDifference(
            step=None, cause=Cause.RECORD, detail=f"the prediction log was altered: {error.message}"
        )
        return Replay(
            prediction=prediction, level=None, verdict=Verdict.DIVERGED, first_difference=first, reason=first.detail
        )
    with tempfile.TemporaryDirectory(prefix="everline-replay-") as folder:
        return _Replayer(client, Path(folder)).replay([logged])[0]


def replay_many(client: Client, endpoint: str, *, sample: int) -> ReplayBatch:
    """Replay the newest predictions of an endpoint, package by package, in one call each."""
    if not 1 <= sample <= SAMPLE_MAX:
        raise InvalidInputError(f"The sample must be 1 to {SAMPLE_MAX}.", field="sample")
    try:
        logged: list[Prediction] = client.predictions.list(endpoint, limit=sample)
    except IntegrityError as error:
        return _altered_log(endpoint, error)
    with tempfile.TemporaryDirectory(prefix="everline-replay-") as folder:
        replays = _Replayer(client, Path(folder)).replay(logged)
    failed = [replay for replay in replays if replay.level != "P3"]
    diverged = sum(replay.verdict is Verdict.DIVERGED for replay in replays)
    equal = len(replays) - len(failed)
    reached = [-1 if replay.level is None else REPLAY_LEVELS.index(replay.level) for replay in replays]
    lowest = min(reached, default=-1)
    verdict = Verdict.DIVERGED if diverged else Verdict.EQUIVALENT if failed else Verdict.IDENTICAL
    if not replays:
        verdict = Verdict.UNVERIFIABLE
    first = failed[0].first_difference if failed else None
    reason = f"{equal} of {len(replays)} predictions have the logged bits" if replays else "no predictions are logged"
    return ReplayBatch(
        endpoint=endpoint,
        n=len(replays),
        bit_equal=equal,
        within_tolerance=len(failed) - diverged,
        diverged=diverged,
        level=None if lowest < 0 else REPLAY_LEVELS[lowest],
        verdict=verdict,
        first_difference=first,
        reason=reason if first is None else f"{reason}; first difference: {first.detail}",
        packages=tuple(sorted({one.package for one in logged})),
        failed=tuple(failed[:FAILED_MAX]),
    )


def _altered_log(endpoint: str, error: IntegrityError) -> ReplayBatch:
    first = FirstDifference(step=None, cause=Cause.RECORD, detail=f"the prediction log was altered: {error.message}")
    return ReplayBatch(
        endpoint=endpoint,
        n=0,
        bit_equal=0,
        within_tolerance=0,
        diverged=0,
        level=None,
        verdict=Verdict.DIVERGED,
        first_difference=first,
        reason=first.detail,
        packages=(),
    )


class _Replayer:
    """Loads each package once and replays the predictions that it gave."""

    def __init__(self, client: Client, folder: Path) -> None:
        self._client, self._folder = client, folder
        self._keys: list[VerifyKey] | None = None

    def replay(self, logged: Sequence[Prediction]) -> list[Replay]:
        """Replay in the order given."""
        groups: dict[tuple[str, str], list[int]] = {}
        for index, prediction in enumerate(logged):
            groups.setdefault((prediction.package, prediction.release), []).append(index)
        found: dict[int, Replay] = {}
        for members in groups.values():
            replays = self._replay_group([logged[index] for index in members])
            found |= dict(zip(members, replays, strict=True))
        return [found[index] for index in range(len(logged))]

    def _replay_group(self, logged: Sequence[Prediction]) -> list[Replay]:
        problem = self._untraced(logged[0])
        if problem is not None:
            return [_result(one, level="P0", first=problem, verdict=Verdict.DIVERGED) for one in logged]
        try:
            predictor = self._package(logged[0]).load()
        except EverlineError as error:
            first = FirstDifference(step=None, cause=Cause.PACKAGE, detail=error.message)
            return [_result(one, level="P0", first=first, verdict=Verdict.DIVERGED) for one in logged]
        return ask(predictor, logged)

    def _untraced(self, prediction: Prediction) -> FirstDifference | None:
        """Why the prediction cannot be traced to the release that brought its package, if it cannot."""
        try:
            version = self._client.models.get(prediction.model, prediction.version)
            self._client.releases.get(prediction.release)
        except NotFoundError as error:
            return FirstDifference(step=None, cause=Cause.RECORD, detail=error.message)
        if version.package != prediction.package:
            detail = (
                f"the log names the package {prediction.package}, but {prediction.model}/{prediction.version} "
                f"is {version.package}"
            )
            return FirstDifference(step=None, cause=Cause.PACKAGE, detail=detail)
        return None

    def _package(self, prediction: Prediction) -> Package:
        digest = prediction.package
        target = self._folder / digest.removeprefix("sha256:")
        package = fetch_package(digest, download=self._client.blobs.fetch, out_dir=target)
        version = self._client.models.get(prediction.model, prediction.version)
        if version.signature is None:
            raise IntegrityError(f"{prediction.model}/{prediction.version} is not signed.")
        envelope = msgspec.json.decode(self._client.blobs.get_bytes(version.signature))
        verify_package_signature(package.manifest_bytes, envelope, self._trusted())
        return package

    def _trusted(self) -> list[VerifyKey]:
        if self._keys is None:
            answer = self._client.call("GET", "/keys", returns=_Keys)
            self._keys = [VerifyKey.parse(key.public) for key in answer.keys]
        return self._keys


def ask(predictor: Predictor, logged: Sequence[Prediction]) -> list[Replay]:
    """Ask a loaded package the logged inputs again, and judge each answer."""
    names = [field.name for field in predictor.signature.inputs]
    try:
        _check_names(logged, names)
        answer = predictor.predict({name: [one.inputs[name] for one in logged] for name in names})
    except EverlineError as error:
        if len(logged) > 1:  # One bad row must not speak for the others.
            return [replay for one in logged for replay in ask(predictor, [one])]
        first = FirstDifference(
            step=None, cause=Cause.INPUTS, detail=f"the package refuses the inputs: {error.message}"
        )
        return [_result(logged[0], level="P1", first=first, verdict=Verdict.DIVERGED)]
    columns = {name: values.tolist() for name, values in answer.items()}
    return [_judge(one, {name: values[row] for name, values in columns.items()}) for row, one in enumerate(logged)]


def _check_names(logged: Sequence[Prediction], names: Sequence[str]) -> None:
    """Refuse rows whose inputs are not the package's; a segment may hold nulls for columns of another package."""
    for one in logged:
        given = {name for name, value in one.inputs.items() if value is not None or name in names}
        if given != set(names):
            wrong = ", ".join(sorted(given ^ set(names))[:5])
            raise InvalidInputError(f"the logged inputs of {one.prediction} do not fit its columns: {wrong}")


def _judge(logged: Prediction, replayed: Mapping[str, Any]) -> Replay:
    """Compare one logged answer with its replay, output by output."""
    worst: float | None = 0.0
    for name in sorted(logged.outputs.keys() | replayed.keys()):
        before, after = logged.outputs.get(name), replayed.get(name)
        if same_bits(before, after):
            continue
        difference = _relative(before, after)
        worst = None if difference is None or worst is None else max(worst, difference)
        if worst is None or worst > RELATIVE_MAX:
            detail = f"output {name}: {before!r} logged, {after!r} replayed from the logged inputs and package"
            first = FirstDifference(step=None, cause=Cause.OUTPUTS, detail=detail)
            return _result(
                logged, level="P1", first=first, verdict=Verdict.DIVERGED, replayed=replayed, difference=worst
            )
    if worst:
        first = FirstDifference(
            step=None, cause=Cause.ENVIRONMENT, detail=f"numbers differ by up to {worst:.1e} of themselves"
        )
        return _result(logged, level="P2", first=first, verdict=Verdict.EQUIVALENT, replayed=replayed, difference=worst)
    return _result(logged, level="P3", first=None, verdict=Verdict.IDENTICAL, replayed=replayed, difference=0.0)


def same_bits(before: Any, after: Any) -> bool:
    """Whether two values are the same, floating-point numbers by their 64 bits; a NaN is written as null.

    Example:
        >>> same_bits(0.1 + 0.2, 0.3), same_bits(0.5, 0.5), same_bits(0.0, -0.0)
        (False, True, False)
    """
    if isinstance(before, float) or isinstance(after, float):
        if isinstance(after, float) and math.isnan(after):
            return before is None or (isinstance(before, float) and math.isnan(before))
        if isinstance(before, bool) or isinstance(after, bool):
            return False
        if not isinstance(before, int | float) or not isinstance(after, int | float):
            return False
        return struct.pack("<d", before) == struct.pack("<d", after)
    return type(before) is type(after) and bool(before == after)


def _relative(before: Any, after: Any) -> float | None:
    numbers = [value for value in (before, after) if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != 2 or not all(math.isfinite(value) for value in numbers):
        return None
    scale = max(abs(value) for value in numbers)
    return abs(numbers[0] - numbers[1]) / scale if scale else 0.0


def _result(
    logged: Prediction,
    *,
    level: str,
    first: FirstDifference | None,
    verdict: Verdict,
    replayed: Mapping[str, Any] | None = None,
    difference: float | None = None,
) -> Replay:
    return Replay(
        prediction=logged.prediction,
        level=level,
        verdict=verdict,
        first_difference=first,
        reason=first.detail if first else "every replayed output has the logged bits",
        package=logged.package,
        release=logged.release,
        revision=logged.revision,
        endpoint=logged.endpoint,
        logged=logged.outputs,
        replayed=dict(replayed or {}),
        difference=difference,
    )
