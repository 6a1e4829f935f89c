"""Everline: machine-learning models from data to production, every link provable.

    import everline as el

What is public is listed in `_HOME_OF`, by the module it lives in; a module is loaded when its first name
is used, so that `import everline` costs nothing but itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from everline.loader import load

if TYPE_CHECKING:  # for editors and type checkers; at run time names load when they are used
    from everline.pipelines.calls import approval as approval
    from everline.pipelines.calls import dynamic as dynamic
    from everline.pipelines.calls import map_ as map  # noqa: A004, F401 - the word everybody uses
    from everline.pipelines.calls import secret as secret
    from everline.pipelines.calls import when as when
    from everline.pipelines.step import dataset as dataset
    from everline.pipelines.step import pipeline as pipeline
    from everline.pipelines.step import step as step
    from everline.pipelines.types import Environment as Environment
    from everline.pipelines.types import Resources as Resources
    from everline.pipelines.values import Approval as Approval
    from everline.pipelines.values import Candidate as Candidate
    from everline.pipelines.values import Evaluation as Evaluation
    from everline.pipelines.values import Model as Model
    from everline.pipelines.values import RunContext as RunContext
    from everline.pipelines.values import Table as Table
    from everline.sdk.evaluate import candidate as candidate
    from everline.sdk.evaluate import evaluate as evaluate
    from everline.sdk.evaluate import fairness as fairness
    from everline.sdk.querying import predictions as predictions

__version__ = "0.1.0"

_HOME_OF = {
    "connect": "everline.sdk.client",
    "Client": "everline.sdk.client",
    "run": "everline.sdk.logging.starting",
    "step": "everline.pipelines.step",
    "pipeline": "everline.pipelines.step",
    "dataset": "everline.pipelines.step",
    "map": "everline.pipelines.calls",
    "when": "everline.pipelines.calls",
    "dynamic": "everline.pipelines.calls",
    "approval": "everline.pipelines.calls",
    "secret": "everline.pipelines.calls",
    "Resources": "everline.pipelines.types",
    "Environment": "everline.pipelines.types",
    "Approval": "everline.pipelines.values",
    "Table": "everline.pipelines.values",
    "Model": "everline.pipelines.values",
    "Candidate": "everline.pipelines.values",
    "Evaluation": "everline.pipelines.values",
    "RunContext": "everline.pipelines.values",
    "evaluate": "everline.sdk.evaluate",
    "fairness": "everline.sdk.evaluate",
    "candidate": "everline.sdk.evaluate",
    "digest": "everline.datasets.digest",
    "drift_report": "everline.monitoring.report",
    "joint_drift": "everline.monitoring.drift.joint",
    "profile": "everline.monitoring.table_profiles",
    "predictions": "everline.sdk.querying",
}

_OTHER_NAME = {"map": "map_"}
"""What is called otherwise where it lives, because Python has the word already."""

__all__ = ["__version__", *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(load(_HOME_OF[name]), _OTHER_NAME.get(name, name))
    raise AttributeError(f"everline has no public name {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
