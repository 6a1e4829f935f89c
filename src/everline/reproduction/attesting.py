"""What was measured of a model version, signed as it comes in: by whom, on what, with which figures.

The evidence stays as it was given; beside it stands an in-toto statement with the test-result predicate, whose
subject is the package and whose configuration names the evidence and the data by digest. A reader needs the key alone.

Source: Regulation (EU) 2024/1689, Annex IV, 2(g): test reports dated and signed by the persons responsible.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from everline.access.declare import act
from everline.access.unit_of_work import UnitOfWork
from everline.clock import rfc3339
from everline.governance import evidence
from everline.governance.types import Evidence
from everline.models.tables import model_version
from everline.reproduction.service import sign
from everline.reproduction.statements import test_result

MEASURED = ("evaluation", "fairness", "validation")
"""Kinds of evidence that report a measurement or a finding of people."""

_VERSION = "model-version:"


@act
def attach(uow: UnitOfWork, *, subject: str, kind: str, body: dict[str, Any], project: str) -> Evidence:
    """Attach evidence, and sign a report about it where it is a measurement of a packaged model version.

    Raises:
        InvalidInputError: the body has no JSON form, or not that of its kind.
        TooLargeError: the body passes the limit.
    """
    found = evidence.attach(uow, subject=subject, kind=kind, body=body, project=project)
    package = _package(uow, subject, project) if kind in MEASURED else None
    if package is not None:
        sign(uow, project, _report(found, package), kind=kind, subject=subject, verdict="measured")
    return found


def _package(uow: UnitOfWork, subject: str, project: str) -> str | None:
    if not subject.startswith(_VERSION):
        return None
    column = model_version.c
    query = select(column.package).where(column.uid == subject.removeprefix(_VERSION), column.project == project)
    return uow.conn.execute(query).scalar()


def _report(found: Evidence, package: str) -> dict[str, Any]:
    used = [_named(f"evidence:{found.uid}", found.digest)]
    data = found.body.get("digest")
    if isinstance(data, str) and data.startswith("sha256:"):
        used.append(_named(str(found.body.get("dataset") or "data"), data))
    return test_result(
        [_named(found.subject, package)],
        result="PASSED",
        configuration=used,
        passed=[found.kind],
        failed=[],
        facts={"measured": found.body, "kind": found.kind, "by": found.actor_name, "at": rfc3339(found.at)},
    )


def _named(name: str, digest: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}
