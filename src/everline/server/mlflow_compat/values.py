"""Our values as MLflow's messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from everline.models.files import package_uri
from everline.models.types import LoggedModel, LoggedModelStatus, Model, ModelMetric, TrackedVersion, VersionStatus
from everline.runs.types import (
    LOGGED_MODEL,
    Artifact,
    Experiment,
    Metric,
    RunInput,
    RunOutput,
    RunStatus,
    TrackedRun,
    View,
    to_ms,
)
from everline.server.mlflow_compat.wire import Fields, number, without_nothing

CONTEXT_TAG = "mlflow.data.context"

STATUSES = {status.name: status for status in RunStatus}
STATUS_NUMBERS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
VIEWS = {"ACTIVE_ONLY": View.ACTIVE, "DELETED_ONLY": View.DELETED, "ALL": View.ALL}
VIEW_NUMBERS = {1: "ACTIVE_ONLY", 2: "DELETED_ONLY", 3: "ALL"}
_VERSION_STATUSES = {
    VersionStatus.READY: "READY",
    VersionStatus.PENDING: "PENDING_REGISTRATION",
    VersionStatus.FAILED: "FAILED_REGISTRATION",
}

_LOGGED_STATUSES = {
    LoggedModelStatus.UNSPECIFIED: "LOGGED_MODEL_STATUS_UNSPECIFIED",
    LoggedModelStatus.PENDING: "LOGGED_MODEL_PENDING",
    LoggedModelStatus.READY: "LOGGED_MODEL_READY",
    LoggedModelStatus.FAILED: "LOGGED_MODEL_UPLOAD_FAILED",
}
LOGGED_STATUSES = {name: status for status, name in _LOGGED_STATUSES.items()}
LOGGED_STATUS_NUMBERS = dict(enumerate(_LOGGED_STATUSES.values()))


def experiment_message(value: Experiment) -> dict[str, Any]:
    """`mlflow.Experiment`."""
    return without_nothing({
        "experiment_id": value.experiment,
        "name": value.name,
        "artifact_location": value.artifact_location,
        "lifecycle_stage": _stage(deleted=value.deleted),
        "last_update_time": to_ms(value.updated_at),
        "creation_time": to_ms(value.created_at),
        "tags": _pairs(value.tags),
        "workspace": value.project,
    })  # fmt: skip


def run_message(value: TrackedRun) -> dict[str, Any]:
    """`mlflow.Run`."""
    data = {
        "metrics": [metric_message(point) for point in value.latest],
        "params": _pairs(value.params),
        "tags": _pairs(value.tags),
    }
    datasets = [item for item in value.inputs if item.source_type != LOGGED_MODEL]
    inputs = {
        "dataset_inputs": [_input_message(item) for item in datasets],
        "model_inputs": [{"model_id": item.name} for item in value.inputs if item.source_type == LOGGED_MODEL],
    }
    made = [item for item in value.outputs if item.kind == LOGGED_MODEL]
    outputs = {"model_outputs": [{"model_id": item.name, "step": item.facts.get("step", 0)} for item in made]}
    return {
        "info": run_info_message(value),
        "data": without_nothing(data),
        "inputs": without_nothing(inputs),
        "outputs": without_nothing(outputs),
    }


def new_run_message(value: TrackedRun) -> dict[str, Any]:
    """`mlflow.Run` of a run that has only begun, which has no outputs, not even an empty list."""
    message = run_message(value)
    del message["outputs"]
    return message


def run_info_message(value: TrackedRun) -> dict[str, Any]:
    """`mlflow.RunInfo`."""
    return without_nothing({
        "run_uuid": value.run,
        "run_id": value.run,
        "run_name": value.name,
        "experiment_id": value.experiment_id,
        "user_id": value.user,
        "status": value.status.name,
        "start_time": value.started_ms,
        "end_time": value.ended_ms or None,
        "artifact_uri": value.artifact_uri,
        "lifecycle_stage": _stage(deleted=value.deleted),
    })  # fmt: skip


def metric_message(point: Metric, *, run: str | None = None) -> dict[str, Any]:
    """`mlflow.Metric`; in bulk answers it names its run."""
    message = {"key": point.key, "value": number(point.value), "timestamp": point.at_ms, "step": point.step}
    return message if run is None else {**message, "run_id": run}


class PointMessage(msgspec.Struct):
    """`mlflow.Metric` in a history, where each is written without more ado; in bulk answers it names its run."""

    key: str
    value: float | str
    timestamp: int
    step: int
    run_id: str | msgspec.UnsetType = msgspec.UNSET


def point_message(point: Metric, run: str | msgspec.UnsetType = msgspec.UNSET) -> PointMessage:
    """A point of a history."""
    return PointMessage(point.key, number(point.value), point.at_ms, point.step, run)


def file_message(value: Artifact, *, name: str) -> dict[str, Any]:
    """`mlflow.FileInfo`."""
    return without_nothing({"path": name, "is_dir": value.is_dir, "file_size": value.bytes})


def logged_model_message(value: LoggedModel) -> dict[str, Any]:
    """`mlflow.LoggedModel`."""
    metrics = [
        without_nothing({
            **metric_message(point, run=point.run),
            "model_id": value.uid,
            "dataset_name": point.dataset_name,
            "dataset_digest": point.dataset_digest,
        })
        for point in value.metrics
    ]  # fmt: skip
    info = {
        "model_id": value.uid,
        "experiment_id": value.experiment,
        "name": value.name,
        "creation_timestamp_ms": to_ms(value.created_at),
        "last_updated_timestamp_ms": to_ms(value.updated_at),
        "artifact_uri": value.artifact_uri,
        "status": _LOGGED_STATUSES[value.status],
        "model_type": value.model_type,
        "source_run_id": value.source_run,
        "tags": _pairs(value.tags),
    }
    data = {"params": _pairs(value.params), "metrics": metrics}
    return {"info": without_nothing(info), "data": without_nothing(data)}


def model_message(value: Model, latest: Sequence[TrackedVersion]) -> dict[str, Any]:
    """`mlflow.RegisteredModel`."""
    return without_nothing({
        "name": value.name,
        "creation_timestamp": to_ms(value.created_at),
        "last_updated_timestamp": to_ms(value.updated_at),
        "description": value.description or None,
        "latest_versions": [listed_version_message(version) for version in latest],
        "tags": _pairs(value.tags),
        "aliases": [{"alias": alias, "version": str(version)} for alias, version in sorted(value.aliases.items())],
    })  # fmt: skip


def version_message(value: TrackedVersion) -> dict[str, Any]:
    """`mlflow.ModelVersion`; a package of ours is seen as a folder of the artifact proxy.

    MLflow's own server knows the `model_id` only while it answers the creation; here it stays known.
    """
    return without_nothing({
        "name": value.model,
        "version": str(value.version),
        "creation_timestamp": to_ms(value.created_at),
        "last_updated_timestamp": to_ms(value.updated_at),
        "user_id": value.author_name,
        "current_stage": value.stage,
        "description": value.description,
        "source": value.source or package_uri(value.package),
        "run_id": value.run or "",
        "run_link": value.run_link,
        "model_id": value.logged_model,
        "status": _VERSION_STATUSES[value.status],
        "tags": _pairs(value.tags),
        "aliases": value.aliases,
    })  # fmt: skip


def listed_version_message(value: TrackedVersion) -> dict[str, Any]:
    """`mlflow.ModelVersion` inside of a list, where MLflow's server leaves out the aliases."""
    return version_message(msgspec.structs.replace(value, aliases=[]))


