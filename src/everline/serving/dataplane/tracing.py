"""OpenTelemetry spans of requests, in the caller's trace where one comes along; loaded only when a setting asks for it.

Where spans go is said by OpenTelemetry's own variables, such as `OTEL_EXPORTER_OTLP_ENDPOINT`; they are sent from a
thread of their own, and thrown away when nobody takes them.

Source: W3C Trace Context; OpenTelemetry semantic conventions for HTTP server spans.
"""

from __future__ import annotations

import os
import time
from typing import Any

from everline.loader import require
from everline.serving.dataplane.http.messages import Answering, Reply, Request

_EXTRA = "otel"
_CARRIED = ("traceparent", "tracestate")
_TOLD = {
    b"everline-request": "everline.request",
    b"everline-revision": "everline.revision",
    b"everline-release": "everline.release",
    b"everline-model-version": "everline.model_version",
}


class Tracing:
    """Makes a span of each request."""

    def __init__(self, exporter: Any = None) -> None:
        """Send spans.

        Args:
            exporter: where to; None for OTLP over HTTP, as the environment says.

        Raises:
            MissingExtraError: OpenTelemetry is not installed.
        """
        self._trace = require("opentelemetry.trace", extra=_EXTRA)
        sdk = require("opentelemetry.sdk.trace", extra=_EXTRA)
        exporting = require("opentelemetry.sdk.trace.export", extra=_EXTRA)
        resources = require("opentelemetry.sdk.resources", extra=_EXTRA)
        self._propagator = require(
            "opentelemetry.trace.propagation.tracecontext", extra=_EXTRA
        ).TraceContextTextMapPropagator()
        if exporter is None:
            exporter = require("opentelemetry.exporter.otlp.proto.http.trace_exporter", extra=_EXTRA).OTLPSpanExporter()
        name = os.environ.get("OTEL_SERVICE_NAME", "everline-serve")
        self._provider = sdk.TracerProvider(resource=resources.Resource.create({"service.name": name}))
        self._provider.add_span_processor(exporting.BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("everline.serving")

    def watch(self, request: Request, reply: Answering) -> Answering:
        """Pass a reply on, and end the request's span."""
        carrier = {name: value for name in _CARRIED if (value := request.header(name.encode())) is not None}
        route, endpoint = route_of(request.path)
        method = request.method.decode("latin-1")
        began_ns = time.time_ns() - (time.perf_counter_ns() - request.started_ns)
        attributes: dict[str, Any] = {"http.request.method": method, "http.route": route}
        if endpoint is not None:
            attributes["everline.endpoint"] = endpoint
        span = self._tracer.start_span(
            f"{method} {route}",
            context=self._propagator.extract(carrier),
            kind=self._trace.SpanKind.SERVER,
            attributes=attributes,
            start_time=began_ns,
        )

        def answered(said: Reply) -> None:
            reply(said)
            span.set_attribute("http.response.status_code", said.status)
            for line in said.lines.split(b"\r\n"):
                name, _, value = line.partition(b": ")
                if name in _TOLD:
                    span.set_attribute(_TOLD[name], value.decode("latin-1"))
            if said.status >= 500:
                span.set_status(self._trace.StatusCode.ERROR)
            span.end()

        return answered

    def close(self) -> None:
        """Send what waits, and end."""
        self._provider.shutdown()


def route_of(path: bytes) -> tuple[str, str | None]:
    """The address that a path belongs to, with the endpoint's name taken out, and that name.

    Example:
        >>> route_of(b"/v2/models/prices/versions/3/infer")
        ('/v2/models/{endpoint}/versions/{version}/infer', 'prices')
        >>> route_of(b"/metrics")
        ('/metrics', None)
    """
    match path.decode("utf-8", "replace").strip("/").split("/"):
        case ["v2", "models", name, "versions", _, *rest]:
            return "/".join(("/v2/models/{endpoint}/versions/{version}", *rest[:1])), name
        case ["v2", "models", name, *rest]:
            return "/".join(("/v2/models/{endpoint}", *rest[:1])), name
        case ["endpoints", name, *rest]:
            return "/".join(("/endpoints/{endpoint}", *rest[:1])), name
        case ["v2", *_] | ["health" | "metrics" | "ping" | "version" | "invocations" | "grpc"]:
            return path.decode("utf-8", "replace")[:64], None
    return "/{unknown}", None
