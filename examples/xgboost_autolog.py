"""Train a classifier of breast tumours with XGBoost; MLflow's autologging writes down what happened.

    python xgboost_autolog.py [TRACKING_URI]

This is an ordinary MLflow script. The address that it is given is an Everline server's.
"""

import os
import sys

import mlflow
import xgboost as xgb
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split

mlflow.set_tracking_uri(sys.argv[1] if len(sys.argv) > 1 else os.environ["MLFLOW_TRACKING_URI"])
mlflow.set_experiment("breast-tumours")
mlflow.xgboost.autolog()

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=42, stratify=y)
dtrain = xgb.DMatrix(X_train, label=y_train)
dtest = xgb.DMatrix(X_test, label=y_test)

params = {
    "objective": "binary:logistic",
    "eval_metric": ["logloss", "auc"],
    "learning_rate": 0.1,
    "max_depth": 3,
    "seed": 42,
}

with mlflow.start_run() as run:
    booster = xgb.train(
        params,
        dtrain,
        num_boost_round=200,
        evals=[(dtrain, "train"), (dtest, "test")],
        early_stopping_rounds=10,
        verbose_eval=False,
    )
    probability = booster.predict(dtest)
    metrics = {
        "accuracy": accuracy_score(y_test, probability > 0.5),
        "log_loss": log_loss(y_test, probability),
        "roc_auc": roc_auc_score(y_test, probability),
    }
    mlflow.log_metrics(metrics)

print(f"run {run.info.run_id}")
for name, value in metrics.items():
    print(f"{name:10} {value:.4f}")
