"""The data plane's own code in this process, without a socket: what an endpoint would answer, bit for bit.

Requests are the protocol's JSON and go through everything that one over HTTP goes through: reading, the signature's
checks, the model's thread, the prediction log (in a folder that is gone afterwards) and writing.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from everline.config import Settings
from everline.errors import EverlineError, from_problem
from everline.models.package import Predictor
from everline.serving.dataplane.app import DataPlaneApp, Told
from everline.serving.dataplane.following import Reporter
from everline.serving.dataplane.forms.ask import DATATYPES
from everline.serving.dataplane.http.messages import Reply, Request
from everline.serving.dataplane.log.raw_segments import PredictionLog
from everline.serving.dataplane.metrics import Metrics, RevisionStats
from everline.serving.dataplane.routing import RoutingTable, ServedRevision, route
from everline.serving.dataplane.standing import Standing
from everline.serving.dataplane.store import LocalStore
from everline.serving.types import DesiredEndpoint, DesiredRevision, Guard, RevisionRole

_NAME = "scored"


class OnlinePath:
    """Asks one loaded package as the data plane would; the caller has verified it.

    Use it in a `with` statement; it is not for several threads.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._signature = predictor.signature
        settings = Settings()
        self._rows_max = settings.request_rows_max
        self._folder = tempfile.TemporaryDirectory(prefix="everline-online-")
        store, metrics = LocalStore(Path(self._folder.name)), Metrics()
        self._log = PredictionLog(
            store.spool,
            segment_bytes_max=settings.raw_segment_bytes_max,
            segment_s=settings.raw_segment_s,
            spool_bytes_max=settings.spool_bytes_max,
        )
        source = Standing(_table(predictor, metrics), trouble="a package is asked in this process")
        reporter = Reporter(
            source, store, report=lambda health: None, address="", every_s=1.0, on_spool_bytes=self._log.measured
        )
        told = Told(health=reporter.health, metrics=metrics.text)
        self._app = DataPlaneApp(settings, source=source, prediction_log=self._log, metrics=metrics, told=told)
        # A thread of its own: whoever asks may be in an event loop already, as a notebook is.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="everline-online")
        self._runner = asyncio.Runner()

    def ask(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Answer one request of at most `request_rows_max` rows; values come back as JSON brings them.

        Raises:
            EverlineError: what the endpoint would have refused the request with.
        """
        rows = len(next(iter(columns.values()), ()))
        types = {field.name: DATATYPES[field.type] for field in self._signature.inputs}
        body = {
            "inputs": [
                {"name": name, "datatype": types.get(name, "BYTES"), "shape": [rows], "data": list(values)}
                for name, values in columns.items()
            ]
        }
        status, content = self._thread.submit(self._runner.run, self._send(msgspec.json.encode(body))).result()
        answer = msgspec.json.decode(content)
        if status != 200:
            raise _refused(answer, status)
        return {output["name"]: output["data"] for output in answer["outputs"]}

    async def _send(self, body: bytes) -> tuple[int, bytes]:
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._app.handle(Request(b"POST", f"/v2/models/{_NAME}/infer".encode(), {}, body), answered.set_result)
        reply = await answered
        return reply.status, reply.body

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()
        self._app.close()
        detached = self._log.detach()
        if detached is not None:
            os.close(detached[0])  # without waiting for the disk: nobody will read it
        self._folder.cleanup()


def _table(predictor: Predictor, metrics: Metrics) -> RoutingTable:
    revision = DesiredRevision(
        revision="00000000-0000-7000-8000-000000000000",
        model=_NAME,
        version=1,
        package=predictor.package.digest,
        signature="",
        share=1.0,
        role=RevisionRole.PRIMARY,
        release="",
        statement={},
    )
    endpoint = DesiredEndpoint(endpoint=_NAME, project="default", guard=Guard.REJECT, revisions=[revision])
    stats = RevisionStats(metrics, endpoint=_NAME, revision=revision.revision)
    served = ServedRevision(desired=revision, stats=stats, predictor=predictor)
    return RoutingTable(generation=0, endpoints=[route(endpoint, [served], before=None)])


def _refused(answer: Mapping[str, Any], status: int) -> EverlineError:
    return from_problem({"detail": answer.get("error"), "code": answer.get("code")}, status=status)
