"""A released model in one file: served with no control plane and no network, and refused when any byte was changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from everline.bundles import archive
from everline.bundles.serving import open_bundle
from everline.cli.app import run as everline
from everline.errors import ConflictError, EverlineError, IntegrityError, InvalidInputError
from everline.governance.signing import SigningKey, VerifyKey, server_key
from everline.models.package import Package
from everline.sdk import bundles
from everline.sdk.client import Client
from everline.server.application import Application
from everline.serving.dataplane.metrics import Metrics
from everline.serving.dataplane.store import LocalStore
from tests_support.live import Live, small_package

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
COLUMNS = {"distance": [100.0, 2500.5, 4000.0], "temp": [None, 3.25, -7.5]}
NO_NETWORK = """
import socket, sys
real = socket.socket.connect
def refuse(self, address):
    raise OSError(f"the network was asked for {address}")
socket.socket.connect = refuse
socket.getaddrinfo = lambda *a, **k: (_ for _ in ()).throw(OSError("a name was looked up"))
from everline.cli.app import main
sys.argv[0] = "everline"
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return small_package(tmp_path_factory.mktemp("package") / "model")


@pytest.fixture
def live(begin: Callable[..., Any], package: Package) -> Live:
    return Live(begin, package)


@pytest.fixture
def key(app: Application) -> VerifyKey:
    return server_key(app.settings).verify_key


@contextmanager
def serving(*options: str, code: str = NO_NETWORK, variables: dict[str, str] | None = None) -> Iterator[Any]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVERLINE_")}
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", "--port", "0", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment | (variables or {}),
    )  # fmt: skip
    try:
        address = re.search(r"http://\S+", process.stdout.readline() if process.stdout else "")
        assert address is not None, process.communicate()[1]
        yield address.group(), process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def ask(address: str) -> dict[str, Any]:
    answer = httpx.post(f"{address}/endpoints/flight-delay/invocations", json={"inputs": COLUMNS})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_packaged_model_answers_the_same_bits_with_no_control_plane_and_no_network(
    client: Client, live: Live, key: VerifyKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    home = str(client.settings.home)
    assert everline(["package", "flight-delay:1", "-o", str(out), "--home", home, "--json"]) == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    file = out / "flight-delay-1.everline"
    assert (told["file"], told["package"], told["key"]) == (str(file), live.package.digest, key.text)

    report = bundles.verify(file, key)
    assert report.verified, report.findings
    assert [one.name for one in report.findings] == ["signature", "proofs", "package", "release", "certificates"]

    place = tmp_path / "elsewhere"
    with serving("--bundle", str(file), "--key", key.text, "--home", str(place)) as (address, process):
        wanted = live.package.load().predict(COLUMNS)
        answer = ask(address)
        assert [row["probability"] for row in answer["predictions"]] == wanted["probability"].tolist()
        assert answer["parameters"]["release"] == live.release.uid
        health = httpx.get(f"{address}/health").json()
        assert (health["status"], health["control_plane"]) == (
            "ok", "not asked: what is served comes from a bundle",
        )  # fmt: skip
        process.terminate()
        assert process.wait(20) == 0
    assert len(list((place / "dataplane" / "spool").glob("*.raw"))) == 1  # logged, and kept for a control plane


@only_sqlite
def test_every_changed_byte_is_refused_and_the_file_named(
    client: Client, live: Live, key: VerifyKey, tmp_path: Path
) -> None:
    file = client.bundles.package("flight-delay", tmp_path / "good.everline")
    good = file.read_bytes()
    with zipfile.ZipFile(file) as whole:
        middle = {info.filename: info.header_offset + 30 + len(info.filename) for info in whole.infolist()}
        ends = [info.header_offset for info in whole.infolist()]
    store, bad = LocalStore(tmp_path / "place"), tmp_path / "bad.everline"

    def refused(position: int) -> str:
        bad.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(EverlineError) as caught:
            open_bundle(bad, store, Metrics(), key=key)
        return caught.value.message

    for name in ("package/model.skops", archive.README_FILE, archive.STATEMENT, archive.CONTENTS, archive.SERVING):
        said = refused(middle[name] + 40)
        assert name in said or "signature" in said, (name, said)
    # The ZIP's own bytes too: in and between the headers, in the directory, at the very end.
    for position in [*(start + 11 for start in ends), *range(len(good) - 400, len(good), 37), len(good) - 1]:
        refused(position)
    assert not any(store.packages.iterdir())
    assert open_bundle(file, store, Metrics(), key=key).table is not None


@only_sqlite
def test_only_what_was_released_and_signed_by_the_believed_key_is_packaged_and_served(
    client: Client, live: Live, key: VerifyKey, tmp_path: Path
) -> None:
    with pytest.raises(ConflictError, match="nothing is served that nobody released"):
        client.bundles.package("flight-delay", tmp_path / "no.everline", endpoint="other")
    client.bundles.package("flight-delay", tmp_path / "good.everline")
    store = LocalStore(tmp_path / "place")
    other = SigningKey.generate().verify_key
    with pytest.raises(IntegrityError, match="signature"):
        open_bundle(tmp_path / "good.everline", store, Metrics(), key=other)
    # Without --key the first bundle's key is believed, and from then on no other.
    open_bundle(tmp_path / "good.everline", store, Metrics(), key=None)
    pinned = store.read_pinned_key()
    assert pinned is not None and pinned.text == key.text
    store.pin_key(other)
    with pytest.raises(IntegrityError, match="signature"):
        open_bundle(tmp_path / "good.everline", store, Metrics(), key=None)
    model = client.bundles.export("flight-delay/1", tmp_path / "model.zip")
    with pytest.raises(InvalidInputError, match="about a model, not a serving"):
        open_bundle(model, LocalStore(tmp_path / "third"), Metrics(), key=key)
    assert everline(["serve", "--bundle", str(tmp_path / "good.everline"), "--control-plane", "http://x"]) == 2


def test_a_full_log_of_a_bundle_makes_room_by_its_oldest_segments(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for number in range(5):
        (store.spool / f"{number}.raw").write_bytes(b"x" * 100)
    assert store.make_room(500, 250) == 200
    assert sorted(path.name for path in store.spool.iterdir()) == ["3.raw", "4.raw"]
