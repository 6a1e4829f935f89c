"""The door of a rebuild: a script reaches the control plane through it, and changes nothing there but its own runs.

    with Door(client, reproduces=run) as door:
        subprocess.run([python, "train.py"], env=os.environ | door.variables)
    door.made      ['01a21dbb39ed7184a00ddde620a09ee9']

A script that is run once more would register its model again and move the alias that an endpoint follows. So the door,
a listener on loopback that lives as long as the rebuild, lets everything be read, lets runs be started (they get the
tag `everline.reproduces`), logged to and ended, and answers what would change the registry as if it had happened.
Anything else is refused. The script speaks to it with a token that is good for nothing else, and never learns ours.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlencode

from everline.errors import EverlineError, ForbiddenError
from everline.pipelines.types import REPRODUCES_TAG
from everline.sdk.client import Client
from everline.sdk.transport import Answer, Content

_MEMORY_BYTES_MAX = 4 << 20
_PIECE_BYTES = 1 << 20
_NOT_FORWARDED = frozenset(
    {"host", "authorization", "connection", "content-length", "transfer-encoding", "accept-encoding", "keep-alive",
     "te", "upgrade", "proxy-authorization", "date", "server"}
)  # fmt: skip
_MLFLOW = re.compile(r"/(?:ajax-)?api/[234]\.0/mlflow/")
_FILES = re.compile(r"/(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts/")
_READS = frozenset({
    "runs/search", "experiments/search", "experiments/search-datasets", "logged-models/search",
    "registered-models/get-latest-versions", "artifacts/presigned-download-url",
})  # fmt: skip
_NATIVE = "/api/v1/"
_NATIVE_READS = frozenset({"runs/search", "blobs/missing"})
_HELD_FROM = 1_000_000
_OF_A_VERSION = ("source", "run_id", "model_id", "tags", "description")
_RUN_NAMES = ("run_id", "run_uuid", "runId", "runUuid")


class Asked(NamedTuple):
    """One request of the script.

    Attributes:
        path: decoded, without the query.
        fields: the body, if it is a JSON object.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    fields: dict[str, Any]


class Door:
    """A listener on loopback for one rebuild at a time; a context manager.

    Attributes:
        made: the runs that were started through it, in order.
        refused: what was asked and not done, one sentence each.
    """

    def __init__(self, client: Client, *, reproduces: str) -> None:
        self._client = client
        self._reproduces = reproduces
        self._models: set[str] = set()
        self._held: dict[tuple[str, str], dict[str, Any]] = {}
        self.made: list[str] = []
        self.refused: list[str] = []
        self.token = secrets.token_urlsafe(32)
        door = self

        class Handler(_Handler):
            opened = door

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="everline-door", daemon=True)

    @property
    def variables(self) -> dict[str, str]:
        """What leads a process's MLflow and Everline clients here."""
        return {
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_REGISTRY_URI": self.url,
            "MLFLOW_TRACKING_TOKEN": self.token,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # Large files in parts are sent to addresses of the server itself, past the door.
            "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
            "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
            "EVERLINE_URL": self.url,
            "EVERLINE_TOKEN": self.token,
        }

    def answer(self, method: str, target: str, *, headers: Mapping[str, str], body: Content) -> Answer:
        """What the script is told; the control plane is asked if it may be."""
        path, _, query = target.partition("?")
        asked = Asked(method, unquote(path), parse_qs(query), _fields(headers, body))
        try:
            mlflow = _MLFLOW.match(asked.path)
            if mlflow is not None:
                held = self._registry(asked, asked.path[mlflow.end() :])
                if held is not None:
                    return _json(held)
            self._check(asked)
            body = self._marked(asked, body)
            found = self._forward(method, path, query, headers=headers, body=body)
        except EverlineError as error:
            return _refusal(error, asked.path)
        if not found.is_error:
            self._remember(asked, found)
        return found

    def _check(self, asked: Asked) -> None:
        """Refuse what is neither a look nor a change of what this rebuild made itself."""
        if asked.method in ("GET", "HEAD"):
            return
        mlflow, files = _MLFLOW.match(asked.path), _FILES.match(asked.path)
        if mlflow is not None:
            allowed = self._may_call(asked, asked.path[mlflow.end() :])
        elif files is not None:
            allowed = not {*self.made, *self._models}.isdisjoint(asked.path[files.end() :].split("/"))
        elif asked.path.startswith(_NATIVE):
            allowed = self._may_call_ours(asked, asked.path.removeprefix(_NATIVE))
        else:
            allowed = False
        if not allowed:
            what = f"{asked.method} {asked.path[:200]}"
            self.refused.append(what)
            raise ForbiddenError(
                f"A rebuild changes nothing but its own run, so this was not done: {what}.",
                hint="Put what changes the world into a script of its own, or behind a switch.",
            )

    def _may_call(self, asked: Asked, call: str) -> bool:
        if call in _READS or call in ("runs/create", "experiments/create"):
            return True
        named = [str(asked.fields[name]) for name in _RUN_NAMES if name in asked.fields]
        if call.startswith("runs/"):
            return bool(named) and all(one in self.made for one in named)
        if call == "logged-models":
            source = str(asked.fields.get("source_run_id") or "")
            return not source or source in self.made
        if call.startswith("logged-models/"):
            return call.split("/")[1] in self._models
        return False

    def _may_call_ours(self, asked: Asked, call: str) -> bool:
        if call in _NATIVE_READS or (call == "runs" and asked.method == "POST"):
            return True
        if call.startswith("blobs/") and asked.method == "PUT":
            return True  # named by its digest: nothing that exists is changed
        return call.startswith("runs/") and call.split("/")[1] in self.made and asked.method != "DELETE"

    def _marked(self, asked: Asked, body: Content) -> Content:
        """The body of a run's start with the tag that says what it rebuilds."""
        if asked.method != "POST":
            return body
        if asked.path == f"{_NATIVE}runs":
            tags = asked.fields.get("tags") or {}
            return json.dumps(asked.fields | {"tags": tags | {REPRODUCES_TAG: self._reproduces}}).encode()
        if _MLFLOW.match(asked.path) and asked.path.endswith("/mlflow/runs/create"):
            tags = [one for one in asked.fields.get("tags") or [] if one.get("key") != REPRODUCES_TAG]
            tags.append({"key": REPRODUCES_TAG, "value": self._reproduces})
            return json.dumps(asked.fields | {"tags": tags}).encode()
        return body

    def _remember(self, asked: Asked, answer: Answer) -> None:
        if asked.method != "POST":
            return
        if asked.path.endswith("/mlflow/runs/create"):
            self._add(answer.json()["run"]["info"]["run_id"])
        elif asked.path == f"{_NATIVE}runs":
            self._add(answer.json()["run"])
        elif asked.path.endswith("/mlflow/logged-models"):
            self._models.add(answer.json()["model"]["info"]["model_id"])

    def _add(self, run: str) -> None:
        if run not in self.made:
            self.made.append(run)

    def _registry(self, asked: Asked, call: str) -> dict[str, Any] | None:
        """The answer to what would change the registry, and to looks at what would then be there; else None."""
        if not call.startswith(("registered-models/", "model-versions/")) or call in _READS:
            return None
        fields = asked.fields or {name: values[0] for name, values in asked.query.items()}
        name, version = str(fields.get("name", "")), str(fields.get("version", ""))
        now = int(time.time() * 1000)
        model: dict[str, Any] = {"name": name, "creation_timestamp": now, "last_updated_timestamp": now}
        if asked.method in ("GET", "HEAD"):
            held = self._held.get((name, version))
            if held is None:
                return None
            return {"artifact_uri": held["source"]} if call.endswith("get-download-uri") else {"model_version": held}
        if call == "model-versions/create":
            version = str(_HELD_FROM + len(self._held))
            held = {**model, "version": version, "status": "READY", "current_stage": "None", "source": ""}
            self._held[name, version] = held | {key: fields[key] for key in _OF_A_VERSION if key in fields}
        if call.startswith("model-versions/"):
            return {"model_version": self._held.get((name, version), {**model, "version": version})}
        return {"registered_model": model}

    def _forward(self, method: str, path: str, query: str, *, headers: Mapping[str, str], body: Content) -> Answer:
        kept = {name: value for name, value in headers.items() if name.lower() not in _NOT_FORWARDED}
        if self._client.token:
            kept["Authorization"] = f"Bearer {self._client.token}"
        if path.startswith(_NATIVE):
            asked = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
            query = urlencode(asked | {"project": self._client.project})
        elif self._client.project != "default":
            kept["X-MLflow-Workspace"] = self._client.project
        target = f"{path}?{query}" if query else path
        return self._client.transport.exchange(method, target, headers=kept, content=body or None)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


