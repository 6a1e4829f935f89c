"""Control plane and data plane as real processes: a release reaches traffic and leaves it, and no request fails."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from everline.access.types import Actor, Role
from everline.models import service as models
from everline.models.package import build_package, store_package
from everline.models.signature_inference import infer_signature
from everline.sdk.client import Client
from tests_support.registry import attest, compared

FAST = {"EVERLINE_RAW_SEGMENT_S": "0.3", "EVERLINE_HEALTH_REPORT_S": "0.2"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Two real packages that answer differently."""
    random = np.random.default_rng(3)
    table = pd.DataFrame({"distance": random.uniform(80, 4983, 400), "hour": random.integers(5, 24, 400)})
    late = table["hour"].to_numpy() + random.normal(0, 4, 400) > 15
    made = []
    for strength in (1.0, 0.001):
        model = LogisticRegression(C=strength, max_iter=500).fit(table, late)
        folder = tmp_path_factory.mktemp("packages") / str(strength)
        made.append(build_package(model, signature=infer_signature(table), out_dir=folder))
    return made


@pytest.fixture
def serve(server, tmp_path):
    """A data plane beside the server; yields its address."""
    with (tmp_path / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "everline", "serve", "--port", "0", "--home", str(tmp_path / "serve"),
             "--control-plane", server.url],
            stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | FAST,
        )  # fmt: skip
        address = re.search(r"http://\S+", process.stdout.readline()).group()
        yield address
        process.terminate()
        process.wait(30)
        process.stdout.close()


@pytest.fixture
def register(app, tokens, server):
    """Registers a package as maya, with evidence."""
    token = tokens("maya", Role.CONTRIBUTOR)
    uid = next(user.uid for user in Client(server.url).access.list_users() if user.name == "maya")
    maya = Actor(uid=uid, name="maya", roles={"default": frozenset({Role.CONTRIBUTOR})})

    def make(package, **evidence):
        with app.begin(maya) as uow:
            store_package(package, put_bytes=uow.blobs.put_bytes, put_file=uow.blobs.put_file)
            version = models.register(uow, project="default", model="flight-delay", package=package.digest)
            attest(uow, version, **evidence)
        return version

    make.client = Client(server.url, token=token)
    return make


def wait_for(condition, *, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            if found := condition():
                return found
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def test_a_release_reaches_traffic_and_leaves_it_without_a_failed_request(
    serve, register, packages, tokens, server, tmp_path
):
    maya, ravi = register.client, Client(server.url, token=tokens("ravi", Role.APPROVER))
    ask = httpx.Client(base_url=serve, timeout=10)
    row = {"dataframe_records": [{"distance": 500.0, "hour": 18}]}

    def version_of(response):
        return response.raise_for_status().headers["everline-model-version"]

    def answered_by(version):
        return lambda: version_of(ask.post("/endpoints/flight-delay/invocations", json=row)) == version

    first = register(packages[0])
    release = maya.releases.create("flight-delay", "flight-delay", first.version)
    time.sleep(0.5)
    assert ask.post("/endpoints/flight-delay/invocations", json=row).status_code >= 400  # nothing unreleased answers
    ravi.releases.approve(release.uid)
    ravi.releases.promote(release.uid)
    wait_for(answered_by("flight-delay/1"))

    failed, stop = [], threading.Event()

    def load():
        with httpx.Client(base_url=serve, timeout=10) as other:
            while not stop.is_set():
                response = other.post("/endpoints/flight-delay/invocations", json=row)
                if response.status_code != 200:
                    failed.append(response.text)
                time.sleep(0.005)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        second = register(packages[1], comparison=compared(first.package, packages[1].digest))
        candidate = maya.releases.create("flight-delay", "flight-delay", second.version, canary_share=0.5)
        ravi.releases.approve(candidate.uid)
        ravi.releases.canary(candidate.uid)
        wait_for(answered_by("flight-delay/2"))
        wait_for(
            lambda: min(maya.releases.watch(candidate.uid).canary.n, maya.releases.watch(candidate.uid).champion.n) > 5
        )
        ravi.releases.promote(candidate.uid)
        wait_for(lambda: all(answered_by("flight-delay/2")() for _ in range(20)))
        for kept in ("packages", "signatures"):  # whatever would have to be loaded could not be
            shutil.rmtree(tmp_path / "serve" / "dataplane" / kept)
        ravi.releases.rollback(candidate.uid, reason="drill")
        started = time.monotonic()
        wait_for(lambda: all(answered_by("flight-delay/1")() for _ in range(20)))
        back_s = time.monotonic() - started
    finally:
        stop.set()
        thread.join()
    assert failed == []
    assert back_s < 3
    assert not (tmp_path / "serve" / "dataplane" / "packages").exists(), "a rollback loaded something"
    newest = wait_for(lambda: maya.predictions.list("flight-delay", limit=3))
    assert {one.model for one in newest} == {"flight-delay"}
    assert maya.predictions.log_feedback("flight-delay", {newest[0].prediction: True}).unmatched_yet == 0
    assert maya.endpoints.address("flight-delay") == serve
    assert maya.predictions.predict("flight-delay", {"distance": 500.0, "hour": 18})["predictions"]
