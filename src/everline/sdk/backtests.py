"""Backtests through the client: the candidate is asked here, the comparison made by the server.

client.backtests.run("flight-delay/2", endpoint="flight-delay", since=monday).flipped
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from everline.errors import EverlineError, InvalidInputError
from everline.loader import load
from everline.reproduction.backtests.types import Backtest, BacktestReport
from everline.sdk.client import Client

Watch = Callable[[str], None]
ROWS = 100_000


class BacktestsApi:
    """Ask a candidate what was asked before."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def run(
        self,
        candidate: str,
        *,
        endpoint: str,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = ROWS,
        metric: str = "log_loss",
        slices: Sequence[str] = (),
        by_day: bool = True,
        certify: bool = True,
        watch: Watch = lambda message: None,
    ) -> BacktestReport:
        """Ask a candidate the logged inputs of an endpoint, and hold its answers against what was answered.

        Args:
            candidate: a model version: `name/version`, `name@alias`, or `name` for the newest.
            since, until: which predictions, by when they were answered; None for no bound.
            limit: at most so many, the newest.
            metric: `log_loss`, `error_rate` or `auc`, on the rows whose outcome is known.
            slices: inputs by whose values the comparison is divided, with intervals that allow for their number.
            by_day: take rows of one day as dependent.
            certify: have the result signed and attached to the candidate.

        Raises:
            NotFoundError: there is no such endpoint or version.
            InvalidInputError: nothing was logged in this span, or the candidate takes none of it.
            IntegrityError: the package or the log was altered.
        """
        name, _, version = candidate.partition("@" if "@" in candidate else "/")
        found = self._client.models.get(name, (f"@{version}" if "@" in candidate else version) or "latest")
        if found.package is None:
            raise InvalidInputError(
                f"{found.model}/{found.version} has no package to be asked.",
                hint="`everline models package` makes one of a model that MLflow logged.",
                field="candidate",
            )
        watch("reading the prediction log")
        rows = self._client.predictions.window(endpoint, since=since, until=until, limit=limit)
        if not rows.num_rows:
            raise InvalidInputError(
                f"{endpoint!r} answered nothing in this span.",
                hint="`everline predictions list` shows what is logged.",
                field="since",
            )
        watch(f"asking {found.model}/{found.version} {rows.num_rows:,} predictions again")
        with tempfile.TemporaryDirectory(prefix="everline-backtest-") as folder:
            outputs, asked, refused = _ask(self._client, found.package, Path(folder), rows)
        body = Backtest(
            endpoint=endpoint,
            model=found.model,
            version=found.version,
            predictions=asked,
            outputs=outputs,
            refused=refused,
            metric=metric,
            slices=list(slices),
            by_day=by_day,
            since=since,
            until=until,
            certify=certify,
        )
        watch("comparing")
        return self._client.call("POST", "/backtests", body=body, returns=BacktestReport)


def _ask(
    client: Client, digest: str, folder: Path, rows: Any
) -> tuple[dict[str, list[Any]], list[str], dict[str, str]]:
    """The candidate's answers, the predictions that it answered, and why it did not answer the others."""
    replaying = load("everline.sdk.replaying")
    package = load("everline.models.package").fetch_package(
        digest, download=client.blobs.fetch, out_dir=folder / digest.removeprefix("sha256:")
    )
    predictor = package.load()
    ids = rows["prediction"].to_pylist()
    try:
        answer = replaying.ask_columns(predictor, rows)
        return {name: values.tolist() for name, values in answer.items()}, ids, {}
    except EverlineError as error:
        if rows.num_rows == 1:
            return {}, [], {ids[0]: error.message}
    # One bad row must not speak for the others: halve until it is alone.
    outputs: dict[str, list[Any]] = {}
    asked: list[str] = []
    refused: dict[str, str] = {}
    waiting = [rows]
    while waiting:
        part = waiting.pop()
        try:
            answer = replaying.ask_columns(predictor, part)
        except EverlineError as error:
            if part.num_rows == 1:
                refused[part["prediction"][0].as_py()] = error.message
            else:
                half = part.num_rows // 2
                waiting += [part.slice(half), part.slice(0, half)]
            continue
        asked += part["prediction"].to_pylist()
        for name, values in answer.items():
            outputs.setdefault(name, []).extend(values.tolist())
    if not asked:
        raise InvalidInputError(
            f"The candidate takes none of the {rows.num_rows} logged inputs: {next(iter(refused.values()))}",
            hint="It may have been trained on other columns.",
            field="candidate",
        )
    return outputs, asked, refused
