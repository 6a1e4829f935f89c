"""What tests of releases stand on: a clock that stands still, and the steps of a release on it."""

import pytest

from everline.clock import FixedClock, SystemClock
from tests_support.released import World


@pytest.fixture
def clock(app):
    app.clock = FixedClock(SystemClock().now())
    return app.clock


@pytest.fixture
def world(begin, clock):
    return World(begin, clock)
