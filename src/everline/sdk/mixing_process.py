"""The process that runs mixtures: reads a task, prints one line of JSON for each that ended.

python -m everline.sdk.mixing_process TASK.json
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from everline.errors import EverlineError
from everline.pipelines.measuring import Measure
from everline.pipelines.types import StepFailedError
from everline.sdk.client import Client

_PROBLEM_CHARS_MAX = 500


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One mixture: parameters, dataset versions and seed."""

    params: dict[str, Any] = {}
    data: dict[str, list[str]] = {}
    seed: int | None = None


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What one process does, one job after the other, with one code in one environment."""

    url: str | None
    home: str | None
    project: str
    entry: str
    directory: str
    measure: Measure
    jobs: list[Job]


def main(path: str) -> None:
    """Run the task in a file."""
    task = msgspec.json.decode(Path(path).read_bytes(), type=Task)
    # What a step prints must not be taken for an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with Client(task.url, home=task.home, project=task.project) as client:
        for job in task.jobs:
            answers.write(msgspec.json.encode(_run(client, task, job)) + b"\n")
            answers.flush()


def _run(client: Client, task: Task, job: Job) -> tuple[str | None, str | None]:
    """The run's uid and, if it did not come to its end, why."""
    params = {name: value if isinstance(value, str) else _text(value) for name, value in job.params.items()}
    try:
        result = client.pipelines.run(
            task.entry,
            params=params,
            seed=job.seed,
            data=job.data,
            directory=Path(task.directory),
            measure=task.measure,
        )
    except StepFailedError as error:
        return error.result.run if error.result else None, error.message[:_PROBLEM_CHARS_MAX]
    except EverlineError as error:
        return None, error.message[:_PROBLEM_CHARS_MAX]
    return result.run, None


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


if __name__ == "__main__":
    main(sys.argv[1])
