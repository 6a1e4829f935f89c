"""MLflow's own client manages webhooks and its receivers are told, over a server process on both databases."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient
from mlflow.entities.webhook import WebhookEvent, WebhookStatus
from mlflow.exceptions import MlflowException

from everline.testing.webhook_receiver import WebhookReceiver

SECRET = "shared"  # noqa: S105 - a test's own


def test_a_webhook_lives_and_is_told(mlflow_client: MlflowClient, unique: str) -> None:
    with WebhookReceiver() as receiver:
        made = mlflow_client.create_webhook(
            unique,
            url=receiver.url,
            events=["registered_model.created", "model_version_alias.created"],
            description="ci",
            secret=SECRET,
        )
        assert (made.name, made.status, made.description, made.secret) == (unique, WebhookStatus.ACTIVE, "ci", None)
        assert made.events == [
            WebhookEvent.from_str("registered_model.created"),
            WebhookEvent.from_str("model_version_alias.created"),
        ]
        done = mlflow_client.test_webhook(made.webhook_id, event="model_version_alias.created")
        assert (done.success, done.response_status, done.response_body) == (True, 200, "seen")
        mlflow_client.create_registered_model(unique)
        played, told = receiver.wait(2)
        assert played.message["data"] == {"name": "example_model", "alias": "example_alias", "version": "1"}
        assert told.message["data"] == {"name": unique, "tags": {}, "description": ""}
        assert played.is_signed_with(SECRET) and told.is_signed_with(SECRET)
    changed = mlflow_client.update_webhook(made.webhook_id, status="DISABLED", name=f"{unique}-b")
    assert (changed.name, changed.status, changed.url) == (f"{unique}-b", WebhookStatus.DISABLED, made.url)
    assert not mlflow_client.test_webhook(made.webhook_id).success  # nobody listens any more
    assert made.webhook_id in [one.webhook_id for one in mlflow_client.list_webhooks()]
    page = mlflow_client.list_webhooks(max_results=1)
    assert len(page) == 1
    mlflow_client.delete_webhook(made.webhook_id)
    with pytest.raises(MlflowException, match="not found") as caught:
        mlflow_client.get_webhook(made.webhook_id)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


@pytest.mark.parametrize(
    ("name", "url", "events", "code"),
    [
        ("-bad", "https://example.com", ["model_version.created"], "INVALID_PARAMETER_VALUE"),
        ("good", "ftp://example.com", ["model_version.created"], "INVALID_PARAMETER_VALUE"),
        ("good", "https://example.com", [], "INVALID_PARAMETER_VALUE"),
        ("good", "https://example.com", ["prompt.created"], "NOT_IMPLEMENTED"),
    ],
)
def test_a_wrong_webhook_is_refused(
    mlflow_client: MlflowClient, name: str, url: str, events: list[str], code: str
) -> None:
    with pytest.raises(MlflowException) as caught:
        mlflow_client.create_webhook(name, url=url, events=events)
    assert caught.value.error_code == code
