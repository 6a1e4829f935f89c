"""What a report compares: which candidate is meant, and the rows that both models are asked."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from everline.errors import InvalidInputError
from everline.loader import load
from everline.models.types import ModelVersion
from everline.pipelines.types import StepRecord, ValueRef

if TYPE_CHECKING:
    from everline.sdk.client import Client

_RUN = re.compile(r"[0-9a-f]{32}")
_RUNS_LOOKED_AT = 50


def name_of(version: ModelVersion) -> str:
    """How a report calls a version."""
    return f"{version.model}:{version.version}"


class Rows(NamedTuple):
    """A table, what it is called, and the outcome as 0 or 1, shape (n,)."""

    table: Any
    name: str
    outcome: Any
    target: str


def find_candidate(client: Client, text: str | None) -> tuple[ModelVersion, str | None]:
    """The version that is meant, and the run whose steps know its evaluation."""
    if text is not None and not _RUN.fullmatch(text):
        found = client.models.named(text)
        return found, found.run
    runs = [text] if text else [one.run for one in client.runs.list(limit=_RUNS_LOOKED_AT) if one.pipeline]
    for run in runs:
        for step in reversed(client.pipelines.steps(run)):
            made = _registered(client, step)
            if made is not None:
                return client.models.get(*made), run
    what = f"Run {text}" if text else f"None of the {len(runs)} newest runs"
    raise InvalidInputError(
        f"{what} registered no model version.",
        hint="End the pipeline with `el.candidate(…)`, or name a version: --candidate NAME:2.",
        field="candidate",
    )


def _registered(client: Client, step: StepRecord) -> tuple[str, int] | None:
    """What a step registered, if its result is a candidate."""
    for ref in step.outputs:
        if ref.kind != "json" or len(ref.files) != 1 or ref.files[0].bytes > 1 << 20:
            continue
        value = load("everline.pipelines.serialisers").json_of(ref, client.blobs.get_bytes)
        if isinstance(value, dict) and {"model", "version", "uid", "package"} <= value.keys():
            return str(value["model"]), int(value["version"])
    return None


def find_rows(client: Client, version: ModelVersion, run: str | None, data: str | None) -> Rows:
    """The rows with a known outcome: of a dataset, or those that the candidate was evaluated on.

    Raises:
        InvalidInputError: they are not kept, or lack the outcome.
    """
    pc, numpy = load("pyarrow.compute"), load("numpy")
    target = client.models.manifest(version.model, version.version)["metadata"].get("target")
    if not isinstance(target, str):
        raise InvalidInputError(
            f"The package of {name_of(version)} does not name the outcome that it predicts.",
            hint="Versions that `el.candidate` registered do.",
            field="candidate",
        )
    if data is not None:
        name, _, label = data.partition("@")
        found = client.datasets.version(name, label or None)
        table, called = client.datasets.table(name, found.version), f"{name}@{label or found.version}"
    else:
        table, called = _evaluated(client, version, run)
    if target not in table.column_names:
        raise InvalidInputError(f"The rows have no column {target!r}, which is the outcome.", field="data")
    table = table.filter(pc.is_valid(table[target]))
    most = client.settings.comparison_rows_max
    if table.num_rows > most:
        table = table.take(numpy.linspace(0, table.num_rows - 1, most).astype("int64"))
    outcome = table[target].to_numpy().astype(float)
    return Rows(table, called, outcome, target)


def _evaluated(client: Client, version: ModelVersion, run: str | None) -> tuple[Any, str]:
    """The table that `el.evaluate` took in a run, out of the results that the run has kept."""
    steps = client.pipelines.steps(run) if run else []
    kept = {ref.digest: (step.name, ref) for step in steps for ref in step.outputs if ref.kind == "table"}
    for step in steps:
        material = step.material
        if material is None or not {"model", "table"} <= material.inputs.keys():
            continue
        for digest in _digests(material.inputs["table"]):
            if digest in kept:
                maker, ref = kept[digest]
                return _table(client, ref), f"what {maker} gave to {step.name} in run {run}"
    raise InvalidInputError(
        f"The rows that {name_of(version)} was evaluated on are not kept.",
        hint="Name the rows with --data DATASET@VERSION.",
        field="data",
    )


def _digests(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _digests(one)
    elif isinstance(value, str):
        yield value


def _table(client: Client, ref: ValueRef) -> Any:
    content = load("everline.pipelines.serialisers").bytes_of(ref.files[0], client.blobs.get_bytes)
    return load("pyarrow").ipc.open_file(io.BytesIO(content)).read_all()


def column_of(table: Any, name: str, field: str) -> list[Any]:
    """A column as texts, None for none."""
    if name not in table.column_names:
        raise InvalidInputError(
            f"The rows have no column {name!r}.", hint=f"They have {', '.join(table.column_names)[:500]}.", field=field
        )
    return [None if value is None else str(value) for value in table[name].to_pylist()]
