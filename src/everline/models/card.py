"""The model card: the Hugging Face layout, filled from recorded facts, silent where there is none.

Nothing is invented: a field that no fact fills is listed as missing, and a policy may close the gate on it.

Source of the layout: https://huggingface.co/docs/hub/model-cards and its annotated template, after
Mitchell et al. (2019), "Model Cards for Model Reporting".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import yaml

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.clock import rfc3339
from everline.governance import evidence
from everline.models import rows
from everline.models.compiling.findings import runtimes_told
from everline.models.package import Manifest, parse_manifest
from everline.models.types import ModelCard, ModelVersion
from everline.runs import rows as run_rows
from everline.runs.types import TrackedRun

SLICES_SHOWN_MAX = 40
_TITLES = {
    "intended_use": "Intended use",
    "out_of_scope_use": "Out-of-scope use",
    "limitations": "Bias, risks and limitations",
    "training_data": "Training data",
    "training_procedure": "Training procedure",
    "evaluation": "Evaluation",
    "inputs_and_outputs": "Inputs and outputs",
    "provenance": "Provenance",
}


class _Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a card is written from."""

    version: ModelVersion
    manifest: Manifest | None
    run: TrackedRun | None
    evaluations: list[dict[str, Any]]
    signature: dict[str, Any] | None

    def told(self, field: str) -> str:
        """A fact of the package's metadata, or of the version's tags, as text."""
        metadata = self.manifest.metadata if self.manifest else {}
        value = metadata.get(field, self.version.tags.get(field, ""))
        return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value or "")


@read
def show_card(uow: UnitOfWork, uid: str) -> ModelCard:
    """Write the card of a version from the facts of today."""
    row = rows.find_version_by_uid(uow, uid)
    uow.require(Permission.MODEL_READ, row["project"])
    return _write(_gather(uow, rows.load_versions(uow.conn, [row])[0]))


@act
def make_card(uow: UnitOfWork, uid: str) -> ModelCard:
    """Write the card of a version and attach it as `card` evidence, with the digest of its text."""
    row = rows.find_version_by_uid(uow, uid)
    uow.require(Permission.EVIDENCE_WRITE, row["project"])
    version = rows.load_versions(uow.conn, [row])[0]
    card = _write(_gather(uow, version))
    digest = uow.blobs.put_bytes(card.text.encode())
    body = {"complete": card.complete, "missing": card.missing, "text": digest}
    evidence.attach(uow, subject=version.subject, kind="card", body=body, project=version.project)
    uow.record("model.card", subject=version.subject, project=version.project, card=digest, complete=card.complete)
    return card


def _gather(uow: UnitOfWork, version: ModelVersion) -> _Facts:
    manifest = None if version.package is None else parse_manifest(uow.blobs.get_bytes(version.package))
    run = None
    if version.run is not None:
        found = run_rows.by_uid(uow, version.run)
        run = run_rows.load_runs(uow.conn, [dict(found)])[0] if found and found["project"] == version.project else None
    attached = evidence.list_evidence(uow, subject=version.subject, project=version.project)
    signatures = [item.body for item in attached if item.kind == "signature"]
    return _Facts(
        version=version,
        manifest=manifest,
        run=run,
        evaluations=[item.body for item in attached if item.kind == "evaluation"],
        signature=signatures[0] if signatures else None,
    )


def _write(facts: _Facts) -> ModelCard:
    texts = {
        "intended_use": facts.told("intended_use"),
        "out_of_scope_use": facts.told("out_of_scope_use"),
        "limitations": facts.told("limitations"),
        "training_data": _data(facts),
        "training_procedure": _procedure(facts),
        "evaluation": _evaluations(facts),
        "inputs_and_outputs": _signature(facts),
        "provenance": _provenance(facts),
    }
    missing = [name for name, text in texts.items() if not text]
    missing += [name for name in ("licence", "owners") if not facts.told(name)]
    version = facts.version
    head = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True)
    title = f"# {version.model} {version.version}\n\n{version.description or facts.told('description')}".rstrip()
    body = [title, *(f"## {_TITLES[name]}\n\n{text or 'Not recorded.'}" for name, text in texts.items())]
    if missing:
        body.append("## Missing\n\n" + "\n".join(f"- {name}" for name in missing))
    return ModelCard(text=f"---\n{head}---\n\n" + "\n\n".join(body) + "\n", complete=not missing, missing=missing)


