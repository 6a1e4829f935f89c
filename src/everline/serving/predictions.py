"""The prediction log: segments come in as Parquet, are anchored in the audit log, and are read back by id or time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, Select, func, insert, select

from everline.access.declare import act, read
from everline.access.types import Permission
from everline.access.unit_of_work import UnitOfWork
from everline.errors import IntegrityError, InvalidInputError, NotFoundError, TooLargeError
from everline.governance import audit
from everline.ids import check_name, check_uid, digest_bytes, new_uid
from everline.loader import late
from everline.models.predictor import NATIVE
from everline.serving import tables
from everline.serving.segments import COLUMNS, OPTIONAL, STRUCTS, inspect, kinds, time_type
from everline.serving.service import get_endpoint
from everline.serving.types import Prediction, Segment

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
else:
    pa = late("pyarrow")
    pc = late("pyarrow.compute")
    pq = late("pyarrow.parquet")

_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


# --- coming in ------------------------------------------------------------------------------------


@act
def add_segment(
    uow: UnitOfWork, data: bytes, *, project: str, endpoint: str, rows: int | None = None, digest: str | None = None
) -> Segment:
    """Take a Parquet segment of logged predictions; the same bytes again change nothing.

    Args:
        rows: what the sender counted; refused if the file has another number.
        digest: what the sender hashed; refused if the bytes have another one.

    Raises:
        InvalidInputError: not Parquet, or not of the prediction log's columns.
        TooLargeError: beyond `segment_bytes_max` or `segment_rows_max`.
        IntegrityError: the bytes changed on their way.
    """
    uow.require(Permission.DATAPLANE, project)
    check_name(endpoint, field="endpoint")
    found = digest_bytes(data)
    if digest is not None and digest != found:
        raise IntegrityError(
            f"The segment has the digest {found}, not {digest}.", hint="Send it again.", field="digest"
        )
    column = tables.prediction_segment.c
    where = (column.project == project, column.endpoint == endpoint, column.digest == found)
    known = uow.conn.execute(select(tables.prediction_segment).where(*where)).first()
    if known is not None:
        uow.unchanged()
        return _segment(known, stored=False)
    facts = inspect(data, endpoint=endpoint, rows=rows, limits=uow.settings)
    uow.blobs.put_bytes(data)
    values = facts | {
        "uid": new_uid(), "project": project, "endpoint": endpoint, "digest": found, "bytes": len(data),
        "received_at": uow.clock.now(),
    }  # fmt: skip
    uow.conn.execute(insert(tables.prediction_segment).values(**values))
    audit.record(
        uow, "prediction.segment", subject=f"prediction-segment:{found}", project=project,
        endpoint=endpoint, rows=facts["rows"], first=facts["first_prediction"], last=facts["last_prediction"],
    )  # fmt: skip
    return _segment(uow.conn.execute(select(tables.prediction_segment).where(*where)).one(), stored=True)


def _segment(row: Row[Any], *, stored: bool) -> Segment:
    known = {name: getattr(row, name) for name in Segment.__struct_fields__ if name != "stored"}
    return Segment(**known, stored=stored)


# --- one by one -----------------------------------------------------------------------------------


@read
def list_predictions(
    uow: UnitOfWork, endpoint: str, *, project: str, limit: int = 100, before: str | None = None
) -> list[Prediction]:
    """The endpoint's newest predictions, newest first.

    Args:
        limit: 1 to `page_items_max`.
        before: a prediction; only older ones. The last of a page fetches the next page.
    """
    uow.require(Permission.PREDICTION_READ, project)
    get_endpoint(uow, endpoint, project=project)
    limit = max(1, min(limit, uow.settings.page_items_max))
    column = tables.prediction_segment.c
    query = _segments(project, endpoint).order_by(column.last_prediction.desc())
    if before is not None:
        before = check_uid(before, field="before")
        query = query.where(column.first_prediction < before)
    newest: list[dict[str, Any]] = []
    for row in uow.conn.execute(query):
        # Segments of several replicas overlap: stop only where no older segment can hold a newer id.
        if len(newest) >= limit and row.last_prediction < newest[-1]["prediction"]:
            break
        table = _read(uow, row)
        if before is not None:
            table = table.filter(pc.less(table["prediction"], before))
        found = table.sort_by([("prediction", "descending")]).slice(0, limit).to_pylist()
        by_id = {one["prediction"]: one for one in newest + found}
        newest = [by_id[uid] for uid in sorted(by_id, reverse=True)[:limit]]
    return _predictions(uow, project, newest)


@read
def get_prediction(uow: UnitOfWork, prediction: str, *, project: str) -> Prediction:
    """One prediction with its inputs, outputs and, if known, its outcome.

    Raises:
        NotFoundError: no segment that has arrived holds it.
    """
    uow.require(Permission.PREDICTION_READ, project)
    uid = check_uid(prediction, field="prediction")
    for row in uow.conn.execute(_holding(project, uid)):
        table = _read(uow, row, filters=[("prediction", "==", uid)])
        if table.num_rows:
            return _predictions(uow, project, table.slice(0, 1).to_pylist())[0]
    raise NotFoundError(
        f"There is no logged prediction {uid} in project {project!r}.",
        hint="A data plane ships its log every few seconds; `everline predictions list ENDPOINT` shows what has come.",
        field="prediction",
    )


def known_ids(uow: UnitOfWork, project: str, endpoint: str, wanted: Sequence[str]) -> set[str]:
    """Those of the wanted predictions that are in a segment; the caller has asked for its permission."""
    missing, found = set(wanted), set[str]()
    column = tables.prediction_segment.c
    query = _segments(project, endpoint).where(
        column.first_prediction <= max(missing), column.last_prediction >= min(missing)
    )
    for row in uow.conn.execute(query.order_by(column.last_prediction.desc())):
        inside = [uid for uid in missing if row.first_prediction <= uid <= row.last_prediction]
        if not inside:
            continue
        data = uow.blobs.get_bytes(row.digest)
        ids = pq.read_table(pa.BufferReader(data), columns=["prediction"])["prediction"]
        hits = set(inside) & set(ids.to_pylist())
        found |= hits
        missing -= hits
        if not missing:
            break
    return found


def _segments(project: str, endpoint: str, *, shadow: bool = False) -> Select[Any]:
    column = tables.prediction_segment.c
    return select(tables.prediction_segment).where(
        column.project == project, column.endpoint == endpoint, column.shadow == shadow
    )


def _holding(project: str, uid: str) -> Select[Any]:
    column = tables.prediction_segment.c
    return select(tables.prediction_segment).where(
        column.project == project, column.first_prediction <= uid, column.last_prediction >= uid
    )


def _read(uow: UnitOfWork, row: Row[Any], **options: Any) -> pa.Table:
    table = pq.read_table(pa.BufferReader(uow.blobs.get_bytes(row.digest)), **options)
    return table.append_column("segment", pa.array([row.digest] * table.num_rows, pa.string()))


def _predictions(uow: UnitOfWork, project: str, values: list[dict[str, Any]]) -> list[Prediction]:
    uids = [value["prediction"] for value in values]
    revisions = _names(uow, {value["revision"] for value in values})
    column = tables.feedback.c
    query = select(tables.feedback).where(column.project == project, column.prediction.in_(uids))
    outcomes = {(row.endpoint, row.prediction): row for row in uow.conn.execute(query)}
    made = []
    for value in values:
        model, version = revisions.get(value["revision"], ("", 0))
        known = outcomes.get((value["endpoint"], value["prediction"]))
        made.append(
            Prediction(
                **{name: value[name] for name in (*COLUMNS, *STRUCTS, "segment")}
                | {"request": value["request"] or "", "runtime": value.get("runtime") or NATIVE}
                | {"role": value.get("role") or "", "primary": value.get("primary")},
                project=project,
                model=model,
                version=version,
                outcome=None if known is None else known.outcome,
                outcome_at=None if known is None else known.at,
            )
        )
    return made


def _names(uow: UnitOfWork, revisions: set[str]) -> dict[str, tuple[str, int]]:
    column = tables.revision.c
    query = select(column.uid, column.model, column.version).where(column.uid.in_(revisions))
    return {row.uid: (row.model, row.version) for row in uow.conn.execute(query)}


# --- by time --------------------------------------------------------------------------------------


@read
def read_window(
    uow: UnitOfWork,
    endpoint: str,
    *,
    project: str,
    start: datetime,
    end: datetime,
    revision: str | None = None,
    by: str = "event_time",
) -> pa.Table:
    """The predictions of a span of time with the outcomes known so far.

    Args:
        start, end: from the first up to, without, the second.
        revision: only what this revision answered.
        by: `event_time` (what the prediction is about; `at` where unknown) or `at` (when it was answered).

    Returns:
        One row per prediction, in id order: `prediction, at, event_time` (filled), `revision, package, release,
        request, row, latency_us, runtime, role, primary, key`, then `in.<name>` and `out.<name>` as typed by the
        signature, and `outcome` (double, null while unknown).

    Raises:
        TooLargeError: the span holds more than `window_rows_max` predictions.
    """
    uow.require(Permission.PREDICTION_READ, project)
    if by not in ("event_time", "at"):
        raise InvalidInputError(f"Predictions cannot be cut by {by!r}.", hint="Use event_time or at.", field="by")
    column = tables.prediction_segment.c
    first, last = (column.at_start, column.at_end) if by == "at" else (column.event_start, column.event_end)
    query = _segments(project, endpoint).where(first < end, last >= start).order_by(column.first_prediction)
    pieces, rows = [], 0
    for piece in _cut(uow, uow.conn.execute(query).all(), start, end, revision, by):
        rows += piece.num_rows
        if rows > uow.settings.window_rows_max:
            raise TooLargeError(
                f"The window holds more than {uow.settings.window_rows_max} predictions.",
                hint="Ask for a shorter span, or raise EVERLINE_WINDOW_ROWS_MAX.",
                field="start",
            )
        pieces.append(piece)
    if not pieces:
        return _empty_window()
    table = pa.concat_tables(pieces, promote_options="permissive").sort_by("prediction").combine_chunks()
    table = _without_repeats(table)
    return table.append_column("outcome", _outcomes(uow, project, endpoint, table["prediction"]))


@read
def newest(
    uow: UnitOfWork,
    endpoint: str,
    *,
    project: str,
    limit: int,
    since: datetime | None = None,
    until: datetime | None = None,
    shadow: bool = False,
) -> pa.Table:
    """The newest predictions that were answered in a span of time, as columns.

    Args:
        shadow: instead, what shadows said and nobody was told; `primary` names the prediction that was answered.
        limit: 1 to `window_rows_max` rows.
        since, until: by when they were answered, from the first up to, without, the second; None for no bound.

    Returns:
        As `read_window`, in id order, with `model` (text) and `version` (int64) after `revision`.

    Raises:
        InvalidInputError: the limit is out of range.
        IntegrityError: a segment was altered.
    """
    uow.require(Permission.PREDICTION_READ, project)
    get_endpoint(uow, endpoint, project=project)
    if not 1 <= limit <= uow.settings.window_rows_max:
        raise InvalidInputError(f"limit must be 1 to {uow.settings.window_rows_max}.", field="limit")
    start, end = since or _FIRST, until or _LAST
    column = tables.prediction_segment.c
    query = _segments(project, endpoint, shadow=shadow).where(column.at_start < end, column.at_end >= start)
    pieces: list[pa.Table] = []
    rows, oldest = 0, ""
    for row in uow.conn.execute(query.order_by(column.last_prediction.desc())).all():
        # Segments of several replicas overlap: stop only where no older segment can hold a newer id.
        if rows >= limit and row.last_prediction < oldest:
            break
        for piece in _cut(uow, [row], start, end, None, "at"):
            pieces.append(piece)
            rows += piece.num_rows
            oldest = min(oldest or "~", pc.min(piece["prediction"]).as_py())
    table = _empty_window().drop_columns(["outcome"])
    if pieces:
        joined = pa.concat_tables(pieces, promote_options="permissive").sort_by("prediction").combine_chunks()
        table = _without_repeats(joined)
        table = table.slice(max(0, table.num_rows - limit))
    names = _names(uow, set(table["revision"].to_pylist()))
    found = [names.get(revision, ("", 0)) for revision in table["revision"].to_pylist()]
    place = table.schema.get_field_index("revision") + 1
    table = table.add_column(place, "model", pa.array([one[0] for one in found], pa.string()))
    table = table.add_column(place + 1, "version", pa.array([one[1] for one in found], pa.int64()))
    outcomes = _outcomes(uow, project, endpoint, table["prediction"]) if table.num_rows else pa.array([], pa.float64())
    return table.append_column("outcome", outcomes)


@read
def event_span(uow: UnitOfWork, endpoint: str, *, project: str) -> tuple[datetime, datetime] | None:
    """The earliest and the latest event time that the endpoint's log has reached; None while it is empty."""
    uow.require(Permission.PREDICTION_READ, project)
    column = tables.prediction_segment.c
    query = select(func.min(column.event_start), func.max(column.event_end)).where(
        column.project == project, column.endpoint == endpoint, column.shadow.is_(False)
    )
    first, last = uow.conn.execute(query).one()
    return None if first is None else (first, last)