def input_of(item: Fields) -> RunInput:
    """A `mlflow.DatasetInput` as ours."""
    dataset = item.message("dataset")
    if dataset is None:
        raise item.missing("dataset")
    tags = item.pairs("tags")
    return RunInput(
        name=dataset.required("name"),
        digest=dataset.required("digest"),
        context=tags.get(CONTEXT_TAG, ""),
        source_type=dataset.required("source_type"),
        source=dataset.required("source"),
        schema=dataset.text("schema") or None,
        profile=dataset.text("profile") or None,
        tags=tags,
    )


def model_input_of(item: Fields) -> RunInput:
    """A `mlflow.ModelInput` as ours: a logged model that a run read."""
    uid = item.required("model_id")
    return RunInput(name=uid, digest=uid, source_type=LOGGED_MODEL, source=f"models:/{uid}")


def model_output_of(item: Fields) -> RunOutput:
    """A `mlflow.ModelOutput` as ours: a logged model that a run made, at a step of its training."""
    return RunOutput(
        name=item.required("model_id"), kind=LOGGED_MODEL, digest="", facts={"step": item.integer("step", 0)}
    )


def metric_of(item: Fields) -> Metric:
    """A `mlflow.Metric` as ours."""
    return ModelMetric(
        key=item.required("key"),
        value=item.double("value"),
        at_ms=item.integer("timestamp"),
        step=item.integer("step", 0),
        model_id=item.text("model_id") or None,
        dataset_name=item.text("dataset_name") or None,
        dataset_digest=item.text("dataset_digest") or None,
    )


def _input_message(item: RunInput) -> dict[str, Any]:
    tags = item.tags or ({CONTEXT_TAG: item.context} if item.context else {})
    dataset = {
        "name": item.name,
        "digest": item.digest,
        "source_type": item.source_type or "everline",
        "source": item.source or f"everline:/datasets/{item.name}",
        "schema": item.schema,
        "profile": item.profile,
    }
    return without_nothing({"tags": _pairs(tags), "dataset": without_nothing(dataset)})


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _stage(*, deleted: bool) -> str:
    return "deleted" if deleted else "active"
