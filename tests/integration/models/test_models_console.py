"""The console's pages of models: versions of MLflow clients, their files, and aliases as they were."""

from __future__ import annotations

from datetime import timedelta

from everline.models import aliases, registry
from everline.runs import artifacts, service, tracking
from everline.runs.types import Metric


def test_a_model_of_an_mlflow_client_shows_its_metrics_files_and_aliases(browser, begin) -> None:
    with begin() as uow:
        run = service.create_run(uow, "default", name="fit").run
        tracking.log_batch(uow, "default", run, metrics=[Metric(key="auc", value=0.8125, at_ms=1)])
        artifacts.put_artifact(uow, "default", run, "model/MLmodel", digest=uow.blobs.put_bytes(b"flavors: {}"))
        root = service.get_run(uow, "default", run).artifact_uri
        registry.create_model(uow, "default", "flights", description="Predicts **late** flights.")
        for _ in range(2):
            registry.create_version_from_source(uow, "default", "flights", source=f"{root}/model", run=run)
        registry.create_version_from_source(uow, "default", "flights", source="s3://elsewhere/x", run="f" * 32)
        aliases.set_alias(uow, "default", "flights", alias="champion", version=1)
    with begin() as uow:
        moved_at = uow.clock.now()
        aliases.set_alias(uow, "default", "flights", alias="champion", version=2)
    page = browser.get("/models/flights").text
    for text in ("<strong>late</strong>", "0.8125", "@champion", "version 3"):
        assert text in page
    assert "flavors: {}" in browser.get("/models/flights/1/files", params={"path": "MLmodel"}).text
    version = browser.get("/models/flights/1").text
    assert "everline models package flights 1" in version and "everline release create" not in version
    assert browser.get("/models/flights/1/files/content", params={"path": "MLmodel"}).content == b"flavors: {}"
    assert "s3://elsewhere/x" in browser.get("/models/flights/3/files").text
    for before, words in ((1, "it pointed at nothing"), (-1, "in the future")):
        moment = (moved_at - timedelta(days=before)).isoformat().replace("+00:00", "Z")
        answer = browser.get("/models/flights/aliases/champion", params={"at": moment})
        assert words in answer.text
    then = browser.get("/models/flights/aliases/champion", params={"at": moved_at.isoformat()}).text
    assert "version 1</a>" in then
    assert "until" in then