def _cut(
    uow: UnitOfWork, segments: Iterable[Row[Any]], start: datetime, end: datetime, revision: str | None, by: str
) -> Iterator[pa.Table]:
    for row in segments:
        table = pq.read_table(pa.BufferReader(uow.blobs.get_bytes(row.digest)))
        event = pc.coalesce(table["event_time"], table["at"])
        moment = event if by == "event_time" else table["at"]
        time = time_type()
        inside = pc.and_(pc.greater_equal(moment, pa.scalar(start, time)), pc.less(moment, pa.scalar(end, time)))
        if revision is not None:
            inside = pc.and_(inside, pc.equal(table["revision"], revision))
        table = table.set_column(table.schema.get_field_index("event_time"), "event_time", event).filter(inside)
        if table.num_rows:
            yield _flat(table)


def _flat(table: pa.Table) -> pa.Table:
    names = [name for name in COLUMNS if name != "endpoint"]
    columns = [table[name].cast(kind) for name, kind in kinds().items() if name in names]
    names += ["runtime", *OPTIONAL]
    columns += [_runtimes(table), *(_text(table, name) for name in OPTIONAL)]
    for struct, prefix in (("inputs", "in."), ("outputs", "out.")):
        combined = table[struct].combine_chunks()
        for index, field in enumerate(combined.type):
            names.append(prefix + field.name)
            columns.append(pc.struct_field(combined, [index]))
    return pa.table(columns, names=names)


