"""Models as people log them: `log_model` and its addresses, autologging, `mlflow.models.evaluate`."""

from __future__ import annotations

from typing import Any

import lightgbm
import mlflow
import mlflow.lightgbm
import mlflow.sklearn
import mlflow.xgboost
import numpy as np
import pandas as pd
import pytest
import xgboost
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression, LogisticRegression

# These log a model whose requirements MLflow's client works out in a process of its own, for seconds.
ONCE = pytest.mark.parametrize("mlflow_server", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    random = np.random.default_rng(11)
    return pd.DataFrame(random.normal(size=(80, 3)), columns=["a", "b", "c"])


@pytest.fixture(scope="module")
def target(table: pd.DataFrame) -> pd.Series:
    return (table["a"] + table["b"] > 0).astype(int).rename("target")


@pytest.fixture
def chosen(mlflow_client: MlflowClient, experiment: str) -> str:
    """The experiment that the fluent API and autologging write to."""
    mlflow.set_experiment(experiment_id=experiment)
    return experiment


def test_a_registered_model_is_loaded_by_version_alias_and_run(
    mlflow_client: MlflowClient, chosen: str, unique: str, table: pd.DataFrame, target: pd.Series
) -> None:
    model = LogisticRegression().fit(table, target)
    signature = infer_signature(table, model.predict(table))
    with mlflow.start_run() as run:
        logged = mlflow.sklearn.log_model(
            model, name="model", signature=signature, registered_model_name=unique, pip_requirements=[]
        )
    mlflow_client.set_registered_model_alias(unique, "champion", "1")
    version = mlflow_client.get_model_version(unique, "1")
    assert logged.registered_model_version == "1"
    assert (version.run_id, version.source) == (run.info.run_id, f"models:/{logged.model_id}")
    addresses = [
        f"models:/{unique}/1",
        f"models:/{unique}@champion",
        f"runs:/{run.info.run_id}/model",
        logged.model_uri,
    ]
    for address in addresses:
        assert mlflow.sklearn.load_model(address).predict_proba(table).tolist() == model.predict_proba(table).tolist()
        assert mlflow.pyfunc.load_model(address).predict(table).tolist() == model.predict(table).tolist()
    info = mlflow.models.get_model_info(f"models:/{unique}@champion")
    assert info.signature == signature and set(info.flavors) == {"python_function", "sklearn"}


def test_a_second_version_takes_the_alias(
    mlflow_client: MlflowClient, chosen: str, unique: str, table: pd.DataFrame, target: pd.Series
) -> None:
    models = [LogisticRegression(C=strength).fit(table, target) for strength in (0.1, 10.0)]
    for number, model in enumerate(models, start=1):
        # No run: the logged model stands alone.
        mlflow.sklearn.log_model(model, name="model", registered_model_name=unique, pip_requirements=[])
        mlflow_client.set_registered_model_alias(unique, "champion", str(number))
        loaded = mlflow.sklearn.load_model(f"models:/{unique}@champion")
        assert loaded.coef_.tolist() == model.coef_.tolist()
    assert mlflow.sklearn.load_model(f"models:/{unique}/1").coef_.tolist() == models[0].coef_.tolist()


def only_run(client: MlflowClient, experiment: str) -> Any:
    (run,) = client.search_runs([experiment])
    assert run.info.status == "FINISHED"
    return run


def test_sklearn_autologging(mlflow_client: MlflowClient, chosen: str, table: pd.DataFrame, target: pd.Series) -> None:
    mlflow.sklearn.autolog(log_models=False)
    try:
        model = LogisticRegression(C=0.5).fit(table, target)
        score = model.score(table, target)
    finally:
        mlflow.sklearn.autolog(disable=True)
    run = only_run(mlflow_client, chosen)
    assert run.data.params["C"] == "0.5" and run.data.tags["estimator_name"] == "LogisticRegression"
    assert run.data.metrics["training_score"] == score == run.data.metrics["LogisticRegression_score_unknown_dataset"]
    files = {file.path for file in mlflow_client.list_artifacts(run.info.run_id)}
    assert {"estimator.html", "metric_info.json", "training_confusion_matrix.png"} <= files
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["dataset"]


@ONCE
def test_xgboost_autologging(
    mlflow_client: MlflowClient, chosen: str, unique: str, table: pd.DataFrame, target: pd.Series
) -> None:
    mlflow.xgboost.autolog(registered_model_name=unique)
    try:
        model = xgboost.XGBClassifier(n_estimators=4, max_depth=2, n_jobs=1)
        model.fit(table, target, eval_set=[(table, target)], verbose=False)
    finally:
        mlflow.xgboost.autolog(disable=True)
    run = only_run(mlflow_client, chosen)
    assert run.data.params["max_depth"] == "2"
    curve = mlflow_client.get_metric_history(run.info.run_id, "validation_0-logloss")
    assert [point.value for point in curve] == pytest.approx(model.evals_result()["validation_0"]["logloss"])
    files = {file.path for file in mlflow_client.list_artifacts(run.info.run_id)}
    assert {"feature_importance_weight.png", "feature_importance_weight.json"} <= files
    loaded = mlflow.pyfunc.load_model(f"models:/{unique}/1")
    assert loaded.predict(table).tolist() == model.predict(table).tolist()


@pytest.mark.drill
@ONCE
def test_lightgbm_autologging(
    mlflow_client: MlflowClient, chosen: str, unique: str, table: pd.DataFrame, target: pd.Series
) -> None:
    mlflow.lightgbm.autolog(registered_model_name=unique)
    try:
        data = lightgbm.Dataset(table, label=target)
        settings = {"objective": "binary", "num_leaves": 4, "verbose": -1, "num_threads": 1}
        model = lightgbm.train(settings, data, num_boost_round=4, valid_sets=[data])
    finally:
        mlflow.lightgbm.autolog(disable=True)
    run = only_run(mlflow_client, chosen)
    assert run.data.params["num_leaves"] == "4"
    assert len(mlflow_client.get_metric_history(run.info.run_id, "training-binary_logloss")) == 4
    loaded = mlflow.lightgbm.load_model(f"models:/{unique}/1")
    assert loaded.predict(table).tolist() == model.predict(table).tolist()


@pytest.mark.parametrize(
    ("kind", "model", "metrics", "files"),
    [
        (
            "classifier",
            LogisticRegression(),
            {"accuracy_score", "roc_auc", "log_loss"},
            {"confusion_matrix.png", "roc_curve_plot.png"},
        ),
        ("regressor", LinearRegression(), {"root_mean_squared_error", "r2_score"}, set()),
    ],
)
def test_what_evaluate_finds_arrives(
    mlflow_client: MlflowClient,
    chosen: str,
    table: pd.DataFrame,
    target: pd.Series,
    kind: str,
    model: Any,
    metrics: set[str],
    files: set[str],
) -> None:
    model.fit(table, target)
    with mlflow.start_run() as run:
        logged = mlflow.sklearn.log_model(
            model, name="model", signature=infer_signature(table, model.predict(table)), pip_requirements=[]
        )
        found = mlflow.models.evaluate(
            logged.model_uri,
            table.assign(target=target),
            targets="target",
            model_type=kind,
            evaluator_config={"log_model_explainability": False},
        )
    told = mlflow_client.get_run(run.info.run_id).data.metrics
    assert metrics <= found.metrics.keys() and told == pytest.approx(found.metrics)
    # Figures of a model are its own too, on the data that they were found on.
    (entry,) = mlflow_client.get_run(run.info.run_id).inputs.dataset_inputs
    told_of_model = mlflow_client.get_logged_model(logged.model_id).metrics
    assert {(one.key, one.dataset_digest) for one in told_of_model} >= {(key, entry.dataset.digest) for key in metrics}
    assert files <= {file.path for file in mlflow_client.list_artifacts(run.info.run_id)}
    assert files <= {artifact.uri.rpartition("/")[2] for artifact in found.artifacts.values()}
