"""Durable jobs: done once, whoever dies."""

from __future__ import annotations

from datetime import timedelta

import pytest

from everline.clock import FixedClock, SystemClock
from everline.errors import StaleError
from everline.jobs import queue
from everline.server.application import Application


@pytest.fixture
def clocked(settings):
    application = Application(settings, clock=FixedClock(SystemClock().now()))
    yield application
    application.close()


def test_a_key_is_enqueued_once(begin):
    with begin() as uow:
        assert queue.enqueue(uow, "retrain", {"n": 1}, project="default", queue="pipelines", key="incident:1")
        assert queue.enqueue(uow, "retrain", {"n": 2}, project="default", queue="pipelines", key="incident:1") is None
    with begin() as uow:
        assert [job.payload for job in queue.list_jobs(uow, project="default")] == [{"n": 1}]


def test_a_job_is_leased_to_one_worker_and_taken_over_when_it_falls_silent(clocked):
    with clocked.begin() as uow:
        queue.enqueue(uow, "retrain", {}, project="default", queue="pipelines")
    with clocked.begin() as uow:
        job = queue.claim(uow, queue="pipelines", worker="a", project="default")
        assert queue.claim(uow, queue="pipelines", worker="b", project="default") is None
    clocked.clock.advance(clocked.settings.job_lease_s + 1)
    with clocked.begin() as uow:
        taken = queue.claim(uow, queue="pipelines", worker="b", project="default")
        assert taken.uid == job.uid
        assert taken.attempts == 2
        with pytest.raises(StaleError, match="no longer a's"):
            queue.complete(uow, job.uid, worker="a", result={})
        assert queue.complete(uow, job.uid, worker="b", result={"ok": True}).status == "done"


def test_a_failing_job_comes_back_later_and_is_given_up_after_the_last_try(clocked):
    with clocked.begin() as uow:
        queue.enqueue(uow, "retrain", {}, project="default", queue="pipelines")
    for attempt in range(clocked.settings.job_attempts_max):
        with clocked.begin() as uow:
            job = queue.claim(uow, queue="pipelines", worker="a", project="default")
            job = queue.fail(uow, job.uid, worker="a", error="no data")
            assert queue.claim(uow, queue="pipelines", worker="a", project="default") is None
        clocked.clock.advance(timedelta(seconds=2.0 ** (attempt + 1) + 1).total_seconds())
    assert job.status == "failed"
    assert job.error == "no data"
