"""From `mlflow.sklearn.log_model` to an answer of a live endpoint, under the policy that every project starts with.

    everline server                          in one terminal: runs, models, releases, the console
    everline serve                           in another: the process that answers predictions
    python sklearn_log_load_serve.py         in a third

The first half is an ordinary MLflow script. The second half is what MLflow has no word for: a model is released, on
evidence, by somebody who did not make it. Run it again, and the new model is compared with the one that answers.
"""

import argparse
import os
import time
from datetime import date

import mlflow
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import everline as el
from everline.errors import NotFoundError
from everline.models.evaluation import metrics as measure
from everline.models.types import ModelVersion

MODEL = ENDPOINT = "breast-tumours"
REVIEWER = "ravi"
SEED = 42
PUBLISHED = date(1995, 11, 1)  # the data set, at the UCI repository


def log(model: Pipeline, train: pd.DataFrame, target: pd.Series) -> str:
    """MLflow's part: a run with its parameters, data, code and model, and a version of a registered model."""
    mlflow.set_experiment(MODEL)
    with mlflow.start_run():
        mlflow.log_params({"C": model[-1].C, "seed": SEED})
        mlflow.log_input(mlflow.data.from_pandas(train.assign(target=target), name="breast-cancer"), context="training")
        mlflow.log_artifact(__file__, "code")
        logged = mlflow.sklearn.log_model(model, name="model", input_example=train.head(5), registered_model_name=MODEL)
    return str(logged.registered_model_version)


def attest(client: el.Client, version: ModelVersion, rows: pd.DataFrame, outcome: np.ndarray, said: np.ndarray) -> None:
    """Leave the facts that a policy looks at: how good the model is on rows that it has not seen, and its origin."""
    large = rows["mean area"].to_numpy() > rows["mean area"].median()
    slices = [
        {"by": "mean area", "value": name, "n": int(part.sum()), "metrics": measure(outcome[part], said[part])}
        for name, part in (("small", ~large), ("large", large))
    ]
    evaluation = {"dataset": "test rows", "digest": el.digest(rows), "n": len(rows), "metrics": measure(outcome, said)}
    client.policies.attach(version.subject, "evaluation", {**evaluation, "slices": slices})
    client.policies.attach(
        version.subject,
        "lineage",
        {
            "run": version.run,
            "code_recorded": True,  # the artifact `code`
            "environment_recorded": True,  # the model's requirements.txt
            "data_recorded": True,  # the run's input
            "seed_recorded": True,  # the parameter `seed`
            "data_age_days": (date.today() - PUBLISHED).days,
        },
    )


def reviewer(client: el.Client) -> el.Client:
    """Another person. On a laptop one plays both; with `everline server --login` it takes two people."""
    if REVIEWER not in [user.name for user in client.access.list_users()]:
        client.access.create_user(REVIEWER, full_name="Ravi Shah, model risk")
        client.access.grant_role(REVIEWER, role="approver")
    return el.Client(client.settings.url, token=client.access.create_token(REVIEWER, name="example", days=1).secret)


def ask(client: el.Client, rows: pd.DataFrame) -> tuple[list[float], list[int]]:
    """Probability and label of each row, from the endpoint."""
    answers = client.predictions.predict(ENDPOINT, rows.to_dict("records"))["predictions"]
    return [answer["probability"] for answer in answers], [answer["label"] for answer in answers]


def compare_with_champion(
    client: el.Client, version: int, rows: pd.DataFrame, outcome: np.ndarray, said: np.ndarray
) -> None:
    """Evidence that the new model is no step back from the one that answers now, if one does."""
    try:
        answering = client.endpoints.get(ENDPOINT).revisions
    except NotFoundError:
        return
    if answering:
        champion, _ = ask(client, rows)
        found = client.releases.compare(
            ENDPOINT, MODEL, version, outcome=outcome, champion=champion, challenger=said, metric="log_loss"
        )
        print(f"compared    with the champion: {found.verdict} ({found.low:+.4f} to {found.high:+.4f})")


def wait_until_served(client: el.Client, revision: str, *, seconds: float = 60) -> None:
    """The data plane verifies digest, signature and release before it loads a package."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for replica in client.endpoints.replicas():
            if any(served.revision == revision and served.ready for served in replica.revisions):
                return
        time.sleep(0.2)
    raise SystemExit("No data plane serves the release. Start one: `everline serve`.")


def main() -> None:
    """Walk the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", default=os.environ.get("EVERLINE_URL", "http://127.0.0.1:4680"))
    url = parser.parse_args().url
    mlflow.set_tracking_uri(url)
    client = el.Client(url)

    table, y = load_breast_cancer(return_X_y=True, as_frame=True)
    train, test, y_train, y_test = train_test_split(table, y, test_size=0.25, random_state=SEED, stratify=y)
    model = make_pipeline(StandardScaler(), LogisticRegression(random_state=SEED)).fit(train, y_train)
    outcome, said = y_test.to_numpy(dtype=bool), model.predict_proba(test)[:, 1]

    logged = log(model, train, y_train)
    print(f"logged      models:/{MODEL}/{logged}")

    loaded = mlflow.pyfunc.load_model(f"models:/{MODEL}/{logged}")
    assert np.array_equal(loaded.predict(test), model.predict(test))
    print(f"loaded      {len(test)} rows, the same labels")

    version = client.models.package(MODEL, logged)  # everline models package breast-tumours 1
    print(f"packaged    {MODEL} {version.version}: {version.package}")

    attest(client, version, test, outcome, said)
    compare_with_champion(client, version.version, test, outcome, said)
    release = client.releases.create(ENDPOINT, MODEL, version.version, canary_share=0)
    print(f"release     {release.uid}: {release.state.value}")
    release = reviewer(client).releases.approve(release.uid, reason="Test AUC and calibration read.")
    print(f"approved    by {REVIEWER}: {release.state.value}")
    release = client.releases.promote(release.uid)
    wait_until_served(client, release.revision)

    rows = test.head(20)
    probability, label = ask(client, rows)
    assert label == model.predict(rows).tolist()
    own = [model.predict_proba(rows.iloc[[row]])[0, 1] for row in range(len(rows))]
    differs = max(abs(one - other) for one, other in zip(probability, own, strict=True))
    assert differs < 1e-12  # a linear model is compiled; its sums have an order of their own
    print(f"answered    {len(rows)} rows, within {differs:.0e} of the model's own")
    print(f"\nSee {url}, or: everline predictions list {ENDPOINT} · everline releases at now")


if __name__ == "__main__":
    main()
