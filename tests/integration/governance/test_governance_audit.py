"""The log in both databases: written with the change, read by filters, checked from its leaves."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, func, insert, select, update

from everline.access.types import Role
from everline.clock import FixedClock
from everline.errors import ForbiddenError, IntegrityError, NotFoundError, TooLargeError, UnavailableError
from everline.governance import audit, evidence, verification
from everline.governance.bundle import verify_proof
from everline.governance.signing import server_key
from everline.governance.tables import audit_checkpoint, audit_event, audit_head, audit_node
from everline.governance.tree import merkle


def write(begin, count=1, *, action="thing.change", subject="thing:a", **data):
    for number in range(count):
        with begin() as uow:
            audit.record(uow, action, subject=subject, project="default", number=number, **data)


def checked(begin):
    with begin() as uow:
        return verification.verify(uow)


def size(begin):
    with begin() as uow:
        return audit.read_head(uow).size


def test_an_event_says_who_did_what_to_which_and_when(begin):
    write(begin, action="release.promote", subject="release:r1", before=None, share=0.1, at_share={"new": [1, 2.5]})
    with begin() as uow:
        [event] = audit.list_events(uow, project="default", limit=1)
    assert (event.actor, event.actor_name) == ("local", "local")
    assert (event.action, event.subject, event.project) == ("release.promote", "release:r1", "default")
    assert event.data == {"number": 0, "before": None, "share": 0.1, "at_share": {"new": [1, 2.5]}}
    assert event.at.endswith("Z")


def test_a_change_that_fails_leaves_no_event(begin):
    before = size(begin)
    with pytest.raises(RuntimeError), begin() as uow:
        audit.record(uow, "thing.change", subject="thing:a", project="default")
        raise RuntimeError("the change failed")
    assert size(begin) == before


def test_events_of_one_unit_of_work_stand_together_in_order(begin):
    with begin() as uow:
        for number in range(5):
            audit.record(uow, "thing.change", subject=f"thing:{number}", project="default")
    with begin() as uow:
        events = audit.list_events(uow, project="default", action="thing.change")
    assert [event.subject for event in events] == [f"thing:{number}" for number in (4, 3, 2, 1, 0)]
    assert events[0].index - events[4].index == 4


def test_the_log_is_searched_by_subject_actor_action_and_time(begin, app):
    clock = FixedClock(datetime(2026, 3, 1, tzinfo=UTC))
    app.clock = clock
    write(begin, action="release.create", subject="release:1")
    clock.advance(60)
    write(begin, action="release.promote", subject="release:1")
    clock.advance(60)
    write(begin, action="policy.save", subject="policy:p")

    def found(**filters):
        with begin() as uow:
            return [event.action for event in audit.list_events(uow, project="default", **filters)]

    start = datetime(2026, 3, 1, tzinfo=UTC)
    assert found(subject="release:1") == ["release.promote", "release.create"]
    assert found(action="release.") == ["release.promote", "release.create"]
    assert found(action="policy.save", actor="local") == ["policy.save"]
    assert found(actor="nobody") == []
    assert found(since=start + timedelta(seconds=60), until=start + timedelta(seconds=120)) == ["release.promote"]


def test_pages_follow_each_other_without_gap(begin):
    write(begin, 7)
    with begin() as uow:
        everything = audit.list_events(uow, project=None)
        first = audit.list_events(uow, project=None, limit=3)
        rest = audit.list_events(uow, project=None, before=first[-1].index)
    assert [event.index for event in first + rest] == [event.index for event in everything]


def test_writers_at_once_make_one_gapless_verified_log(begin):
    before = size(begin)
    failures = []

    def work():
        try:
            write(begin, 10)
        except Exception as error:  # pragma: no cover
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert size(begin) == before + 40
    assert checked(begin).verified


def test_a_clock_that_goes_backwards_does_not_break_the_log(begin, app):
    clock = FixedClock(datetime(2026, 3, 1, tzinfo=UTC))
    app.clock = clock
    write(begin, 2)
    clock.advance(-3600 * 24 * 365)
    write(begin, 2)
    report = checked(begin)
    assert report.verified
    with begin() as uow:
        times = [event.at for event in audit.list_events(uow, project="default", action="thing.change")]
    assert times[0] < times[-1]


def test_a_full_disk_refuses_the_change_says_so_and_leaves_the_log_whole(begin, app):
    if app.settings.database_url.startswith("postgres"):
        pytest.skip("the limit is SQLite's own; PostgreSQL refuses by itself")
    write(begin, 3)
    before = size(begin)

    def fill(limit):
        with begin() as uow:
            uow.conn.exec_driver_sql(f"PRAGMA max_page_count = {limit}")
            evidence.attach(uow, subject="model-version:1", kind="photo", body={"x": "y" * 60_000}, project="default")

    with begin() as uow:
        pages = uow.conn.exec_driver_sql("PRAGMA page_count").scalar_one()
    with pytest.raises(UnavailableError, match="full"):
        fill(pages)
    with begin() as uow:
        uow.conn.exec_driver_sql("PRAGMA max_page_count = 1073741823")
        assert evidence.list_evidence(uow, subject="model-version:1", project="default") == []
    report = checked(begin)
    assert (report.verified, report.size) == (True, before)
    fill(1_073_741_823)
    assert checked(begin).size == before + 1


def test_secrets_and_oversized_events_are_refused_with_their_change(begin):
    before = size(begin)
    with pytest.raises(ValueError, match="secrets never enter"), begin() as uow:
        audit.record(uow, "user.create", subject="user:a", project="*", password="hunter2")
    with pytest.raises(TooLargeError), begin() as uow:
        audit.record(uow, "thing.change", subject="thing:a", project="default", text="x" * 70_000)
    assert size(begin) == before


def test_every_event_is_proven_under_a_signed_root_and_offline(begin, settings):
    write(begin, 9)
    with begin() as uow:
        assert audit.checkpoint(uow) is not None
    write(begin, 4)
    key = server_key(settings).public_text
    for index in range(size(begin)):
        with begin() as uow:
            proof = audit.prove(uow, index)
        assert verify_proof(proof, key).index == index
    with pytest.raises(NotFoundError), begin() as uow:
        audit.prove(uow, 10_000)


def test_a_checkpoint_is_written_only_when_the_log_has_grown(begin):
    write(begin, 3)
    with begin() as uow:
        first = audit.checkpoint(uow)
    with begin() as uow:
        assert audit.checkpoint(uow) is None
        assert audit.latest_checkpoint(uow).note == first.note
    write(begin)
    with begin() as uow:
        assert audit.checkpoint(uow).size == first.size + 1


def test_the_log_of_today_is_proven_to_continue_the_one_of_before(begin):
    write(begin, 5)
    with begin() as uow:
        old = audit.read_head(uow)
    write(begin, 6)
    with begin() as uow:
        new = audit.read_head(uow)
        path = [bytes.fromhex(value) for value in audit.prove_consistency(uow, old.size)]
    merkle.verify_consistency(old.size, new.size, path=path, first_root=old.root, second_root=new.root)
    with pytest.raises(IntegrityError):
        merkle.verify_consistency(old.size, new.size, path=path, first_root=b"\x00" * 32, second_root=new.root)


def tamper(begin, statement):
    """Change the database behind the program's back."""
    with begin() as uow:
        uow.conn.execute(statement)


