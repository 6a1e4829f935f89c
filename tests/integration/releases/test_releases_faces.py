"""Releases through server, client and command line, as people with tokens."""

import io
import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from everline.access.types import Actor, Role
from everline.cli import app as cli
from everline.errors import ConflictError, ForbiddenError, InvalidInputError, UnavailableError
from everline.sdk.client import Client
from tests_support.registry import attest, register


@pytest.fixture
def people(server, app, tokens):
    """Clients of maya, who made the model, and of ravi, who approves; and the version."""
    maya = Client(server.url, token=tokens("maya", Role.CONTRIBUTOR))
    ravi = Client(server.url, token=tokens("ravi", Role.APPROVER))
    author = next(user for user in Client(server.url).access.list_users() if user.name == "maya")
    with app.begin(Actor(uid=author.uid, name="maya", roles={"default": frozenset({Role.CONTRIBUTOR})})) as uow:
        version = register(uow)
        attest(uow, version)
    return maya, ravi, version


def run(server, *arguments, token=None, capsys):
    code = cli.run([*arguments, "--url", server.url, *(["--token", token] if token else [])])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_walk_over_http_survives_kill_9_and_answers_for_the_past(server, people):
    maya, ravi, version = people
    release = maya.releases.create("flight-delay", "flight-delay", "latest")
    assert release.state == "awaiting_approval"
    with pytest.raises(ForbiddenError):
        maya.releases.approve(release.uid)
    ravi.releases.approve(release.uid, meaning="validator", reason="fine")
    server.kill()
    server.start()
    promoted = ravi.releases.promote(release.uid)
    assert promoted.state == "promoted"
    assert [one.release for one in maya.endpoints.get("flight-delay").revisions] == [release.uid]
    (live,) = maya.releases.at(datetime.now(UTC), endpoint="flight-delay")
    assert (live.package, live.approvals[0].person_name) == (version.package, "ravi")
    assert maya.releases.at(datetime(2020, 1, 1, tzinfo=UTC)) == []
    assert [one.uid for one in maya.releases.list(state="promoted")] == [release.uid]
    events = ravi.audit.list(action="release.refuse")
    assert [event.actor_name for event in events] == ["maya"]
    with pytest.raises(ConflictError):
        maya.releases.create("flight-delay", "flight-delay", 1)


def test_the_command_line_tells_the_same_story(server, people, capsys):
    maya, ravi, version = people
    code, out, _ = run(
        server, "release", "create", "flight-delay", "flight-delay", "1", "--json",
        token=maya.token, capsys=capsys,
    )  # fmt: skip
    uid = json.loads(out)["uid"]
    assert code == 0
    ravi_token = ravi.token
    code, out, _ = run(server, "release", "approve", uid, "--reason", "ok", token=ravi_token, capsys=capsys)
    assert code == 0
    assert "approved by ravi as reviewer" in out
    assert run(server, "release", "promote", uid, token=ravi_token, capsys=capsys)[0] == 0
    code, out, _ = run(server, "release", "show", uid, capsys=capsys)
    assert code == 0
    for words in ("promoted", "evaluation.metrics.auc = 0.71", "baseline", "flight-delay/1 to flight-delay"):
        assert words in out
    code, out, _ = run(server, "releases", "at", "now", "--endpoint", "flight-delay", capsys=capsys)
    assert code == 0
    assert "ravi (reviewer)" in out
    assert run(server, "release", "at", "2020-01-01", capsys=capsys)[0] == 1
    code, out, _ = run(server, "release", "list", "--json", capsys=capsys)
    assert [one["uid"] for one in json.loads(out)] == [uid]
    code, out, _ = run(server, "endpoints", "show", "flight-delay", capsys=capsys)
    assert "flight-delay/1 primary 100%" in out
    code, out, _ = run(server, "endpoints", "list", "--json", capsys=capsys)
    assert json.loads(out)[0]["name"] == "flight-delay"
    code, out, _ = run(server, "predictions", "list", "flight-delay", "--limit", "5", "--json", capsys=capsys)
    assert (code, json.loads(out)) == (0, [])
    code, _, err = run(server, "release", "rollback", "flight-delay", "--reason", "drill", capsys=capsys)
    assert code == 2
    assert "Nothing answered" in err
    code, _, err = run(server, "release", "show", "nothing", capsys=capsys)
    assert code == 2
    assert "no release" in err


