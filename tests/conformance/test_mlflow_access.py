"""Who may do what, through MLflow's own ways of saying who one is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from conftest import Server
from everline.access import service as access
from everline.access.types import LOCAL, Role
from everline.server.application import Application


def test_a_token_decides_what_the_client_may(
    server: Server, tokens: Callable[[str, Role | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(server.url)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", tokens("maya", Role.CONTRIBUTOR))
    run = client.create_run("0").info.run_id
    client.log_metric(run, "auc", 0.7)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", tokens("vera", Role.VIEWER))
    assert client.get_run(run).data.metrics == {"auc": 0.7}
    with pytest.raises(MlflowException, match=r"run\.write") as refused:
        client.log_metric(run, "auc", 0.8)
    assert refused.value.error_code == "PERMISSION_DENIED"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", tokens("nora", None))
    with pytest.raises(MlflowException) as hidden:
        client.get_run(run)
    assert hidden.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "evl_wrong")
    with pytest.raises(MlflowException) as unknown:
        client.get_run(run)
    assert unknown.value.error_code == "UNAUTHENTICATED"


def test_a_name_and_a_password_do_as_well(server: Server, app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    with app.begin(LOCAL) as uow:
        access.create_user(uow, "maya", password="correct horse battery")
        access.grant_role(uow, "maya", role=Role.CONTRIBUTOR, project="default")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "maya")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct horse battery")
    assert MlflowClient(server.url).create_run("0").info.status == "RUNNING"
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(MlflowException) as caught:
        MlflowClient(server.url).create_run("0")
    assert caught.value.error_code == "UNAUTHENTICATED"
