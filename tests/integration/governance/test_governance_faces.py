"""Audit, policies and evidence through the client, the command line and a real server process."""

from __future__ import annotations

import json

import pytest

from everline.access.types import Role
from everline.cli.app import run
from everline.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from everline.governance.bundle import verify_bundle, verify_proof
from everline.governance.types import GateState
from everline.sdk.client import Client

VERSION = "model-version:0192"
POLICY = """
name = "strict"
title = "Stricter"
reason = "Company rule 12"
[[rules]]
name = "discriminates"
reason = "Below this the model does not pay for itself."
expression = "evaluation.metrics.auc >= 0.65"
[[cases]]
name = "good"
expect = "pass"
facts.evaluation.metrics.auc = 0.7
"""


def test_evidence_explanation_and_audit_through_the_client(client):
    client.policies.attach(VERSION, "evaluation", {"metrics": {"auc": 0.62, "calibration_error": 0.02}})
    [found] = client.policies.evidence(VERSION)
    assert found.body["metrics"]["auc"] == 0.62
    explanation = client.policies.explain(VERSION)
    assert explanation.gate is GateState.BLOCKED
    [event] = client.audit.list(action="evidence.attach")
    assert event.data["digest"] == found.digest
    assert client.audit.get(event.index) == event
    assert client.audit.verify().verified
    [key] = client.audit.keys()
    assert verify_proof(client.audit.prove(event.index), key.public) == event


def test_a_policy_is_saved_tested_activated_and_taken_back_through_the_client(client):
    assert [case.passed for case in client.policies.test_source(POLICY)] == [True]
    saved = client.policies.save(POLICY)
    assert not saved.active
    assert client.policies.activate("strict").active
    assert [case.passed for case in client.policies.test("strict")] == [True]
    assert {policy.name: policy.active for policy in client.policies.list()} == {"baseline": True, "strict": True}
    assert client.policies.get("strict", version=1).source == POLICY
    assert not client.policies.deactivate("strict", reason="too strict").active
    with pytest.raises(InvalidInputError, match=r"\^\^\^\^"):
        client.policies.save(POLICY.replace("evaluation.metrics", "evaluation.metricks"))
    with pytest.raises(ConflictError):
        client.policies.save(POLICY.replace("= 0.7", "= 0.6"))
        client.policies.activate("strict")
    with pytest.raises(NotFoundError):
        client.policies.get("absent")


def test_an_export_is_checked_without_the_server(client, tmp_path):
    for number in range(5):
        client.policies.attach(VERSION, "note", {"number": number})
    bundle = client.audit.export(tmp_path / "log.zip")
    [key] = client.audit.keys()
    assert verify_bundle(bundle, key.public).verified


def test_pages_of_the_log_follow_each_other(client):
    for number in range(7):
        client.policies.attach(VERSION, "note", {"number": number})
    page = client.call("GET", "/audit/events", query={"limit": 3}, returns=dict)
    assert [event["index"] for event in page["items"]] == [6, 5, 4]
    assert page["next"] == "4"
    assert [event.index for event in client.audit.list(limit=6)] == [6, 5, 4, 3, 2, 1]
    assert [event.index for event in client.audit.list(limit=50)] == [6, 5, 4, 3, 2, 1, 0]


def test_the_whole_way_on_the_command_line(client, settings, tmp_path, monkeypatch, capsys):
    home = ["--home", str(settings.home)]
    source, bundle, proof, key = (tmp_path / name for name in ("p.toml", "log.zip", "proof.json", "key.pub"))
    client.policies.attach(VERSION, "evaluation", {"metrics": {"auc": 0.62, "calibration_error": 0.02}})

    def answer(*arguments: str, code: int = 0):
        assert run([*arguments, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    assert [policy["name"] for policy in answer("policy", "list", *home)] == ["baseline"]
    source.write_text(POLICY)
    assert answer("policy", "test", str(source), *home)[0]["passed"]
    assert answer("policy", "save", str(source), "--activate", *home)["active"]
    explained = answer("policy", "explain", VERSION, *home, code=1)
    assert explained["gate"] == "blocked"
    assert run(["policy", "explain", VERSION, *home]) == 1
    text = capsys.readouterr().out
    assert "evaluation.metrics.auc = 0.62" in text
    assert "is missing" in text

    assert answer("audit", "verify", *home)["verified"]
    assert answer("audit", "log", *home)[0]["action"] == "policy.activate"
    key.write_text(answer("audit", "key", *home)[0]["public"])
    assert answer("audit", "export", str(bundle), *home)["bytes"] > 0
    assert answer("audit", "prove", "0", "--out", str(proof), *home)["index"] == 0

    # From here on as a stranger: no server, no home, no database.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("EVERLINE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert answer("audit", "verify", "--bundle", str(bundle), "--key", str(key))["size"] == 3
    assert answer("audit", "verify", "--proof", str(proof), "--key", key.read_text())["event"]["index"] == 0
    proof.write_text(proof.read_text().replace("evidence.attach", "evidence.detach"))
    assert not answer("audit", "verify", "--proof", str(proof), "--key", str(key), code=1)["verified"]
    bundle.write_bytes(bundle.read_bytes()[:-40])
    assert not answer("audit", "verify", "--bundle", str(bundle), "--key", str(key), code=1)["verified"]
    assert run(["audit", "verify", "--bundle", str(bundle)]) == 2
    assert run(["audit", "verify", "--bundle", str(elsewhere / "absent"), "--key", str(key)]) == 2
    assert list(elsewhere.iterdir()) == []


def test_a_wrong_policy_shows_the_caret_on_the_command_line(client, settings, tmp_path, capsys):
    source = tmp_path / "p.toml"
    source.write_text(POLICY.replace("metrics.auc >=", "metrics.acu >="))
    assert run(["policy", "save", str(source), "--home", str(settings.home)]) == 2
    shown = capsys.readouterr().err
    assert "Did you mean 'auc'?" in shown
    assert "                   ^^^" in shown


def test_events_survive_kill_minus_nine(server):
    with Client(server.url) as client:
        client.policies.attach(VERSION, "note", {"number": 1})
    server.kill()
    server.start()
    with Client(server.url) as client:
        assert [event.action for event in client.audit.list(action="evidence.")] == ["evidence.attach"]
        assert client.audit.verify().verified


def test_the_log_is_closed_to_those_without_the_role(app, settings, tokens, monkeypatch):
    monkeypatch.setenv("EVERLINE_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("EVERLINE_WORKER", "false")
    viewer, auditor = tokens("vera", Role.VIEWER), tokens("ines", Role.AUDITOR)
    with Client(home=settings.home, token=viewer) as client:
        for call in (client.audit.list, client.audit.verify, client.audit.checkpoint):
            with pytest.raises(ForbiddenError):
                call()
    with Client(home=settings.home, token=auditor) as client:
        assert client.audit.verify().verified
        with pytest.raises(ForbiddenError):
            client.policies.save(POLICY)
