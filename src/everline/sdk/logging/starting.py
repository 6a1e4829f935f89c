"""`everline.run()`: starts a run, with a server or without one, and what goes along with it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from everline.errors import EverlineError, UnavailableError
from everline.ids import new_run_uid
from everline.loader import load
from everline.runs import limits
from everline.runs.names import random_name
from everline.runs.types import DEFAULT_EXPERIMENT, CreateRun, from_ms
from everline.sdk.client import Client
from everline.sdk.logging import notebooks
from everline.sdk.logging.active_run import ActiveRun, texts
from everline.sdk.logging.journal import Start
from everline.sdk.logging.recording import Undeclared, recording
from everline.sdk.logging.sender import TRANSIENT


def run(
    *,
    experiment: str = DEFAULT_EXPERIMENT,
    name: str | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    client: Client | None = None,
    record: bool = True,
    progress: bool = False,
    system_metrics: bool = False,
    capture_output: bool = False,
) -> ActiveRun:
    """Start a run; use it as a context manager, or call `finish()`.

    A server that does not answer holds nothing up: the run starts in the journal and is sent later.

    Args:
        experiment: made if it is new.
        client: None opens one for `EVERLINE_URL`, or embedded over `./.everline`.
        record: keep code and environment with the run, so that it can be done again; read in the background.
        progress: a line in the terminal with the latest metrics.
        system_metrics: log the use of CPU, memory, disk, network and GPU every 10 seconds, as `system/…`.
        capture_output: keep what the process prints as the artifact `output.log`.

    Raises:
        InvalidInputError: a name or value is out of its limits.
        EverlineError: the server answers, and does not start this run.
    """
    owned = client is None
    client = client or Client()
    create = CreateRun(
        run=new_run_uid(),
        experiment=experiment,
        name=name or random_name(),
        params=texts(params),
        tags=texts(tags),
        started_at=from_ms(time.time_ns() // 1_000_000),
    )
    limits.check_experiment_name(experiment)
    limits.check_length(create.name or "", limit=limits.TAG_VALUE_CHARACTERS_MAX, field="name")
    limits.check_pairs(create.params, limit=limits.PARAM_VALUE_CHARACTERS_MAX, field="params")
    limits.check_pairs(create.tags, limit=limits.TAG_VALUE_CHARACTERS_MAX, field="tags")
    start = Start(
        run=str(create.run), stream=new_run_uid(), url=client.settings.url, project=client.project, create=create
    )
    active = ActiveRun(client, start, owns_client=owned)
    try:
        active.sender.start()
    except TRANSIENT as error:
        sys.stderr.write(f"everline: {error} Run {active.run} starts without it and is sent later.\n")
    except EverlineError:
        active.journal.close()
        raise
    active.begin()
    if record:
        inputs = Undeclared(active)
        active.add(inputs)
        shell = notebooks.session()
        if shell is not None:
            active.add(notebooks.Cells(active, inputs, shell))  # the last of them are not written yet
        else:
            active.add(Background(active, recording(active, inputs), name="capture"), needed=True)
    Background(active, lambda: load("everline.sdk.logging.recovery").recover_quietly(client), name="recovery")
    for wanted, module, maker in (
        (system_metrics, "system_metrics", "SystemMetrics"),
        (progress, "progress", "Progress"),
        (capture_output, "output", "CapturedOutput"),  # before the terminal's line, which is not output
    ):
        if wanted:
            active.add(getattr(load(f"everline.sdk.logging.{module}"), maker)(active))
    return active


class Background:
    """Work in a thread that the run waits for before it ends; an error of ours is raised at the next call."""

    def __init__(self, run: ActiveRun, work: Callable[[], None], *, name: str) -> None:
        self._run = run
        self._work = work
        self._thread = threading.Thread(target=self._do, name=f"everline-{name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait until it is done."""
        self._thread.join()

    def _do(self) -> None:
        try:
            self._work()
        except EverlineError as error:
            self._run.fail(error)
        except OSError as error:
            self._run.fail(UnavailableError(f"Code and environment could not be recorded: {error}."))