def _text(table: pa.Table, name: str) -> pa.ChunkedArray:
    if table.schema.get_field_index(name) < 0:
        return pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
    return table[name].cast(pa.string())


def _runtimes(table: pa.Table) -> pa.ChunkedArray:
    """What computed each answer; segments of data planes that knew one runtime only do not say."""
    if table.schema.get_field_index("runtime") < 0:
        return pa.chunked_array([pa.repeat(NATIVE, table.num_rows)])
    return pc.fill_null(table["runtime"].cast(pa.string()), NATIVE)


def _without_repeats(table: pa.Table) -> pa.Table:
    """A data plane that died between shipping and remembering ships rows twice; the first of each id counts."""
    ids = table["prediction"]
    if table.num_rows < 2 or not pc.any(repeated := pc.equal(ids[1:], ids[:-1])).as_py():
        return table
    first = pa.concat_arrays([pa.array([True]), *pc.invert(repeated).chunks])
    return table.filter(first)


def _outcomes(uow: UnitOfWork, project: str, endpoint: str, ids: pa.ChunkedArray) -> pa.Array:
    column = tables.feedback.c
    span = pc.min_max(ids)
    # Ids grow with time: the window's outcomes lie close together under the primary key.
    query = select(column.prediction, column.outcome).where(
        column.project == project,
        column.endpoint == endpoint,
        column.prediction.between(span["min"].as_py(), span["max"].as_py()),
    )
    known = {row.prediction: float(row.outcome) for row in uow.conn.execute(query)}
    return pa.array([known.get(uid) for uid in ids.to_pylist()], pa.float64())


def _empty_window() -> pa.Table:
    columns = {name: kind for name, kind in kinds().items() if name != "endpoint"}
    columns |= dict.fromkeys(("runtime", *OPTIONAL), pa.string()) | {"outcome": pa.float64()}
    return pa.schema(columns).empty_table()


def arrow_stream(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())
