"""The table of covered endpoints in docs/mlflow.md: complete, and no line of it invented.

That a test calls the endpoints that it is named for is checked where it runs, in `conftest.py`.
"""

from __future__ import annotations

import re
from collections import Counter

import httpx

from conftest import Server
from tests_support import mlflow_endpoints as endpoints


def test_the_table_lists_what_is_declared_each_endpoint_once():
    listed = Counter(row.endpoint for row in endpoints.rows())
    assert endpoints.declared().keys() - listed.keys() == set(), "declared, but not in the table of docs/mlflow.md"
    assert listed.keys() - endpoints.declared().keys() == set(), "in the table of docs/mlflow.md, but not declared"
    assert [endpoint for endpoint, times in listed.items() if times > 1] == []


def test_every_row_names_tests_that_there_are():
    known = endpoints.names_of_tests(endpoints.CONFORMANCE)
    for row in endpoints.rows():
        assert row.tests, f"no test is named for {row.endpoint}"
        assert set(row.tests) <= known, f"{row.endpoint} names a test that is not in tests/conformance"
    assert endpoints.tests_on_the_page() - known - endpoints.names_of_tests(endpoints.EXAMPLES) == set()


def test_every_endpoint_that_mlflow_publishes_is_covered_or_named_as_not_supported():
    covered = {endpoints.shape(row.endpoint) for row in endpoints.rows()}
    assert len(endpoints.published()) > 100
    for endpoint in sorted(endpoints.published()):
        told = (endpoints.shape(endpoint) in covered) + endpoints.is_unsupported(endpoint)
        assert told == 1, f"docs/mlflow.md must name {endpoint} once: in the table, or below 'Not supported'"


def test_what_is_not_supported_says_so(mlflow_server: Server) -> None:
    absent = {endpoint for endpoint in endpoints.published() if endpoints.is_unsupported(endpoint)}
    absent |= {f"{method} {path}" for path in endpoints.unsupported() for method in ("GET", "POST")}
    with httpx.Client(base_url=mlflow_server.url) as client:
        for endpoint in sorted(absent):
            method, path = re.sub(r"{[^}]*}", "x", endpoint).split(" ")
            answer = client.request(method, path)
            assert (answer.status_code, answer.json()["error_code"]) == (501, "NOT_IMPLEMENTED"), endpoint
            assert answer.json()["message"].startswith(f"{method} {path} is not supported"), endpoint
