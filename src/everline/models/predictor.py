"""A package in memory: which runtimes can answer for it, which one answers a request, and what that costs.

A model may be there twice: compiled (`onnx`) and as its framework has it (`native`). Which one answers depends on
nothing but the number of rows of the request, so that whoever asks the same again gets the same; the prediction log
names the runtime beside each answer.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from everline.errors import InvalidInputError
from everline.loader import load
from everline.models.signature import Array, Checked, check_columns, example_columns

if TYPE_CHECKING:
    from everline.models.package import Package

NATIVE = "native"
EXAMPLE_FILE = "input_example.json"
_COST_ROWS = 32
_COST_ROUNDS = 5


class LoadedModel(Protocol):
    """A model in memory, as one runtime has it."""

    rows_alone: bool
    """Whether it asks rows one by one, because its arithmetic depends on the rows beside them."""

    def predict(self, arrays: Mapping[str, Array], *, rows: int) -> dict[str, Array]:
        """Answer `rows` rows; each output has shape (rows,)."""


class Predictor:
    """A package that is loaded and answers calls; a runtime gives the same input the same bits, in a batch of any size.

    Attributes:
        runtimes: names of what can answer, the one for small requests first.
    """

    def __init__(
        self,
        package: Package,
        runtimes: Mapping[str, Callable[[], LoadedModel]],
        *,
        native_from_rows: int | None = None,
    ) -> None:
        """Take what can answer for a package.

        Args:
            runtimes: how to load each runtime, the first choice first; the first is loaded now, others when asked for.
            native_from_rows: from how many rows on the last of them answers; None means never.
        """
        self.package = package
        self.signature = package.manifest.signature
        self.runtimes = tuple(runtimes)
        self._native_from_rows = native_from_rows if len(runtimes) > 1 else None
        self._loaders = dict(runtimes)
        self._loading = Lock()
        self._explainer: Any = None
        self._models = {self.runtimes[0]: self._loaders[self.runtimes[0]]()}
        self._cost_us: dict[str, tuple[float, float]] = {}

    @property
    def rows_alone(self) -> bool:
        """Whether single rows gain nothing from being asked together: they are asked one by one all the same."""
        return self._models[self.runtimes[0]].rows_alone

    @property
    def cost_us(self) -> dict[str, tuple[float, float]]:
        """Microseconds per call and per row of each runtime in memory, measured when first asked for.

        Infinite where the package's own example cannot be answered.
        """
        for name in tuple(self._models):
            if name not in self._cost_us:
                self._cost_us[name] = self._measure(self._models[name])
        return self._cost_us

    def runtime_for(self, rows: int) -> str:
        """Which runtime answers a request of so many rows."""
        large = self._native_from_rows is not None and rows >= self._native_from_rows
        return self.runtimes[-1 if large else 0]

    def ready_runtime_for(self, rows: int) -> str:
        """The same among those that are in memory: while the chosen one is not, the first answers in its place."""
        wanted = self.runtime_for(rows)
        return wanted if wanted in self._models else self.runtimes[0]

    def prepare(self) -> None:
        """Load every runtime that a request of some number of rows chooses, and measure what it costs.

        Raises:
            MissingExtraError: a framework is not installed.
        """
        self._model(self.runtime_for(sys.maxsize))
        self.cost_us  # noqa: B018

    def predict(self, columns: Mapping[str, Sequence[Any] | Array], runtime: str | None = None) -> dict[str, Array]:
        """Check a call and answer it.

        Args:
            columns: one value per row under each input's name.
            runtime: which one shall answer; None takes `runtime_for` the rows.

        Returns:
            One array per output of the signature, one value per row.

        Raises:
            SignatureError: the call does not fit the signature.
            InvalidInputError: the package has no such runtime.
            MissingExtraError: the runtime's framework is not installed.
        """
        return self.predict_checked(check_columns(self.signature, columns), runtime)

    def predict_checked(self, call: Checked, runtime: str | None = None) -> dict[str, Array]:
        """Answer a call that was checked against this predictor's signature; see `predict`."""
        model = self._model(self.runtime_for(call.rows) if runtime is None else runtime)
        return model.predict(call.arrays, rows=call.rows)

    def explain(self, call: Checked) -> dict[str, Any]:
        """What each input contributed to each row's answer, as JSON; see `explaining.explainer.Explanation`.

        Exact for trees and linear models that are compiled, sampled for others.
        """
        with self._loading:
            if self._explainer is None:
                explaining = load("everline.models.explaining.explainer")
                compiled = self._models.get("onnx")
                self._explainer = explaining.explainer_of(
                    self.package.directory, self.signature, compiled=compiled, model=self._models[self.runtimes[0]]
                )
        explained: dict[str, Any] = msgspec.to_builtins(self._explainer.explain(call))
        return explained

    def _model(self, name: str) -> LoadedModel:
        found = self._models.get(name)
        if found is not None:
            return found
        if name not in self._loaders:
            raise InvalidInputError(
                f"The package {self.package.digest} has no runtime {name[:80]!r}.",
                hint=f"It has: {', '.join(self.runtimes)}.",
                field="runtime",
            )
        with self._loading:
            if name not in self._models:
                self._models[name] = self._loaders[name]()
        return self._models[name]

    def _measure(self, model: LoadedModel) -> tuple[float, float]:
        many = check_columns(self.signature, self._example()).arrays
        one = {name: array[:1] for name, array in many.items()}
        try:
            model.predict(many, rows=_COST_ROWS)
        except (ValueError, TypeError):  # an example that was made up may be nothing that the model can answer
            return math.inf, math.inf
        single = _fastest_us(lambda: model.predict(one, rows=1))
        whole = _fastest_us(lambda: model.predict(many, rows=_COST_ROWS))
        per_row = max(whole - single, 0.0) / (_COST_ROWS - 1)
        return max(single - per_row, 0.0), per_row

    def _example(self) -> dict[str, list[Any]]:
        """The rows that the package carries, in turn; else made-up ones."""
        try:
            said = (self.package.directory / EXAMPLE_FILE).read_bytes()
            columns = msgspec.json.decode(said, type=_Example).inputs
        except (OSError, msgspec.DecodeError):
            columns = {}
        if set(columns) != {field.name for field in self.signature.inputs} or not all(columns.values()):
            return example_columns(self.signature, rows=_COST_ROWS)
        return {name: list(islice(cycle(values), _COST_ROWS)) for name, values in columns.items()}


class _Example(msgspec.Struct, frozen=True):
    inputs: dict[str, list[Any]]


def _fastest_us(ask: Callable[[], object]) -> float:
    taken = []
    for _ in range(_COST_ROUNDS):
        started = time.perf_counter_ns()
        ask()
        taken.append(time.perf_counter_ns() - started)
    return min(taken) / 1000
