"""A shadow beside what was answered, row by row: the same rows, so that any difference is the models'."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from everline.access.declare import read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import ConflictError
from everline.loader import late
from everline.releases.types import OutputDifference, ShadowComparison, ShadowRow
from everline.serving import predictions, service
from everline.serving.types import RevisionRole

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
else:
    pa = late("pyarrow")
    pc = late("pyarrow.compute")

FURTHEST = 20


@read
def compare_shadow(uow: UnitOfWork, endpoint: str, *, project: str, since: datetime | None = None) -> ShadowComparison:
    """Compare what an endpoint's shadow said with what was answered, since it began.

    Args:
        since: a later moment than that.

    Raises:
        ConflictError: the endpoint has no shadow.
    """
    uow.require(Permission.PREDICTION_READ, project)
    found = service.get_endpoint(uow, endpoint, project=project)
    shadow = next((one for one in found.revisions if one.role is RevisionRole.SHADOW), None)
    if shadow is None:
        raise ConflictError(
            f"The endpoint {endpoint!r} has no shadow.", hint="`everline release shadow` starts one.", field="endpoint"
        )
    start = shadow.since if since is None else max(since, shadow.since)
    limit = min(uow.settings.experiment_rows_max, uow.settings.window_rows_max)
    said = predictions.newest(uow, endpoint, project=project, limit=limit, since=start, shadow=True)
    said = said.filter(pc.equal(said["revision"], shadow.revision))
    answered = predictions.newest(uow, endpoint, project=project, limit=limit, since=start)
    names = [name for name in answered.column_names if name.startswith("out.") and name in said.column_names]
    left = said.select(["primary", "prediction", *names]).rename_columns(["primary", "shadow", *names])
    right = answered.select(["prediction", *names]).rename_columns(["primary", *(f"answered.{n}" for n in names)])
    rows = left.join(right, keys="primary", join_type="inner").sort_by("primary")
    outputs, furthest = [], []
    for name in names:
        difference, far = _difference(rows, name)
        outputs.append(difference)
        furthest += far
    furthest.sort(key=lambda one: -one[0])
    return ShadowComparison(
        endpoint=endpoint, revision=shadow.revision, model=shadow.model, version=shadow.version, since=start,
        rows=rows.num_rows, unanswered=said.num_rows - rows.num_rows, outputs=outputs,
        furthest=[row for _, row in furthest[:FURTHEST]],
    )  # fmt: skip


def _difference(rows: pa.Table, name: str) -> tuple[OutputDifference, list[tuple[float, ShadowRow]]]:
    said, answered = rows[name], rows[f"answered.{name}"]
    output = name.removeprefix("out.")
    same = pc.fill_null(pc.equal(said, answered), pc.and_(pc.is_null(said), pc.is_null(answered)))
    apart = _apart(said, answered)
    known = OutputDifference(output=output, rows=rows.num_rows, equal=int(pc.sum(same).as_py() or 0))
    if rows.num_rows and apart is not None:
        mean, largest = pc.mean(apart).as_py(), pc.max(apart).as_py()
        known = OutputDifference(output=output, rows=known.rows, equal=known.equal, mean=mean, largest=largest)
    # What is no number differs or does not: it comes after the numbers, which are sorted by how far.
    distance = pc.fill_null(apart, 0.0) if apart is not None else pc.cast(pc.invert(same), pa.float64())
    order = pc.select_k_unstable(pa.table({"d": distance}), k=FURTHEST, sort_keys=[("d", "descending")])
    found = [(distance[place].as_py(), _row(rows, name, output, place)) for place in order.to_pylist()]
    return known, [one for one in found if one[0] > 0]


def _apart(said: pa.ChunkedArray, answered: pa.ChunkedArray) -> pa.ChunkedArray | None:
    kind = said.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)) or kind != answered.type:
        return None
    return pc.abs(pc.subtract(said.cast(pa.float64()), answered.cast(pa.float64())))


def _row(rows: pa.Table, name: str, output: str, place: int) -> ShadowRow:
    def plain(column: str) -> Any:
        value = rows[column][place].as_py()
        return value if isinstance(value, float | bool | str | None) else float(value)

    return ShadowRow(
        prediction=rows["primary"][place].as_py(), shadow=rows["shadow"][place].as_py(), output=output,
        answered=plain(f"answered.{name}"), said=plain(name),
    )  # fmt: skip
