"""The drill: load at a fixed rate while all of an endpoint changes and breaks; nothing fails, nothing is lost.

`EVERLINE_DRILL_S` is its length in seconds (600), `EVERLINE_DRILL_RATE` is requests per second (50).
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import httpx
import numpy as np
import pandas as pd
import psutil
import pytest
from sklearn.linear_model import LogisticRegression

from everline.access.types import Actor, Role
from everline.errors import EverlineError
from everline.models import service as models
from everline.models.flavors.function import PythonFunction
from everline.models.package import build_package, store_package
from everline.models.signature_inference import infer_signature
from everline.sdk.client import Client
from tests_support.registry import attest, compared

pytestmark = pytest.mark.drill
SECONDS = float(os.environ.get("EVERLINE_DRILL_S", "600"))
RATE = float(os.environ.get("EVERLINE_DRILL_RATE", "50"))
ASKERS = 4
PAUSE_S = 1.5
ENDPOINT = "flight-delay"
RULES = """
import numpy as np

def late(columns):
    p = np.clip((columns["hour"] - 5) / 20, 0, 1)
    return {"probability": p, "label": p > 0.5}
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A model in the answering process, and one in a process of its own."""
    random = np.random.default_rng(3)
    table = pd.DataFrame({"distance": random.uniform(80, 4983, 400), "hour": random.integers(5, 24, 400)})
    late = table["hour"].to_numpy() + random.normal(0, 4, 400) > 15
    signature = infer_signature(table)
    root = tmp_path_factory.mktemp("packages")
    linear = LogisticRegression(max_iter=500).fit(table, late)
    first = build_package(linear, signature=signature, out_dir=root / "linear")
    (root / "drill_rules.py").write_text(textwrap.dedent(RULES))
    sys.path.insert(0, str(root))
    try:
        from drill_rules import late as function
    finally:
        sys.path.remove(str(root))
    second = build_package(PythonFunction(function), flavor="function", signature=signature, out_dir=root / "function")
    return first, second


class Load:
    """Asks at a fixed rate from several threads; keeps every answered prediction and every failure."""

    def __init__(self, address: str, secret: str) -> None:
        self.address, self.headers = address, {"Authorization": f"Bearer {secret}"}
        self.answered: list[str] = []
        self.failed: list[str] = []
        self.versions: set[str] = set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(ASKERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        row = {"dataframe_records": [{"distance": 500.0, "hour": 10 + number}]}
        with httpx.Client(base_url=self.address, timeout=20, headers=self.headers) as client:
            start = time.monotonic() + number / RATE
            for turn in itertools.count():
                if self._stop.wait(max(start + turn * ASKERS / RATE - time.monotonic(), 0)):
                    return
                try:
                    answer = client.post(f"/endpoints/{ENDPOINT}/invocations", json=row)
                except httpx.HTTPError as error:
                    self.failed.append(f"{time.monotonic():.2f} {type(error).__name__}: {error}")
                    continue
                if answer.status_code == 200:
                    self.answered += answer.json()["parameters"]["predictions"]
                    self.versions.add(answer.headers["everline-model-version"])
                else:
                    self.failed.append(f"{answer.status_code} {answer.text[:300]}")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_nothing_fails_and_nothing_is_lost(server, app, tokens, packages, tmp_path):
    maya_token = tokens("maya", Role.CONTRIBUTOR)
    ravi, maya = Client(server.url, token=tokens("ravi", Role.APPROVER)), Client(server.url, token=maya_token)
    uid = next(user.uid for user in Client(server.url).access.list_users() if user.name == "maya")
    actor = Actor(uid=uid, name="maya", roles={"default": frozenset({Role.CONTRIBUTOR})})
    versions = []
    for package in packages:
        with app.begin(actor) as uow:
            store_package(package, put_bytes=uow.blobs.put_bytes, put_file=uow.blobs.put_file)
            version = models.register(uow, project="default", model=ENDPOINT, package=package.digest)
            first = versions[0].package if versions else ""
            attest(uow, version, **({"comparison": compared(first, package.digest)} if versions else {}))
            versions.append(version)
    opened = maya.releases.create(ENDPOINT, ENDPOINT, 1)
    ravi.releases.approve(opened.uid)
    ravi.releases.promote(opened.uid)
    secret = maya.endpoints.create_key(ENDPOINT, "drill").secret
    settings = os.environ | {"EVERLINE_HEALTH_REPORT_S": "0.5"}
    with (tmp_path / "serve.log").open("w") as log:
        plane = subprocess.Popen(
            [sys.executable, "-m", "everline", "serve", "--port", "0", "--home", str(tmp_path / "serve"), "--workers",
             "2", "--control-plane", server.url],
            stdout=subprocess.PIPE, stderr=log, text=True, env=settings,
        )  # fmt: skip
    try:
        address = re.search(r"http://\S+", plane.stdout.readline()).group()
        wait_until(lambda: httpx.get(f"{address}/v2/health/ready").status_code == 200)
        ends, done = time.monotonic() + SECONDS, dict.fromkeys(("rollout", "crash", "outage", "change"), 0)
        with Load(address, secret) as load:
            while time.monotonic() < ends or not all(done.values()):
                assert load.failed == []
                change_options(maya)
                done["change"] += 1
                go_there_and_back(maya, ravi, plane, done)
                server.kill()
                time.sleep(PAUSE_S)
                server.start()
                done["outage"] += 1
        assert load.failed == []
        assert load.versions == {f"{ENDPOINT}/1", f"{ENDPOINT}/2"}
        wanted = set(load.answered)
        wait_until(lambda: wanted <= logged(maya), seconds=90)
        assert len(logged(maya)) == len(wanted) == len(load.answered)
        print(f"{len(wanted)} answers in {SECONDS:g} s, none failed, none lost; {done}")
    finally:
        plane.terminate()
        assert plane.wait(60) == 0
        plane.stdout.close()


def change_options(maya: Client) -> None:
    """Whoever has the key is answered through every one of these."""
    for change in ({"access": "key"}, {"guard": "flag"}, {"access": "open"}, {"guard": "reject"}):
        maya.endpoints.change(ENDPOINT, **change)
        time.sleep(PAUSE_S / 4)


def go_there_and_back(maya: Client, ravi: Client, plane: subprocess.Popen[str], done: dict[str, int]) -> None:
    """A whole rollout to the isolated model, crashes of its process, and the way back."""
    release = maya.releases.create(ENDPOINT, ENDPOINT, 2, canary_share=0.3)
    ravi.releases.approve(release.uid)
    ravi.releases.shadow(release.uid)
    time.sleep(PAUSE_S)
    ravi.releases.canary(release.uid)
    time.sleep(PAUSE_S)
    ravi.releases.set_share(release.uid, 0.6)
    time.sleep(PAUSE_S)
    done["crash"] += crash_isolated(plane)
    ravi.releases.promote(release.uid)
    time.sleep(PAUSE_S)
    done["crash"] += crash_isolated(plane)
    time.sleep(PAUSE_S)
    ravi.releases.rollback(release.uid, reason="drill")
    time.sleep(PAUSE_S)
    done["rollout"] += 1


def crash_isolated(plane: subprocess.Popen[str]) -> int:
    """Kill one process of the isolated model; how many were there."""
    children = psutil.Process(plane.pid).children(recursive=True)
    found = [child for child in children if any("isolated" in word for word in child.cmdline())]
    for child in found[:1]:
        child.send_signal(signal.SIGKILL)
    return len(found[:1])


def logged(maya: Client) -> set[str]:
    return set(maya.predictions.window(ENDPOINT, limit=2_000_000)["prediction"].to_pylist())


def wait_until(condition, *, seconds=30):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (httpx.HTTPError, EverlineError):
            pass
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.2)
