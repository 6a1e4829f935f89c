"""`el.evaluate` and `el.candidate`: measure a model inside a pipeline, then package and register it.

Light on purpose, for `import everline` names them; the work is in modules that are loaded when it starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from everline.canonical import canonical_json
from everline.errors import InvalidInputError, NotFoundError
from everline.ids import check_name, digest_file
from everline.loader import load
from everline.pipelines.annotations import is_table
from everline.pipelines.graph import Node, Ref, current
from everline.pipelines.step import step
from everline.pipelines.values import Candidate, Evaluation, Model, RunContext, Table

_DAY_S = 86_400.0


@step
def evaluate(model: Model, table: Table, slices: list[str] = [], context: RunContext | None = None) -> Evaluation:  # noqa: B006
    """Measure a two-class model on the rows of a table whose outcome is known.

    Args:
        model: gives a probability for each row.
        table: the model's inputs and its target column; rows without a target are left out.
        slices: columns; the metrics are given for each of their values too.
        context: filled in by the run.

    Returns:
        auc, log_loss, calibration_error, error_rate, brier and base_rate; see docs/pipelines.md for formulas.

    Raises:
        InvalidInputError: a column is missing, or no row has a known outcome.
    """
    digest = load("everline.datasets.digest").table_digest(table)
    dataset = ", ".join(f"{use.name}@{use.label or use.version}" for use in context.data) if context else ""
    evaluation = load("everline.pipelines.evaluation").evaluate_table(
        model, table, slices=slices, dataset=dataset, digest=digest
    )
    return cast(Evaluation, evaluation)


@step
def fairness(
    model: Model,
    table: Table,
    protected: list[str],
    threshold: float = 0.5,
    good: str = "above",
    context: RunContext | None = None,
) -> dict[str, Any]:
    """Measure how the groups of protected attributes fare under a two-class model's decisions.

    Args:
        model: gives a probability for each row; it need not take the attributes, and should not.
        table: the model's inputs, its target column and the protected columns.
        protected: columns, such as sex; each value is a group.
        threshold: where the decision turns.
        good: `above` or `below` the threshold, the side that a person wants to be on.
        context: filled in by the run.

    Returns:
        `fairness` evidence for `el.candidate(…, evidence={"fairness": …})`; see docs/governance.md.

    Raises:
        InvalidInputError: a column is missing, has one group or too many, or no row has a known outcome.
    """
    dataset = ", ".join(f"{use.name}@{use.label or use.version}" for use in context.data) if context else ""
    return cast(
        "dict[str, Any]",
        load("everline.pipelines.evaluation").fairness_of_table(
            model, table, protected=protected, threshold=threshold, good=good, dataset=dataset,
            digest=load("everline.datasets.digest").table_digest(table),
        ),
    )  # fmt: skip


def candidate(
    name: str,
    model: Model,
    evaluation: Evaluation,
    *,
    reference: Table | None = None,
    nullable: Sequence[str] | None = None,
    card: Mapping[str, Any] | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> Candidate:
    """Package a model, register it as the next version of `name`, and attach its evidence.

    Args:
        name: of the registered model.
        evaluation: what `el.evaluate` found; becomes the version's evaluation evidence.
        reference: the rows that the model was fitted on, which give the signature and are kept as the dataset
            `<name>-reference` for monitors to compare with; None takes the one table that the model's step took.
        nullable: inputs that may be null in a call; None means those that hold a null in `reference`.
        card: what only people know, for the model card: intended_use, out_of_scope_use, limitations, licence, owners.

        evidence: bodies by kind that are attached to the version too, such as what `el.fairness` found, or `risk`.

    Raises:
        InvalidInputError: called outside a pipeline, or the reference cannot be told.
    """
    if current() is None:
        raise InvalidInputError(
            "el.candidate was called outside a pipeline.",
            hint="Call it inside a `@el.pipeline` function; elsewhere use `Client().models.register`.",
        )
    rows = _reference_of(model) if reference is None else reference
    names = None if nullable is None else list(nullable)
    folder = package(check_name(name, field="model"), model, evaluation, rows, names, dict(card or {}))
    return register(name, folder, evaluation, rows, dict(evidence or {}))


def _reference_of(model: Any) -> Table:
    taken = []
    if isinstance(model, Ref) and isinstance(model.node, Node):
        hints = model.node.spec.hints
        taken = [value for name, value in model.node.inputs.items() if is_table(hints[name])]
    if len(taken) != 1:
        raise InvalidInputError(
            f"The step that made the model takes {len(taken)} tables, so it is not clear which rows it was fitted on.",
            hint="Pass them: `el.candidate(…, reference=table)`.",
            field="reference",
        )
    return cast(Table, taken[0])


@step
def package(
    name: str,
    model: Model,
    evaluation: Evaluation,
    reference: Table,
    nullable: list[str] | None,
    card: dict[str, Any],
    context: RunContext | None = None,
) -> Path:
    """Write the model as a package directory; equal inputs give equal bytes."""
    run = _require(context)
    signature = load("everline.models.signature_inference").infer_signature(
        reference.select(list(model.features)), nullable=nullable
    )
    built = load("everline.models.package").build_package(
        model.estimator,
        flavor=model.flavor,
        signature=signature,
        out_dir=run.folder / "package",
        rows=_rows_to_compare(reference, model.features),
        created_from={
            "run": run.origin,
            "code": run.code,
            "environment": run.environment,
            "data": sorted({use.digest for use in run.data}),
        },
        metadata={
            **card,
            **model.metadata,
            "pipeline": run.pipeline,
            "target": model.target,
            "evaluation": evaluation.metrics,
            "reference": {
                "dataset": reference_name(name),
                "digest": load("everline.datasets.digest").table_digest(reference),
            },
        },
    )
    return cast(Path, built.directory)


@step(effect=True)
def register(
    name: str,
    folder: Path,
    evaluation: Evaluation,
    reference: Table,
    evidence: dict[str, Any],
    context: RunContext | None = None,
) -> Candidate:
    """Register the package, or find the version that already is this package; attach what is known of it."""
    run = _require(context)
    digest = digest_file(folder / "everline.json")
    found = _registered(run.client, name, digest)
    if found is None:
        maker = msgspec.json.decode((folder / "everline.json").read_bytes())["created_from"]["run"]
        run.client.datasets.add_table(reference_name(name), reference)
        found = run.client.models.register(name, digest, run=maker)
        _attach(run, found.uid, "evaluation", msgspec.to_builtins(evaluation))
        _attach(run, found.uid, "lineage", _lineage(run))
        if contract := _contract(run):
            _attach(run, found.uid, "contract", contract)
        for kind, body in evidence.items():
            _attach(run, found.uid, kind, body)
        run.client.models.make_card(name, found.version)
    return Candidate(
        model=name, version=found.version, uid=found.uid, package=digest, run=run.run, metrics=evaluation.metrics
    )


def _rows_to_compare(reference: Table, features: Sequence[str]) -> Any:
    """Training rows, evenly spread, on which the compiled model must answer as the model does."""
    findings, numpy = load("everline.models.compiling.findings"), load("numpy")
    rows = min(reference.num_rows, findings.ROWS_MAX)
    chosen = reference.select(list(features)).take(numpy.linspace(0, reference.num_rows - 1, rows).astype(int))
    values_of = load("everline.sdk.scoring.batch").values_of
    return findings.Rows(columns={name: values_of(chosen[name]) for name in features}, name="training rows")


def reference_name(model: str) -> str:
    """The dataset that holds the rows which a model's versions were fitted on."""
    return f"{model}-reference"


