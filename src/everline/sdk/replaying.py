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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from everline.errors import EverlineError, IntegrityError, InvalidInputError, NotFoundError
from everline.governance.signing import VerifyKey
from everline.loader import load
from everline.models.package import Package, Predictor, fetch_package
from everline.models.signature import check_columns
from everline.models.signing import verify_package_signature
from everline.reproduction.tolerance import RELATIVE_MAX
from everline.reproduction.types import REPLAY_LEVELS, Cause, FirstDifference, Replay, ReplayBatch, Verdict
from everline.sdk.client import Client
from everline.serving.types import Prediction

if TYPE_CHECKING:
    import pyarrow as pa

FAILED_MAX = 100
SAMPLE_MAX = 100_000
_NOTHING_LOGGED = "no predictions are logged"


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
        return _Replayer(client, Path(folder)).replay(logged)


def explain_one(client: Client, prediction: str) -> dict[str, Any]:
    """What each input contributed to a prediction; see `client.predictions.explain`."""
    logged: Prediction = client.predictions.get(prediction)
    with tempfile.TemporaryDirectory(prefix="everline-explain-") as folder:
        predictor = _Replayer(client, Path(folder)).predictor(logged)
        names = [field.name for field in predictor.signature.inputs]
        _check_names([logged], names)
        call = check_columns(predictor.signature, {name: [logged.inputs[name]] for name in names})
        return predictor.explain(call) | {"prediction": prediction, "inputs": {n: logged.inputs[n] for n in names}}