@pytest.fixture
def log(begin):
    """A log of a few events with two checkpoints; returns the index of one in the middle."""
    write(begin, 6)
    with begin() as uow:
        audit.checkpoint(uow)
    write(begin, 5)
    with begin() as uow:
        audit.checkpoint(uow)
    assert checked(begin).verified
    return size(begin) - 8


def problems(begin):
    report = checked(begin)
    assert not report.verified
    return {problem.what for problem in report.problems}, {problem.index for problem in report.problems}


def test_an_altered_event_is_found_and_named(begin, log):
    leaf = select(audit_event.c.leaf).where(audit_event.c.position == log)
    with begin() as uow:
        text = uow.conn.execute(leaf).scalar_one()
    tamper(begin, update(audit_event).where(audit_event.c.position == log).values(leaf=text.replace("local", "ghost")))
    what, where = problems(begin)
    assert "altered" in what
    assert log in where


def test_an_event_filed_under_another_actor_is_found(begin, log):
    tamper(begin, update(audit_event).where(audit_event.c.position == log).values(actor="ghost"))
    assert problems(begin) == ({"altered"}, {log})


def test_a_removed_event_is_found(begin, log):
    tamper(begin, delete(audit_event).where(audit_event.c.position == log))
    what, where = problems(begin)
    assert "removed" in what
    assert log in where


