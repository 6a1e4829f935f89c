"""A control plane small enough to be trusted in a test of the data plane: real HTTP, real keys, no database.

It serves desired state, blobs and its public key, and keeps the segments and health reports it is sent. A
test plays the attacker or the outage by changing `blobs`, `statements` or `down`.
"""

from __future__ import annotations

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from everline.canonical import canonical_json
from everline.governance.signing import SigningKey, dsse_sign
from everline.ids import digest_bytes, new_uid
from everline.models.package import Package, store_package
from everline.models.signing import sign_package
from everline.serving.types import DesiredEndpoint, DesiredRevision, DesiredState, Guard, Health, RevisionRole

_LOOK_S = 0.02


class ControlPlaneSimulator:
    """Starts on a free loopback port; use it as a context manager.

    Attributes:
        down: while True every request is answered 503.
        refuse_segments: while set, segments are answered with this status.
        blobs: by digest; change a value to play the attacker.
        held: digests of blobs that are not handed out before `let_go`; `waiting` counts who waits for one.
        segments: the Parquet bodies that were acknowledged, by digest.
    """

    def __init__(self) -> None:
        self.key = SigningKey.generate()
        self.blobs: dict[str, bytes] = {}
        self.segments: dict[str, bytes] = {}
        self.segment_posts = 0
        self.reports: list[Health] = []
        self.down = False
        self.held: set[str] = set()
        self.waiting = 0
        self.refuse_segments = 0
        self._changed = threading.Condition()
        self._state = DesiredState(generation=1, endpoints=[])
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_LOOK_S,), daemon=True)

    def __enter__(self) -> ControlPlaneSimulator:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def put(self, data: bytes) -> str:
        """Keep a blob; return its digest."""
        digest = digest_bytes(data)
        self.blobs[digest] = data
        return digest

    def release(
        self,
        package: Package,
        *,
        version: int = 1,
        role: RevisionRole = RevisionRole.PRIMARY,
        share: float = 1.0,
        **said: Any,
    ) -> DesiredRevision:
        """Store and sign a package and decide its release.

        Args:
            said: `endpoint`, `project`, `release`, `properties` or `digest` as the signed statement
                shall say it, where that differs from the truth.
        """
        store_package(package, put_bytes=self.put, put_file=lambda path: self.put(path.read_bytes()))
        name = f"flight-delay/{version}"
        signature = self.put(canonical_json(sign_package(package, self.key, name=name)))
        release = new_uid()
        subject = said.pop("digest", package.digest).removeprefix("sha256:")
        predicate = {
            "verifier": {"id": "everline"},
            "timeVerified": "2013-04-01T00:00:00Z",
            "properties": ["EVERLINE_RELEASED"],
            "endpoint": "flight-delay",
            "project": "default",
            "release": release,
        }
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": name, "digest": {"sha256": subject}}],
            "predicateType": "https://in-toto.io/attestation/svr/v0.1",
            "predicate": predicate | said,
        }
        return DesiredRevision(
            revision=new_uid(),
            model="flight-delay",
            version=version,
            package=package.digest,
            signature=signature,
            share=share,
            role=role,
            release=release,
            statement=dsse_sign(self.key, "application/vnd.in-toto+json", canonical_json(statement)),
        )

    def serve(self, *revisions: DesiredRevision, endpoint: str = "flight-delay", guard: Guard = Guard.REJECT) -> int:
        """Make these the revisions of the one endpoint; return the generation."""
        return self.desire(
            DesiredEndpoint(endpoint=endpoint, project="default", guard=guard, revisions=list(revisions))
        )

    def desire(self, *endpoints: DesiredEndpoint) -> int:
        """Make these the endpoints and answer who waits for newer state; return the generation."""
        with self._changed:
            self._state = DesiredState(generation=self._state.generation + 1, endpoints=list(endpoints))
            self._changed.notify_all()
            return self._state.generation

    def state(self, known: int, wait_s: float) -> DesiredState:
        """The desired state, once it is another than `known` or the time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self._state.generation != known, timeout=wait_s)
            return self._state

    def let_go(self) -> None:
        """Hand out what was held."""
        with self._changed:
            self.held.clear()
            self._changed.notify_all()

    def hold(self, digest: str) -> None:
        """Wait while a blob is held."""
        if digest in self.held:
            with self._changed:
                self.waiting += 1
                self._changed.wait_for(lambda: digest not in self.held, timeout=60)
                self.waiting -= 1

    def predictions(self) -> list[dict[str, Any]]:
        """All logged rows that were shipped, in the order of their ids."""
        tables = [pq.read_table(io.BytesIO(body)) for body in list(self.segments.values())]
        rows = [row for table in tables for row in table.to_pylist()]
        return sorted(rows, key=lambda row: str(row["prediction"]))

    def schemas(self) -> list[pa.Schema]:
        """The schemas of the segments that were shipped."""
        return [pq.read_schema(io.BytesIO(body)) for body in self.segments.values()]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A data plane that was killed leaves a broken connection: nothing to say about it."""


def _handler(simulator: ControlPlaneSimulator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            if simulator.down:
                self._answer(503, b"{}")
            elif url.path == "/api/v1/dataplane/state":
                state = simulator.state(int(query.get("generation", "0")), float(query.get("wait_s", "0")))
                self._answer(200, msgspec.json.encode(state))
            elif url.path == "/api/v1/keys":
                self._answer(200, msgspec.json.encode({"keys": [{"public": simulator.key.public_text}]}))
            elif url.path.startswith("/api/v1/blobs/") and url.path.rpartition("/")[2] in simulator.blobs:
                simulator.hold(url.path.rpartition("/")[2])
                self._answer(200, simulator.blobs[url.path.rpartition("/")[2]])
            else:
                self._answer(404, b'{"code":"not_found","detail":"There is no such thing."}')

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path = urlsplit(self.path).path
            if simulator.down:
                self._answer(503, b"{}")
            elif path == "/api/v1/dataplane/health":
                simulator.reports.append(msgspec.json.decode(body, type=Health))
                self._answer(200, b"{}")
            elif path == "/api/v1/dataplane/segments":
                simulator.segment_posts += 1
                if not simulator.refuse_segments:
                    simulator.segments[digest_bytes(body)] = body
                self._answer(simulator.refuse_segments or 201, b"{}")
            else:
                self._answer(404, b"{}")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: tests print what matters."""

    return Handler