def replay_many(client: Client, endpoint: str, *, sample: int) -> ReplayBatch:
    """Replay the newest predictions of an endpoint, package by package, in one call each."""
    if not 1 <= sample <= SAMPLE_MAX:
        raise InvalidInputError(f"The sample must be 1 to {SAMPLE_MAX}.", field="sample")
    try:
        logged: pa.Table = client.predictions.window(endpoint, limit=sample)
    except IntegrityError as error:
        return _altered_log(endpoint, error)
    with tempfile.TemporaryDirectory(prefix="everline-replay-") as folder:
        failed = _Replayer(client, Path(folder)).replay_columns(endpoint, logged)
    diverged = sum(replay.verdict is Verdict.DIVERGED for replay in failed)
    equal = logged.num_rows - len(failed)
    reached = [-1 if replay.level is None else REPLAY_LEVELS.index(replay.level) for replay in failed]
    lowest = min(reached, default=REPLAY_LEVELS.index("P3"))
    verdict = Verdict.DIVERGED if diverged else Verdict.EQUIVALENT if failed else Verdict.IDENTICAL
    if not logged.num_rows:
        verdict, lowest = Verdict.UNVERIFIABLE, -1
    first = failed[0].first_difference if failed else None
    reason = f"{equal} of {logged.num_rows} predictions have the logged bits" if logged.num_rows else _NOTHING_LOGGED
    return ReplayBatch(
        endpoint=endpoint,
        n=logged.num_rows,
        bit_equal=equal,
        within_tolerance=len(failed) - diverged,
        diverged=diverged,
        level=None if lowest < 0 else REPLAY_LEVELS[lowest],
        verdict=verdict,
        first_difference=first,
        reason=reason if first is None else f"{reason}; first difference: {first.detail}",
        packages=tuple(sorted(set(logged["package"].to_pylist()))),
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
        self._loaded: dict[str, Predictor] = {}

    def replay(self, logged: Prediction) -> Replay:
        """Replay one prediction."""
        return self._replay_group([logged])[0]

    def replay_columns(self, endpoint: str, logged: pa.Table) -> list[Replay]:
        """Replay many, each package in one call; only those that did not come out bit-equal are told, newest first."""
        failed: list[Replay] = []
        for rows in grouped(logged, ("package", "release", "runtime")):
            first = prediction_of(endpoint, self._client.project, rows.slice(0, 1).to_pylist()[0])
            equal = None if self._untraced(first) else self._equal_rows(first, rows)
            others = rows if equal is None else rows.filter(load("numpy").invert(equal))
            found = [prediction_of(endpoint, self._client.project, row) for row in others.to_pylist()]
            failed += [one for one in self._replay_group(found) if one.level != "P3"] if found else []
        return sorted(failed, key=lambda one: one.prediction, reverse=True)

    def _equal_rows(self, first: Prediction, rows: pa.Table) -> Any:
        """Which rows come out with the logged bits; None if the package does not load or refuses them as they are."""
        try:
            predictor = self.predictor(first)
            answer = ask_columns(predictor, rows, runtime=_runtime_here(predictor, first))
        except EverlineError:
            return None  # asked one by one, each row says what is wrong with it
        return same_columns(rows, answer)

    def _replay_group(self, logged: Sequence[Prediction]) -> list[Replay]:
        problem = self._untraced(logged[0])
        if problem is not None:
            return [_result(one, level="P0", first=problem, verdict=Verdict.DIVERGED) for one in logged]
        try:
            predictor = self.predictor(logged[0])
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

    def predictor(self, prediction: Prediction) -> Predictor:
        """The package that answered, fetched, verified and loaded."""
        if prediction.package not in self._loaded:
            self._loaded[prediction.package] = self._package(prediction).load()
        return self._loaded[prediction.package]

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
    """Ask a loaded package the logged inputs again, by the runtime that answered first, and judge each answer.

    Args:
        logged: predictions of one package and one runtime.
    """
    names = [field.name for field in predictor.signature.inputs]
    try:
        _check_names(logged, names)
        answer = predictor.predict(
            {name: [one.inputs[name] for one in logged] for name in names}, _runtime_here(predictor, logged[0])
        )
    except EverlineError as error:
        if len(logged) > 1:  # One bad row must not speak for the others.
            return [replay for one in logged for replay in ask(predictor, [one])]
        first = FirstDifference(
            step=None, cause=Cause.INPUTS, detail=f"the package refuses the inputs: {error.message}"
        )
        return [_result(logged[0], level="P1", first=first, verdict=Verdict.DIVERGED)]
    columns = {name: values.tolist() for name, values in answer.items()}
    return [_judge(one, {name: values[row] for name, values in columns.items()}) for row, one in enumerate(logged)]


def _runtime_here(predictor: Predictor, logged: Prediction) -> str | None:
    """The runtime that answered; where it is not installed, whichever is: what it answers is compared all the same."""
    return logged.runtime if logged.runtime in predictor.runtimes else None


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


def grouped(table: pa.Table, by: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of a table that share the values of some columns, group by group."""
    pc = load("pyarrow.compute")
    keys = table.select(list(by)).group_by(list(by)).aggregate([]).to_pylist()
    for key in keys:
        wanted = None
        for name, value in key.items():
            same = pc.equal(table[name], value)
            wanted = same if wanted is None else pc.and_(wanted, same)
        yield table.filter(wanted)


def prediction_of(endpoint: str, project: str, row: Mapping[str, Any]) -> Prediction:
    """A row of a window as a prediction."""
    inputs, outputs = (
        {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}
        for prefix in ("in.", "out.")
    )
    own = {name: row[name] for name in Prediction.__struct_fields__ if name in row}
    request = row["request"] or ""
    return Prediction(**{**own, "request": request}, endpoint=endpoint, project=project, inputs=inputs, outputs=outputs)


def ask_columns(predictor: Predictor, rows: pa.Table, *, runtime: str | None = None) -> dict[str, Any]:
    """Ask a package the logged inputs of a window, all at once.

    Args:
        runtime: which of its runtimes shall answer; None takes the one that it would choose itself.

    Raises:
        InvalidInputError: the window has other inputs than the package takes.
    """
    names = [field.name for field in predictor.signature.inputs]
    given = {name.removeprefix("in.") for name in rows.column_names if name.startswith("in.")}
    surplus = [name for name in given - set(names) if rows[f"in.{name}"].null_count < rows.num_rows]
    wrong = sorted({*surplus, *(name for name in names if name not in given)})
    if wrong:
        raise InvalidInputError(f"The logged inputs do not fit the package's columns: {', '.join(wrong[:5])}.")
    return predictor.predict({name: _values(rows[f"in.{name}"]) for name in names}, runtime)


def _values(column: pa.ChunkedArray) -> Any:
    """A column as a call takes it: numbers without nulls as they lie in memory, else one value after the other."""
    plain = column.null_count == 0 and load("pyarrow").types.is_float64(column.type)
    return column.to_numpy() if plain else column.to_pylist()


def same_columns(rows: pa.Table, answer: Mapping[str, Any]) -> Any:
    """For each row of a window, whether every output has the logged bits; shape (n,)."""
    numpy = load("numpy")
    equal = numpy.ones(rows.num_rows, dtype=bool)
    logged = {name.removeprefix("out."): name for name in rows.column_names if name.startswith("out.")}
    for name in logged.keys() | answer.keys():
        if name not in answer:
            equal &= numpy.array([value is None for value in rows[logged[name]].to_pylist()])
        elif name not in logged:
            equal[:] = False
        else:
            equal &= _same_values(rows[logged[name]], answer[name])
    return equal


def _same_values(logged: pa.ChunkedArray, answer: Any) -> Any:
    numpy = load("numpy")
    if logged.null_count == 0 and load("pyarrow").types.is_float64(logged.type) and answer.dtype == numpy.float64:
        return logged.to_numpy().view(numpy.int64) == answer.view(numpy.int64)  # a NaN is never logged: it is a null
    pairs = zip(logged.to_pylist(), answer.tolist(), strict=True)
    return numpy.fromiter((same_bits(before, after) for before, after in pairs), bool, len(logged))


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