def test_a_blocked_release_exits_1(server, people, app, capsys):
    with app.begin() as uow:
        register(uow, b"untested")
    code, out, _ = run(server, "release", "create", "flight-delay", "flight-delay", "2", capsys=capsys)
    assert code == 1
    assert "evaluation.metrics.auc = missing" in out
    assert "everline release check" in out


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/releases", {"endpoint": "x"}, 400),
        ("POST", "/releases", {"endpoint": "x", "model": "none", "version": 1}, 404),
        ("POST", "/releases", {"endpoint": "x", "model": "m", "version": 1, "plan": {"canary": 1}}, 400),
        ("POST", "/releases", {"endpoint": "x", "model": "m", "version": []}, 400),
        ("GET", "/releases/none", None, 404),
        ("GET", "/releases/0192f5c4-7d2e-7c31-9d7e-0a4b5c6d7e8f", None, 404),
        ("GET", "/releases/%00", None, 404),
        ("GET", "/releases?endpoint=%00", None, 400),
        ("GET", "/releases/at?time=2020-01-01&endpoint=%00", None, 404),
        ("GET", "/releases?state=nice", None, 400),
        ("GET", "/releases?cursor=nice", None, 400),
        ("GET", "/releases/at", None, 400),
        ("GET", "/releases/at?time=yesterday", None, 400),
        ("GET", "/releases/at?time=2999-01-01", None, 400),
        ("POST", "/releases/0192f5c4-7d2e-7c31-9d7e-0a4b5c6d7e8f/approve", {}, 404),
        ("POST", "/releases/0192f5c4-7d2e-7c31-9d7e-0a4b5c6d7e8f/rollback", {"why": ""}, 400),
        ("POST", "/releases/compare", {"endpoint": "x", "model": "m", "version": 1}, 400),
    ],
)
def test_bad_requests_answer_what_is_wrong(client, method, path, body, status):
    content = None if body is None else json.dumps(body).encode()
    response = client.transport.exchange(method, "/api/v1" + path, content=content)
    assert response.status == status
    assert response.json()["detail"]


class Answering(BaseHTTPRequestHandler):
    """What a data plane answers, as far as the client looks."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        rows = body.get("dataframe_records")
        status = 200 if self.path == "/endpoints/flight-delay/invocations" and rows else 400
        answer = {"predictions": [{"probability": 0.25}] * len(rows or []), "parameters": {"predictions": ["p"]}}
        content = json.dumps(answer if status == 200 else {"error": "no such column"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def test_predict_sends_records_and_shows_answers(client, monkeypatch, capsys):
    listening = HTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    monkeypatch.setenv("EVERLINE_SERVE_URL", f"http://127.0.0.1:{listening.server_address[1]}")
    try:
        assert client.predictions.predict("flight-delay", {"distance": 1})["predictions"] == [{"probability": 0.25}]
        assert len(client.predictions.predict("flight-delay", [{"a": 1}, {"a": 2}])["predictions"]) == 2
        with pytest.raises(InvalidInputError, match="no such column"):
            client.predictions.predict("other", [{"a": 1}])
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"distance": 1}\n{"distance": 2}\n')))
        home = str(client.settings.home)
        assert cli.run(["predict", "flight-delay", "--input", "-", "--home", home]) == 0
        assert "probability=0.25" in capsys.readouterr().out
        for nonsense in (b"", b"[]", b"3", b"{", b"[1]", b"\xff"):
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(nonsense)))
            assert cli.run(["predict", "flight-delay", "--input", "-", "--home", home]) == 2
    finally:
        listening.shutdown()
        listening.server_close()
    with pytest.raises(UnavailableError, match="No data plane"):
        client.predictions.predict("flight-delay", [{"a": 1}])


def test_the_document_describes_every_route(client):
    paths = client.transport.exchange("GET", "/api/v1/openapi.json").json()["paths"]
    assert {"/api/v1/releases", "/api/v1/releases/{uid}/promote", "/api/v1/dataplane/state", "/api/v1/feedback"} <= set(
        paths
    )
