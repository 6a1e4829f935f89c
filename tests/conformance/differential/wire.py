"""One script, two servers: what is called is written down with its answer, so that two records can be compared.

A script is a function of a `Wire`. Whatever a server makes up itself (numbers of experiments, uids, run names,
times) is replaced by a token in the record; everything else has to be the same to the letter.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
from typing import Any, NamedTuple

import httpx

API = "/api/2.0/mlflow/"
_TIMES = frozenset({
    "creation_time", "last_update_time", "creation_timestamp", "last_updated_timestamp", "creation_timestamp_ms",
    "last_updated_timestamp_ms",
})  # fmt: skip
_SETS = frozenset({"params", "tags", "metrics", "dataset_inputs", "model_inputs", "model_outputs", "events"})
_NUMBER_IN_TEXT = re.compile(r"((?:(?<!<)experiment|id|ID|mlflow-artifacts:)[ =:'/]*)(\d+)")


class Exchange(NamedTuple):
    """One call and its answer, with tokens for what the server made up."""

    call: str
    status: int
    kind: str
    body: Any


class Wire:
    """A server, and the record of what was said to it."""

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url, name
        self.record: list[Exchange] = []
        self._client = httpx.Client(base_url=url, timeout=60)
        self._tokens: dict[str, str] = {}
        self._runs = 0
        self._made = 0
        self._numbers: dict[str, str] = {}
        self._experiments = 0

    def close(self) -> None:
        """Let the connections go."""
        self._client.close()

    def call(self, method: str, path: str, *, shown: Any = None, **options: Any) -> Any:
        """Send one request and write it down; a path without a leading slash is below `/api/2.0/mlflow/`."""
        response = self._client.request(method, path if path.startswith("/") else API + path, **options)
        kind = response.headers.get("content-type", "").split(";")[0]
        body = response.json() if kind == "application/json" and response.content else response.text
        said = shown or {key: _shown(value) for key, value in options.items() if key != "headers"}
        call = f"{method} {path} {json.dumps(self._tidy(said), sort_keys=True, ensure_ascii=False)}"
        self.record.append(Exchange(_shown(self._clean(call)), response.status_code, kind, self._tidy(body)))
        return body

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        """POST JSON; bytes go as they are."""
        if body is None:
            return self.call("POST", path, **options)
        # Not httpx's encoder: NaN has to be able to go out as browsers and R write it.
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return self.call("POST", path, shown=body if isinstance(body, dict) else None, content=content, headers=headers)

    def get(self, path: str, query: Any = None, **options: Any) -> Any:
        """GET with a query."""
        return self.call("GET", path, params=query, **options)

    def experiment(self, name: str = "", **fields: Any) -> str:
        """Create an experiment of this script's own; return its number."""
        return self.know_number(self.post("experiments/create", {"name": f"{self.name} {name}".strip(), **fields}))

    def run(self, experiment: str, **fields: Any) -> str:
        """Create a run that started in the first second of 1970; return its uid."""
        return self.know_run(self.post("runs/create", {"experiment_id": experiment, "start_time": 1, **fields}))

    def know_number(self, made: Any) -> str:
        """Give a created experiment's number a token; one that was refused is number 404."""
        self._experiments += 1
        if "experiment_id" not in made:
            return "404"
        number = str(made["experiment_id"])
        self._numbers[number] = f"<experiment {self._experiments}>"
        self.record[-1] = self.record[-1]._replace(body=self._tidy(self.record[-1].body))
        return number

    def know_run(self, made: Any) -> str:
        """Give a created run's uid, and its name if the server made it up, a token; one that was refused is 404."""
        self._runs += 1
        if "run" not in made:
            return "404"
        info = made["run"]["info"]
        return self._know(str(info["run_id"]), f"<run {self._runs}>", name=info.get("run_name", ""))

    def know_model(self, made: Any) -> str:
        """Give a created logged model's uid, and its name if the server made it up, a token; a refused one is m-404."""
        self._made += 1
        if "model" not in made:
            return "m-404"
        info = made["model"]["info"]
        return self._know(str(info["model_id"]), f"<model {self._made}>", name=info.get("name", ""))

    def know_webhook(self, made: Any) -> str:
        """Give a created webhook's uid a token; one that was refused is 404."""
        self._made += 1
        if "webhook" not in made:
            return "404"
        return self._know(str(made["webhook"]["webhook_id"]), f"<webhook {self._made}>")

    def _know(self, uid: str, token: str, *, name: str = "") -> str:
        self._tokens[uid] = token
        if re.fullmatch(r"[a-z]+-[a-z]+-\d{1,3}", name):
            self._tokens[name] = "<random name>"
        self.record[-1] = self.record[-1]._replace(body=self._tidy(self.record[-1].body))
        return uid

    def _clean(self, text: str) -> str:
        for made, token in self._tokens.items():
            if made in text:
                text = text.replace(made, token)
        return _NUMBER_IN_TEXT.sub(lambda hit: hit[1] + self._numbers.get(hit[2], hit[2]), text)

    def _tidy(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            # MLflow's own server does not know who made a version.
            unsaid = {"user_id"} if "current_stage" in value else set()
            return {name: self._tidy(item, name) for name, item in value.items() if name not in unsaid}
        if isinstance(value, list):
            items = [self._tidy(item, key if isinstance(item, str) else "") for item in value]
            if key in _SETS and _is_set(items):
                items.sort(key=lambda item: json.dumps(item, sort_keys=True))
            return items
        if key in _TIMES and isinstance(value, int) and abs(value / 1000 - time.time()) < 3600:
            return "<now>"
        if key == "next_page_token" and isinstance(value, str):
            with contextlib.suppress(ValueError):  # one that holds the search has the experiments' numbers in it
                return self._tidy(json.loads(base64.b64decode(value, validate=True)))
        if isinstance(value, str):
            return self._numbers.get(value, value) if key.startswith("experiment_id") else self._clean(value)
        return value


def _is_set(items: list[Any]) -> bool:
    """Whether order means nothing; it does in a history, which has one key and tells no model of its points."""
    if all(isinstance(item, dict) and {"run_id", "model_id"} <= item.keys() for item in items):
        return True
    keys = [item.get("key", json.dumps(item)) for item in items if isinstance(item, dict)]
    return len(set(keys)) == len(items)


def _shown(value: Any) -> Any:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return f"{text[:160]}… ({len(text)})" if isinstance(text, str) and len(text) > 200 else text
