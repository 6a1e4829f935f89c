"""Logged predictions and their outcomes through the client."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from everline.clock import rfc3339
from everline.errors import InvalidInputError, UnavailableError
from everline.loader import load
from everline.sdk.client import Client
from everline.serving.types import FeedbackReceipt, Outcome, Prediction

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_DATA_PLANE = "http://127.0.0.1:4681"
_TIMEOUT_S = 30.0
_FORMS = frozenset({"dataframe_split", "dataframe_records", "instances", "inputs"})


class PredictionsApi:
    """The prediction log, and feedback about it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def predict(
        self,
        endpoint: str,
        rows: Sequence[Mapping[str, Any]] | Mapping[str, Any],
        *,
        serve_url: str | None = None,
        api_key: str | None = None,
    ) -> dict[str, Any]:
        """Ask an endpoint for predictions.

        Args:
            rows: records by column name, one record, or a whole body of MLflow's `/invocations`.
            serve_url: the data plane's address; None takes `EVERLINE_SERVE_URL`, else what the control plane
                knows, else http://127.0.0.1:4681.
            api_key: where the endpoint asks for one; None takes `EVERLINE_ENDPOINT_KEY`.

        Returns:
            `predictions` with one answer per row, and `parameters.predictions` with their ids.

        Raises:
            InvalidInputError: the endpoint does not take these rows; its own words say why.
            UnavailableError: no data plane answers.
        """
        base = serve_url or os.environ.get("EVERLINE_SERVE_URL") or self._client.endpoints.address(endpoint)
        base = (base or _DATA_PLANE).rstrip("/")
        if isinstance(rows, Mapping):
            body: Any = rows if _FORMS & rows.keys() else {"dataframe_records": [rows]}
        else:
            body = {"dataframe_records": [*rows]}
        headers = {"Content-Type": "application/json", "Everline-Project": self._client.project}
        secret = api_key or os.environ.get("EVERLINE_ENDPOINT_KEY")
        if secret:
            headers["Authorization"] = f"Bearer {secret}"
        try:
            response = httpx.post(
                f"{base}/endpoints/{endpoint}/invocations",
                content=msgspec.json.encode(body),
                headers=headers,
                timeout=_TIMEOUT_S,
            )
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"No data plane answers at {base} ({type(error).__name__}).",
                hint="Start one with `everline serve`, or name it with EVERLINE_SERVE_URL.",
            ) from error
        if response.is_error:
            raise _refusal(response)
        answer: dict[str, Any] = response.json()
        return answer

    def get(self, prediction: str) -> Prediction:
        """One prediction with its inputs, outputs and outcome."""
        return self._client.call("GET", f"/predictions/{prediction}", returns=Prediction)

    def log_feedback(
        self,
        endpoint: str,
        outcomes: Mapping[str, float | bool] | Iterable[Outcome],
        *,
        event_time: datetime | None = None,
    ) -> FeedbackReceipt:
        """Say how predictions turned out; at most 10,000 a call, and sending them again changes nothing.

        Args:
            outcomes: outcome by prediction id, or `Outcome`s.
            event_time: when the outcomes happened, for those given by id.
        """
        items: Iterable[Any] = outcomes
        if isinstance(outcomes, Mapping):
            when = None if event_time is None else rfc3339(event_time)
            items = ({"prediction": uid, "outcome": value, "event_time": when} for uid, value in outcomes.items())
        body = {"endpoint": endpoint, "items": [*items]}
        return self._client.call("POST", "/feedback", body=body, returns=FeedbackReceipt)

    def window(
        self,
        endpoint: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 10_000,
        shadow: bool = False,
    ) -> pa.Table:
        """The newest `limit` predictions that were answered in a span of time, as an Arrow table in id order.

        Args:
            shadow: what shadows said instead; `primary` names the prediction that was answered.

        Returns:
            One row a prediction: `prediction, at, event_time, revision, model, version, package, release, request, row,
            latency_us, runtime, role, primary, key`, `in.<name>` and `out.<name>` as typed by the signature, and
            `outcome` (null while unknown).
        """
        query = {
            "since": None if since is None else rfc3339(since),
            "until": None if until is None else rfc3339(until),
            "limit": limit,
            "shadow": "true" if shadow else None,
        }
        answer = self._client.send("GET", f"/api/v1/endpoints/{endpoint}/predictions.arrow", query=query)
        table: pa.Table = load("pyarrow").ipc.open_stream(answer.content).read_all()
        return table

    def relation(
        self,
        endpoint: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 1_000_000,
        shadow: bool = False,
    ) -> duckdb.DuckDBPyRelation:
        """The same as a DuckDB relation, to filter, group and join; in a connection of its own.

        Raises:
            MissingExtraError: DuckDB is not installed.
        """
        table = self.window(endpoint, since=since, until=until, limit=limit, shadow=shadow)
        relation: duckdb.DuckDBPyRelation = load("duckdb").connect().from_arrow(table)
        return relation

    def query(
        self,
        sql: str,
        endpoint: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 1_000_000,
    ) -> pa.Table:
        """Ask an endpoint's log in SQL: `predictions` is what it answered, `shadows` what its shadows said.

        The question runs in DuckDB in this process; only rows that the actor may read come here.

        Raises:
            InvalidInputError: the SQL is wrong; DuckDB's own words say where.
            MissingExtraError: DuckDB is not installed.
        """
        duckdb = load("duckdb")
        with duckdb.connect() as connection:
            for name, shadow in (("predictions", False), ("shadows", True)):
                table = self.window(endpoint, since=since, until=until, limit=limit, shadow=shadow)
                connection.register(name, table)
            try:
                found: pa.Table = connection.sql(sql).to_arrow_table()
            except (duckdb.Error, AttributeError) as error:  # a statement that answers nothing gives None
                why = "it answers nothing" if isinstance(error, AttributeError) else str(error)
                raise InvalidInputError(
                    f"The query cannot be answered: {why[:2000]}.",
                    hint='Columns with a dot are written in quotes: SELECT avg("out.probability") FROM predictions.',
                    field="sql",
                ) from None
        return found

    def explain(self, prediction: str) -> dict[str, Any]:
        """What each input contributed to a logged prediction, by SHAP's definitions.

        The package is fetched, verified and asked the logged inputs in this process.

        Returns:
            `method`, `output`, `scale`, `background`, `inputs`, and with one value each `base`, `values` (the sum),
            `contributions` by input and, if they are sampled, `standard_errors`.

        Raises:
            NotFoundError: there is no such prediction.
            IntegrityError: the package is not what the log names.
        """
        found: dict[str, Any] = load("everline.sdk.replaying").explain_one(self._client, prediction)
        return found

    def list(self, endpoint: str, *, limit: int = 100) -> list[Prediction]:
        """An endpoint's predictions, newest first."""
        return self._client.list_all(f"/endpoints/{endpoint}/predictions", kind=Prediction, limit=limit)


def _refusal(response: httpx.Response) -> InvalidInputError | UnavailableError:
    try:
        said = response.json()
    except ValueError:
        said = {}
    text = str(said.get("error") or said.get("detail") or said.get("message") or response.reason_phrase)
    if response.status_code >= 500:
        return UnavailableError(f"The data plane cannot answer: {text}", hint="`everline endpoints show` says more.")
    return InvalidInputError(f"The endpoint does not take this: {text}", hint=said.get("hint"), field=said.get("field"))
