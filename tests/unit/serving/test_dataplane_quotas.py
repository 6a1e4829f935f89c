"""Quotas of API keys over time, over restarts, and with several processes at once."""

import subprocess
import sys

import pytest

from everline.serving.dataplane.quotas import QuotaExceededError, Quotas
from everline.serving.types import DesiredKey


def taken(quotas, key, moments):
    allowed = 0
    for now in moments:
        try:
            quotas.take(key, now=now)
            allowed += 1
        except QuotaExceededError:
            pass
    return allowed


def test_a_rate_allows_its_burst_and_then_what_time_brings(tmp_path):
    quotas, key = Quotas(tmp_path / "q"), DesiredKey(uid="a", hash="", requests_per_s=5.0)
    assert taken(quotas, key, [1000.0] * 20) == 5
    assert taken(quotas, key, [1000.0 + n / 10 for n in range(1, 101)]) == 50
    assert taken(quotas, key, [900.0] * 10) == 0  # a clock that went back gives nothing
    other = DesiredKey(uid="b", hash="", requests_per_s=0.5)
    quotas.take(other, now=1000.0)
    with pytest.raises(QuotaExceededError) as caught:
        quotas.take(other, now=1000.5)
    assert caught.value.retry_after_s == 2


def test_a_day_ends_at_midnight_and_a_restart_forgets_nothing(tmp_path):
    key, noon = DesiredKey(uid="a", hash="", requests_per_day=3), 86_400 * 20_000 + 43_200.0
    assert taken(Quotas(tmp_path / "q"), key, [noon] * 2) == 2
    again = Quotas(tmp_path / "q")
    assert taken(again, key, [noon + 1] * 5) == 1
    with pytest.raises(QuotaExceededError) as caught:
        again.take(key, now=noon)
    assert caught.value.retry_after_s == 43_200
    assert taken(again, key, [noon + 43_200]) == 1


def test_processes_keep_one_quota_together_and_keys_do_not_share(tmp_path):
    code = (
        "import sys; from pathlib import Path; from everline.serving.dataplane.quotas import *;"
        "from everline.serving.types import DesiredKey;"
        "quotas, n = Quotas(Path(sys.argv[1])), 0\n"
        "for _ in range(400):\n"
        "  try: quotas.take(DesiredKey(uid='a', hash='', requests_per_day=300), now=5.0); n += 1\n"
        "  except QuotaExceededError: pass\n"
        "print(n)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "q")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sum(int(one.communicate(timeout=60)[0]) for one in both) == 300
    quotas = Quotas(tmp_path / "q")
    for number in range(2000):
        assert taken(quotas, DesiredKey(uid=f"k{number}", hash="", requests_per_day=1), [5.0, 5.0]) == 1