class _Handler(BaseHTTPRequestHandler):
    """One connection of the script."""

    protocol_version = "HTTP/1.1"
    opened: Door

    def _any(self) -> None:
        body = self._body()
        if body is None:
            self.close_connection = True
            self._say(_refusal(ForbiddenError("A request with a body of no known length is not read."), self.path))
            return
        said = self.headers.get("Authorization", "")
        if not hmac.compare_digest(said.encode(), f"Bearer {self.opened.token}".encode()):
            self._say(_refusal(ForbiddenError("This address is open to one rebuild only."), self.path))
            return
        try:
            self._say(self.opened.answer(self.command, self.path, headers=dict(self.headers.items()), body=body))
        finally:
            if not isinstance(body, bytes):
                body.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815 - the names it looks for

    def _body(self) -> Content | None:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunks()
        try:
            left = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            return None
        if left <= _MEMORY_BYTES_MAX:
            return self.rfile.read(left)
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the caller
        while left > 0 and (piece := self.rfile.read(min(left, _PIECE_BYTES))):
            file.write(piece)
            left -= len(piece)
        file.seek(0)
        return file

    def _chunks(self) -> BinaryIO | None:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the caller
        while True:
            try:
                size = int(self.rfile.readline(32).partition(b";")[0], 16)
            except ValueError:
                file.close()
                return None
            file.write(self.rfile.read(size))
            self.rfile.readline(2)
            if size == 0:
                file.seek(0)
                return file

    def _say(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name not in _NOT_FORWARDED:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has there
        """Say nothing: what a script asks is no news."""


def _fields(headers: Mapping[str, str], body: Content) -> dict[str, Any]:
    kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    if not isinstance(body, bytes) or not body or ("json" not in kind and not body.startswith(b"{")):
        return {}
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(error: EverlineError, path: str) -> Answer:
    if path.startswith(_NATIVE):
        return _json(error.problem(), status=error.status)
    code = "PERMISSION_DENIED" if isinstance(error, ForbiddenError) else "TEMPORARILY_UNAVAILABLE"
    return _json({"error_code": code, "message": error.message}, status=error.status)


def _json(value: Any, *, status: int = 200) -> Answer:
    content = json.dumps(value).encode()
    return Answer(status, reason="", headers={"content-type": "application/json"}, content=content)