def test_a_truncated_tail_is_found(begin, log):
    tamper(begin, delete(audit_event).where(audit_event.c.position > log))
    assert "truncated" in problems(begin)[0]


def test_an_invented_event_is_found(begin, log):
    row = {"position": size(begin), "leaf": "{}", "hash": merkle.leaf_hash(b"{}"), "at": datetime.now(UTC)}
    row |= {"actor": "a", "actor_name": "a", "action": "a.b", "subject": "a:b", "project": "default"}
    tamper(begin, insert(audit_event).values(row))
    assert "invented" in problems(begin)[0]


def test_swapped_events_are_found(begin, log):
    with begin() as uow:
        rows = uow.conn.execute(select(audit_event).where(audit_event.c.position.in_([log, log + 1]))).all()
        for row, other in zip(rows, reversed(rows), strict=True):
            values = {name: value for name, value in other._mapping.items() if name != "position"}
            uow.conn.execute(update(audit_event).where(audit_event.c.position == row.position).values(values))
    assert "rewritten" in problems(begin)[0]


def test_a_log_rewritten_as_a_whole_contradicts_its_signatures(begin, log):
    """Whoever may write the database may rebuild everything in it, but cannot sign."""
    with begin() as uow:
        rows = uow.conn.execute(select(audit_event).order_by(audit_event.c.position)).all()
        leaves = [row.leaf.replace("thing:a", "thing:b").encode() for row in rows]
        hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
        growth = merkle.grow(0, (), hashes)
        for row, leaf, value in zip(rows, leaves, hashes, strict=True):
            subject = row.subject.replace("thing:a", "thing:b")
            values = {"leaf": leaf.decode(), "hash": value, "subject": subject}
            uow.conn.execute(update(audit_event).where(audit_event.c.position == row.position).values(values))
        uow.conn.execute(delete(audit_node))
        nodes = [{"level": n[0], "position": n[1], "hash": h} for n, h in growth.nodes if n[0]]
        uow.conn.execute(insert(audit_node), nodes)
        uow.conn.execute(update(audit_head).values(root=growth.root, peaks=b"".join(growth.peaks)))
    assert problems(begin)[0] == {"rewritten"}


def test_a_log_rolled_back_behind_its_checkpoint_is_found(begin, log):
    with begin() as uow:
        growth = merkle.grow(
            0, (), uow.conn.execute(select(audit_event.c.hash).where(audit_event.c.position < 5)).scalars()
        )
        uow.conn.execute(delete(audit_event).where(audit_event.c.position >= 5))
        uow.conn.execute(update(audit_head).values(size=5, root=growth.root, peaks=b"".join(growth.peaks)))
    assert "truncated" in problems(begin)[0]


def test_a_forged_checkpoint_is_found(begin, log):
    tamper(begin, update(audit_checkpoint).values(note=func.replace(audit_checkpoint.c.note, "everline", "everlime")))
    assert "unsigned" in problems(begin)[0]


def test_reading_the_log_needs_the_permission(begin):
    write(begin)
    for role in (Role.VIEWER, Role.CONTRIBUTOR):
        with pytest.raises(ForbiddenError), begin(role=role) as uow:
            audit.list_events(uow, project="default")
    with begin(role=Role.AUDITOR) as uow:
        assert audit.list_events(uow, project="default")
        assert verification.verify(uow, project="default").verified
    with pytest.raises(ForbiddenError), begin(role=Role.AUDITOR) as uow:
        audit.list_events(uow, project=None)
