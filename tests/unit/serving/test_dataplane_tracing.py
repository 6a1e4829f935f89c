"""Spans of requests: in the caller's trace, named by the route, with what answered."""

import doctest

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from everline.serving.dataplane import tracing
from everline.serving.dataplane.http.messages import Reply, Request
from everline.serving.dataplane.tracing import Tracing


def test_examples_hold():
    assert doctest.testmod(tracing).failed == 0


def test_a_request_is_a_span_of_its_callers_trace():
    exporter, replies = InMemorySpanExporter(), []
    traced = Tracing(exporter)
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    headers = {b"traceparent": f"00-{trace}-{parent}-01".encode(), b"authorization": b"Bearer evk_secret"}
    asked = Request(b"POST", b"/v2/models/prices/infer", headers, b"{}")
    told = b"everline-request: r1\r\neverline-revision: 0192\r\n"
    traced.watch(asked, replies.append)(Reply(200, b"{}", told))
    strange = {b"traceparent": b"nonsense"}
    traced.watch(Request(b"GET", b"/some/secret", strange), replies.append)(Reply(503, b"{}"))
    traced.close()
    first, second = exporter.get_finished_spans()
    assert [reply.status for reply in replies] == [200, 503]
    assert (first.name, first.kind) == ("POST /v2/models/{endpoint}/infer", SpanKind.SERVER)
    assert (f"{first.context.trace_id:032x}", f"{first.parent.span_id:016x}") == (trace, parent)
    assert dict(first.attributes) == {
        "http.request.method": "POST", "http.route": "/v2/models/{endpoint}/infer", "everline.endpoint": "prices",
        "http.response.status_code": 200, "everline.request": "r1", "everline.revision": "0192",
    }  # fmt: skip
    assert first.end_time >= first.start_time
    assert (second.name, second.parent, second.status.status_code) == ("GET /{unknown}", None, StatusCode.ERROR)
    assert "secret" not in str(first.attributes) + str(second.attributes)
