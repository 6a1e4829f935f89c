"""Aliases, their past, deletion and webhooks through the command line and the client, embedded."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from everline.cli import app as cli
from everline.config import Settings
from everline.errors import NotFoundError
from everline.sdk.client import Client
from everline.server.application import Application
from everline.serving import service as serving
from everline.testing.webhook_receiver import WebhookReceiver
from tests_support.registry import register


@pytest.fixture
def command(client: Client, settings: Settings, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> tuple[int, Any]:
        code = cli.run([*arguments, "--home", str(settings.home), "--json"])
        out = capsys.readouterr()
        return code, json.loads(out.out) if out.out.strip() else out.err

    return run


def test_aliases_and_their_past_on_the_command_line(app: Application, client: Client, command: Any) -> None:
    with app.begin() as uow:
        register(uow, b"1")
        register(uow, b"2")
    assert command("models", "set-alias", "flight-delay", "@candidate", "1")[1]["version"] == 1
    client.models.set_alias("flight-delay", "candidate", 2)
    moves = client.models.alias_moves("flight-delay", "@candidate")
    assert [move.version for move in moves] == [2, 1]
    assert client.models.alias("flight-delay", "candidate", at=moves[1].at).version == 1
    code, shown = command("models", "alias", "flight-delay", "@candidate", "--at", moves[1].at.isoformat())
    assert (code, shown["held"]["version"], len(shown["moves"])) == (0, 1, 2)
    code, said = command("models", "alias", "flight-delay", "@candidate", "--at", "2020-03-03")
    assert code == 2 and "pointed at nothing" in said
    code, said = command(
        "models", "alias", "flight-delay", "@candidate", "--at", str(datetime.now(UTC) + timedelta(days=2))
    )
    assert code == 2 and "future" in said
    code, said = command("models", "follow", "flight-delay", "@live", "nowhere")
    assert code == 2 and "There is no endpoint" in said
    with app.begin() as uow:
        serving.create_endpoint(uow, "flight-delay", project="default")
    followed = command("models", "follow", "flight-delay", "@live", "flight-delay")[1]
    assert followed["following"] == {"live": "flight-delay"} and "live" not in followed["aliases"]
    assert "follows the endpoint" in command("models", "set-alias", "flight-delay", "@live", "1")[1]
    assert command("models", "unfollow", "flight-delay", "@live")[0] == 0
    assert command("models", "delete-alias", "flight-delay", "@candidate")[0] == 0
    assert command("models", "delete", "flight-delay", "2")[0] == 0
    assert [one.version for one in client.models.versions("flight-delay")] == [1]
    assert command("models", "delete", "flight-delay")[0] == 0
    with pytest.raises(NotFoundError):
        client.models.model("flight-delay")


def test_webhooks_on_the_command_line(
    client: Client, command: Any, monkeypatch: pytest.MonkeyPatch, app: Application
) -> None:
    monkeypatch.setenv("EVERLINE_WEBHOOK_PRIVATE", "true")
    monkeypatch.setenv("CI_SECRET", "of the receiver")
    with WebhookReceiver() as receiver:
        created = ("webhooks", "create", "ci", receiver.url, "--event", "model_version.created")
        made = command(*created, "--secret-env", "CI_SECRET")[1]
        assert made["signed"] and made["events"] == ["model_version.created"] and "secret" not in made
        uid = made["webhook"]
        assert command("webhooks", "test", uid) == (0, {"success": True, "status": 200, "body": "seen", "error": None})
        assert receiver.received[0].is_signed_with("of the receiver")
        receiver.answers.append(500)
        assert command("webhooks", "test", uid, "--event", "model_version_tag.set")[0] == 1
    changed = command("webhooks", "update", uid, "--status", "disabled", "--event", "registered_model.created")[1]
    assert (changed["status"], changed["events"], changed["signed"]) == ("disabled", ["registered_model.created"], True)
    assert [one.webhook for one in client.webhooks.list()] == [uid]
    assert command("webhooks", "show", uid)[1]["deliveries"] == []
    assert command("webhooks", "create", "ci", "https://example.com", "--event", "nothing")[0] == 2
    assert command("webhooks", "delete", uid)[0] == 0
    assert command("webhooks", "list")[1] == []
