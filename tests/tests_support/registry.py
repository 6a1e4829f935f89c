"""Model versions with real, signed packages, and evidence about them, for tests of what builds on the registry."""

from __future__ import annotations

from typing import Any

import msgspec

from everline.access.unit_of_work import UnitOfWork
from everline.canonical import canonical_json
from everline.governance import evidence
from everline.ids import digest_bytes
from everline.models import service
from everline.models.package import FileEntry, Manifest
from everline.models.signature import ColumnType, Field, OutputField, Signature
from everline.models.types import ModelVersion

GOOD = {
    "evaluation": {
        "dataset": "flights",
        "digest": "sha256:" + "d" * 64,
        "n": 5000,
        "metrics": {"auc": 0.71, "log_loss": 0.48, "calibration_error": 0.02, "error_rate": 0.21},
        "slices": [{"by": "carrier", "value": "UA", "n": 900, "metrics": {"auc": 0.68}}],
    },
    "lineage": {
        "run": "0" * 32,
        "code_recorded": True,
        "environment_recorded": True,
        "data_recorded": True,
        "seed_recorded": True,
        "data_age_days": 3.0,
    },
}
"""Evidence that the baseline policy is content with."""


def register(uow: UnitOfWork, content: bytes = b"weights", *, model: str = "flight-delay") -> ModelVersion:
    """Register a package of one file as the model's next version."""
    uow.blobs.put_bytes(content)
    manifest = Manifest(
        flavor="sklearn",
        signature=Signature(
            inputs=[Field(name="distance", type=ColumnType.DOUBLE, nullable=True)],
            outputs=[OutputField(name="probability", type=ColumnType.DOUBLE)],
        ),
        files=[FileEntry(path="model.skops", digest=digest_bytes(content), bytes=len(content))],
    )
    package = uow.blobs.put_bytes(canonical_json(msgspec.to_builtins(manifest)))
    return service.register(uow, project="default", model=model, package=package)


def attest(uow: UnitOfWork, version: ModelVersion, **changed: dict[str, Any] | None) -> None:
    """Attach good evidence; `changed` replaces a kind's body, or leaves it out with None."""
    for kind, body in (GOOD | changed).items():
        if body is not None:
            evidence.attach(uow, subject=version.subject, kind=kind, body=body, project="default")


def compared(champion: str, challenger: str, *, low: float = -0.05, high: float = -0.01) -> dict[str, Any]:
    """Comparison evidence of a challenger that is better, unless told otherwise."""
    return {
        "champion": champion, "challenger": challenger, "metric": "log_loss", "n": 4000, "champion_value": 0.5,
        "challenger_value": 0.47, "difference": (low + high) / 2, "low": low, "high": high, "level": 0.95,
        "method": "paired bootstrap",
    }  # fmt: skip