def _require(context: RunContext | None) -> RunContext:
    if context is None:
        raise InvalidInputError(
            "Packages are made inside a pipeline run, which knows what they come from.",
            hint="Use `el.candidate` in a `@el.pipeline` function.",
        )
    return context


def _registered(client: Any, name: str, digest: str) -> Any:
    try:
        versions = client.models.versions(name)
    except NotFoundError:
        return None
    return next((version for version in versions if version.package == digest), None)


def _attach(run: RunContext, version: str, kind: str, body: dict[str, Any]) -> None:
    canonical_json(body)  # evidence must have a digest
    run.client.call(
        "POST", "/evidence", body={"subject": f"model-version:{version}", "kind": kind, "body": body}, returns=Any
    )


def _lineage(run: RunContext) -> dict[str, Any]:
    added = [run.client.datasets.version(use.name, use.version).created_at for use in run.data]
    newest = max(added, default=None)
    return {
        "run": run.run,
        "code_recorded": run.code_recorded,
        "environment_recorded": run.environment_recorded,
        "data_recorded": bool(run.data),
        "seed_recorded": run.seed is not None,
        "data_age_days": None if newest is None else max(0.0, (datetime.now(UTC) - newest).total_seconds() / _DAY_S),
    }


def _contract(run: RunContext) -> dict[str, Any] | None:
    """Whether each dataset version that the model comes from keeps its contract; None where none has one."""
    checks = []
    for use in run.data:
        try:
            checks.append(run.client.datasets.check(use.name, use.version))
        except NotFoundError:
            continue
    if not checks:
        return None
    return {
        "holds": all(one.holds for one in checks),
        "dataset": ", ".join(f"{one.dataset}@{one.version}" for one in checks),
        "violations": [f"{one.dataset}: {breach}" for one in checks for breach in one.breaches][:50],
    }
