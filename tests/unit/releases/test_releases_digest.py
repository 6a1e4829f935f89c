"""What an approval binds to: everything that a release asks for, each part of it."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from everline.releases.rows import digest_of

ASKED = {
    "uid": "0192f5c4-7d2e-7c31-9d7e-0a4b5c6d7e8f",
    "project": "default",
    "endpoint": "flight-delay",
    "model": "flight-delay",
    "version": 2,
    "model_version": "0192f5c4-7d2e-7c31-9d7e-0a4b5c6d7e90",
    "package": "sha256:" + "1" * 64,
    "signature": "sha256:" + "2" * 64,
    "author": "uid-maya",
    "created_by": "uid-maya",
    "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    "plan": {"canary_share": 0.1},
}
CHAMPION = {"model": "flight-delay", "version": 1, "package": "sha256:" + "3" * 64, "revision": "r", "release": "s"}


@pytest.mark.parametrize("field", ASKED)
def test_any_change_of_what_is_asked_for_gives_another_digest(field):
    value = ASKED[field]
    if isinstance(value, datetime):
        other = value + timedelta(microseconds=1)
    elif isinstance(value, int):
        other = value + 1
    elif isinstance(value, dict):
        other = {"canary_share": 0.2}
    else:
        other = value[:-1] + "9"
    assert digest_of(SimpleNamespace(**ASKED), CHAMPION) != digest_of(
        SimpleNamespace(**ASKED | {field: other}), CHAMPION
    )


def test_another_champion_gives_another_digest_and_none_is_not_the_same_as_one():
    row = SimpleNamespace(**ASKED)
    other = CHAMPION | {"package": "sha256:" + "4" * 64}
    assert len({digest_of(row, None), digest_of(row, CHAMPION), digest_of(row, other)}) == 3


def test_the_digest_is_the_same_for_the_same_content():
    assert digest_of(SimpleNamespace(**ASKED), CHAMPION) == digest_of(SimpleNamespace(**ASKED), dict(CHAMPION))
