"""The prediction log on both databases: what comes in, what is refused, and how it is read back."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from everline.access.types import Role
from everline.errors import ForbiddenError, IntegrityError, InvalidInputError, NotFoundError, TooLargeError
from everline.governance import audit
from everline.ids import digest_bytes, new_uid
from everline.serving import feedback, predictions, service
from everline.serving.types import Outcome
from tests_support.segments import flights, segment

NOON = datetime(2013, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def endpoint(begin):
    with begin() as uow:
        return service.create_endpoint(uow, "flight-delay", project="default")


def ship(begin, rows, **options):
    data, ids = segment(rows, at=options.pop("at", NOON), **options)
    with begin() as uow:
        predictions.add_segment(uow, data, project="default", endpoint="flight-delay", rows=len(rows))
    return ids


def test_a_segment_is_kept_once_and_its_digest_is_in_the_audit_log(begin, endpoint):
    data, ids = segment(flights(3), at=NOON)
    with begin() as uow:
        first = predictions.add_segment(uow, data, project="default", endpoint="flight-delay", rows=3)
    with begin() as uow:
        again = predictions.add_segment(
            uow, data, project="default", endpoint="flight-delay", digest=digest_bytes(data)
        )
    assert (first.stored, again.stored) == (True, False)
    assert first.digest == again.digest == digest_bytes(data)
    assert (first.first_prediction, first.last_prediction) == (ids[0], ids[-1])
    with begin() as uow:
        events = audit.list_events(uow, project="default", action="prediction.segment")
        assert [event.subject for event in events] == [f"prediction-segment:{digest_bytes(data)}"]
        assert uow.blobs.get_bytes(first.digest) == data


def test_predictions_are_listed_newest_first_across_segments_that_overlap(begin, endpoint):
    uids = [new_uid() for _ in range(9)]
    for part in (uids[0::2], uids[1::2]):
        ship(begin, [row | {"prediction": uid} for uid, row in zip(part, flights(len(part)), strict=True)])
    with begin(role=Role.VIEWER) as uow:
        first = predictions.list_predictions(uow, "flight-delay", project="default", limit=4)
        last = first[-1].prediction
        rest = predictions.list_predictions(uow, "flight-delay", project="default", limit=9, before=last)
    assert [one.prediction for one in first + rest] == uids[::-1]


def test_one_prediction_has_its_inputs_outputs_and_later_its_outcome(begin, endpoint):
    ids = ship(begin, flights(5, event_time=NOON + HOUR))
    with begin() as uow:
        feedback.log_feedback(
            uow, [Outcome(prediction=ids[2], outcome=True)], project="default", endpoint="flight-delay"
        )
        found = predictions.get_prediction(uow, ids[2].upper(), project="default")
    assert found.inputs == {"distance": 102.0, "carrier": "UA"}
    assert found.outputs == {"probability": 0.25, "label": False}
    assert (found.at, found.event_time, found.row, found.outcome) == (NOON, NOON + HOUR, 2, True)


def test_an_unknown_prediction_is_not_found(begin, endpoint):
    ship(begin, flights(2))
    with begin() as uow, pytest.raises(NotFoundError, match="no logged prediction"):
        predictions.get_prediction(uow, new_uid(), project="default")
    with begin() as uow, pytest.raises(InvalidInputError, match="not an identifier"):
        predictions.get_prediction(uow, "../../etc/passwd", project="default")


def test_a_window_is_cut_by_event_time_from_its_start_up_to_without_its_end(begin, endpoint):
    rows = [row | {"event_time": NOON + HOUR * hour} for hour, row in enumerate(flights(4))]
    ids = ship(begin, [*rows, *flights(1)])  # the last has no event time: its time is `at`, which is noon
    with begin() as uow:
        feedback.log_feedback(uow, [Outcome(prediction=ids[1], outcome=1)], project="default", endpoint="flight-delay")
        table = predictions.read_window(uow, "flight-delay", project="default", start=NOON, end=NOON + 2 * HOUR)
    assert table["prediction"].to_pylist() == [ids[0], ids[1], ids[4]]
    assert table["in.distance"].to_pylist() == [100.0, 101.0, 100.0]
    assert table["outcome"].to_pylist() == [None, 1.0, None]
    assert {"out.probability", "out.label", "revision", "latency_us"} <= set(table.column_names)
    assert table["event_time"].to_pylist() == [NOON, NOON + HOUR, NOON]


def test_an_empty_window_is_an_empty_table_with_its_columns(begin, endpoint):
    with begin() as uow:
        table = predictions.read_window(uow, "flight-delay", project="default", start=NOON, end=NOON + HOUR)
    assert table.num_rows == 0
    assert "outcome" in table.column_names


def test_rows_that_were_shipped_twice_count_once(begin, endpoint):
    uids = [new_uid() for _ in range(4)]
    for part in (uids[:3], uids[1:]):
        ship(begin, [row | {"prediction": uid} for uid, row in zip(part, flights(3), strict=True)])
    with begin() as uow:
        table = predictions.read_window(uow, "flight-delay", project="default", start=NOON, end=NOON + HOUR)
        listed = predictions.list_predictions(uow, "flight-delay", project="default")
    assert table["prediction"].to_pylist() == uids
    assert [one.prediction for one in listed] == uids[::-1]


def test_segments_of_models_with_other_inputs_join_in_one_window(begin, endpoint):
    ship(begin, flights(2))
    ship(begin, [{"inputs": {"distance": 5, "wind": 3.0}, "outputs": {"probability": 0.5}}], revision="rev-2")
    with begin() as uow:
        table = predictions.read_window(uow, "flight-delay", project="default", start=NOON, end=NOON + HOUR)
        second = predictions.read_window(
            uow, "flight-delay", project="default", start=NOON, end=NOON + HOUR, revision="rev-2"
        )
    assert table["in.wind"].to_pylist() == [None, None, 3.0]
    assert second.num_rows == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"at": None}, "at"),
        ({"at": pa.array(["noon", "noon"])}, "at"),
        ({"at": pa.array([None, NOON], pa.timestamp("us", tz="UTC"))}, "at"),
        ({"inputs": pa.array([1, 2])}, "inputs"),
        ({"prediction": pa.array(["a", "b"])}, "prediction"),
        ({"prediction": pa.array(["0192f5c4-7d2e-7c31-9d7e-0a4b5c6d7e8f"] * 2)}, "prediction"),
        ({"endpoint": pa.array(["flight-delay", "other"])}, "endpoint"),
        ({"latency_us": pa.array([1.5, 2.5])}, "latency_us"),
    ],
)
def test_a_segment_of_other_columns_is_refused_and_the_column_is_named(begin, endpoint, change, field):
    data, _ = segment(flights(2), at=NOON, change=change)
    with begin() as uow, pytest.raises(InvalidInputError) as caught:
        predictions.add_segment(uow, data, project="default", endpoint="flight-delay")
    assert caught.value.field == field


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\0" * 64 + b"PAR1", b"{}"])
def test_bytes_that_are_no_parquet_are_refused(begin, endpoint, data):
    with begin() as uow, pytest.raises(InvalidInputError, match="not a readable Parquet file"):
        predictions.add_segment(uow, data, project="default", endpoint="flight-delay")


def test_a_segment_that_lost_bytes_or_rows_on_its_way_is_refused(begin, endpoint):
    data, _ = segment(flights(2), at=NOON)
    with begin() as uow, pytest.raises(IntegrityError):
        predictions.add_segment(uow, data, project="default", endpoint="flight-delay", digest="sha256:" + "0" * 64)
    with begin() as uow, pytest.raises(InvalidInputError, match="2 rows where 3 were announced"):
        predictions.add_segment(uow, data, project="default", endpoint="flight-delay", rows=3)


def test_an_altered_segment_in_storage_is_noticed_when_it_is_read(begin, endpoint, app):
    data, ids = segment(flights(2), at=NOON)
    with begin() as uow:
        kept = predictions.add_segment(uow, data, project="default", endpoint="flight-delay")
    path = app.settings.home / "blobs" / "sha256" / kept.digest[7:9] / kept.digest[9:]
    path.chmod(0o600)
    path.write_bytes(data.replace(b"UA", b"AA"))
    with begin() as uow, pytest.raises(IntegrityError, match="altered"):
        predictions.get_prediction(uow, ids[0], project="default")


def test_only_machines_ship_segments_and_only_members_read_predictions(begin, endpoint):
    data, _ = segment(flights(1), at=NOON)
    with begin(role=Role.CONTRIBUTOR) as uow, pytest.raises(ForbiddenError):
        predictions.add_segment(uow, data, project="default", endpoint="flight-delay")
    with begin(role=Role.DATAPLANE) as uow:
        predictions.add_segment(uow, data, project="default", endpoint="flight-delay")
    with begin(role=Role.DATAPLANE) as uow, pytest.raises(ForbiddenError):
        predictions.list_predictions(uow, "flight-delay", project="default")


# --- feedback -------------------------------------------------------------------------------------


def test_feedback_is_idempotent_and_a_later_outcome_replaces_the_earlier(begin, endpoint):
    ids = ship(begin, flights(3))
    batch = [Outcome(prediction=uid, outcome=False) for uid in ids]
    with begin() as uow:
        first = feedback.log_feedback(uow, batch, project="default", endpoint="flight-delay")
    with begin() as uow:
        again = feedback.log_feedback(uow, batch, project="default", endpoint="flight-delay")
    with begin() as uow:
        changed = feedback.log_feedback(
            uow, [Outcome(prediction=ids[0], outcome=True)], project="default", endpoint="flight-delay"
        )
        assert predictions.get_prediction(uow, ids[0], project="default").outcome is True
    assert (first.stored, first.replaced, first.unchanged, first.unmatched_yet) == (3, 0, 0, 0)
    assert (again.stored, again.replaced, again.unchanged) == (0, 0, 3)
    assert (changed.stored, changed.replaced) == (0, 1)


def test_feedback_that_comes_before_its_prediction_waits_for_it(begin, endpoint):
    data, ids = segment(flights(2), at=NOON)
    with begin() as uow:
        early = feedback.log_feedback(
            uow, [Outcome(prediction=uid, outcome=1.0) for uid in ids], project="default", endpoint="flight-delay"
        )
    assert (early.stored, early.unmatched_yet) == (2, 2)
    with begin() as uow:
        predictions.add_segment(uow, data, project="default", endpoint="flight-delay")
        table = predictions.read_window(uow, "flight-delay", project="default", start=NOON, end=NOON + HOUR)
    assert table["outcome"].to_pylist() == [1.0, 1.0]


def test_bad_feedback_is_refused_as_a_whole_and_the_item_is_named(begin, endpoint):
    good = Outcome(prediction=new_uid(), outcome=True)
    for bad, field in (
        (Outcome(prediction="x", outcome=True), "items[1].prediction"),
        (Outcome(prediction=new_uid(), outcome=float("nan")), "items[1].outcome"),
        (Outcome(prediction=new_uid(), outcome=1.0, event_time=datetime(2013, 1, 1)), "items[1].event_time"),
    ):
        with begin() as uow, pytest.raises(InvalidInputError) as caught:
            feedback.log_feedback(uow, [good, bad], project="default", endpoint="flight-delay")
        assert caught.value.field == field
    with begin() as uow:
        assert feedback.count_feedback(uow, "flight-delay", project="default") == 0


def test_feedback_has_a_size_limit_and_needs_an_endpoint_that_exists(begin, endpoint):
    many = [Outcome(prediction=new_uid(), outcome=True)] * 10_001
    with begin() as uow, pytest.raises(TooLargeError):
        feedback.log_feedback(uow, many, project="default", endpoint="flight-delay")
    with begin() as uow, pytest.raises(NotFoundError):
        feedback.log_feedback(uow, many[:1], project="default", endpoint="nowhere")