def _front_matter(facts: _Facts) -> dict[str, Any]:
    """The YAML that the Hugging Face hub reads, `model-index` included."""
    results = []
    for body in facts.evaluations:
        metrics = [{"type": name, "value": value} for name, value in sorted(_metrics(body).items())]
        dataset = {"name": body.get("dataset"), "type": body.get("dataset"), "revision": body.get("digest")}
        results.append(
            {"task": {"type": facts.told("task") or "tabular-classification"}, "dataset": dataset, "metrics": metrics}
        )
    datasets = sorted({item.name for item in facts.run.inputs}) if facts.run else []
    matter: dict[str, Any] = {
        "license": facts.told("licence") or "unknown",
        "library_name": facts.manifest.flavor if facts.manifest else None,
        "pipeline_tag": facts.told("task") or "tabular-classification",
        "datasets": datasets,
        "tags": sorted(facts.version.tags),
        "model-index": [{"name": facts.version.model, "results": results}],
    }
    return {key: value for key, value in matter.items() if value not in (None, [])}


def _data(facts: _Facts) -> str:
    if facts.run is None or not facts.run.inputs:
        return ""
    lines = [
        (item.name, "–" if item.version is None else item.version, item.context or "–", f"`{item.digest}`")
        for item in facts.run.inputs
    ]
    return _table(("dataset", "version", "used for", "digest"), lines)


def _procedure(facts: _Facts) -> str:
    run = facts.run
    if run is None:
        return ""
    lines: list[tuple[Any, Any]] = [("run", f"`{run.run}` ({run.experiment})")]
    if run.pipeline:
        lines.append(("pipeline", f"`{run.pipeline}`"))
    lines += [("started", rfc3339(run.started_at))]
    lines += [
        (name, f"`{value}`") for name, value in run.summary.items() if isinstance(value, (str, int)) and value != ""
    ]
    environment = run.summary.get("environment")
    if isinstance(environment, Mapping):
        lines += [(f"environment {name}", f"`{value}`") for name, value in environment.items() if value != ""]
    lines += [(f"parameter {key}", value) for key, value in sorted(run.params.items())]
    return _table(("fact", "value"), lines)


def _evaluations(facts: _Facts) -> str:
    parts = []
    for body in facts.evaluations:
        metrics = _table(
            ("metric", "value"), [(name, _number(value)) for name, value in sorted(_metrics(body).items())]
        )
        text = f"On `{body.get('dataset')}` (`{body.get('digest')}`), {body.get('n')} rows.\n\n{metrics}"
        slices = _slices(body)
        parts.append(f"{text}\n\n{slices}" if slices else text)
    return "\n\n".join(parts)


def _slices(body: Mapping[str, Any]) -> str:
    slices = [item for item in body.get("slices") or [] if isinstance(item, Mapping)][:SLICES_SHOWN_MAX]
    names = sorted({name for item in slices for name in _metrics(item)})
    if not names:
        return ""
    lines = [
        (item.get("by"), item.get("value"), item.get("n"), *(_number(_metrics(item).get(name)) for name in names))
        for item in slices
    ]
    return _table(("slice", "value", "rows", *names), lines)


def _signature(facts: _Facts) -> str:
    if facts.manifest is None:
        return ""
    signature = facts.manifest.signature
    lines = [
        (
            f"`{field.name}`",
            field.type.value,
            "yes" if field.nullable else "no",
            _range(field.min, field.max, field.categories),
        )
        for field in signature.inputs
    ]
    outputs = [(f"`{field.name}`", field.type.value) for field in signature.outputs]
    return (
        _table(("input", "type", "may be null", "seen in training"), lines)
        + "\n\n"
        + _table(("output", "type"), outputs)
    )


def _provenance(facts: _Facts) -> str:
    version = facts.version
    if version.package is None:
        return ""
    signature = facts.signature or {}
    lines = [
        ("package", f"`{version.package}`"),
        ("signed by", f"`{signature.get('key')}`" if signature.get("verified") else "not verified"),
        ("registered by", version.author_name),
        ("registered at", rfc3339(version.created_at)),
    ]
    told = None if facts.manifest is None else runtimes_told(facts.manifest.metadata)
    if told is not None:
        lines.append(("answered by", told))
    return _table(("fact", "value"), lines)


def _metrics(body: Mapping[str, Any]) -> Mapping[str, Any]:
    metrics = body.get("metrics")
    return metrics if isinstance(metrics, Mapping) else {}


def _range(low: float | None, high: float | None, categories: Sequence[str] | None) -> str:
    if categories is not None:
        shown = ", ".join(categories[:12])
        return f"{len(categories)} values: {shown}{', …' if len(categories) > 12 else ''}"
    if low is None or high is None:
        return "–"
    return f"{_number(low)} to {_number(high)}"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "–" if value is None else str(value)


def _table(heads: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    rows_of_text = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows_of_text)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
