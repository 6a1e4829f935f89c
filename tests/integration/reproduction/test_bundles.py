"""One file with all evidence: checked, replayed and rebuilt in an empty folder, with the public key alone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from everline.bundles import archive
from everline.bundles.types import BundleReport
from everline.cli.app import run as everline
from everline.errors import ForbiddenError, InvalidInputError
from everline.governance import audit
from everline.governance.signing import VerifyKey, server_key
from everline.models.package import Package
from everline.sdk import bundles
from everline.sdk.client import Client
from everline.server.application import Application
from tests_support.live import Live, small_package

FLOW = """
import everline as el

SCALE = 2.0


@el.step
def double(table: el.Table, factor: float) -> el.Table:
    import pyarrow.compute as pc

    return table.append_column("y", pc.multiply(table["x"], factor * SCALE))


@el.pipeline
def flow(factor: float = 1.5) -> el.Table:
    return double(el.dataset("numbers", version=[2, 3]), factor=factor)
"""

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return small_package(tmp_path_factory.mktemp("package") / "model")


@pytest.fixture
def live(begin: Callable[..., Any], package: Package) -> Live:
    return Live(begin, package)


@pytest.fixture
def key(app: Application) -> VerifyKey:
    return server_key(app.settings).verify_key


def failing(report: BundleReport) -> dict[str, str]:
    return {one.name: one.detail for one in report.findings if not one.passed}


def rewritten(file: Path, target: Path, changes: dict[str, Any]) -> Path:
    """A copy of a bundle in which some files are changed, added or, for None, left out."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(target, "w") as new:
        for name in [*old.namelist(), *(extra for extra in changes if extra not in old.namelist())]:
            data = old.read(name) if name in old.namelist() else b""
            change = changes.get(name, data)
            if change is not None:
                new.writestr(name, change(data) if callable(change) else change)
    return target


def test_a_prediction_is_replayed_at_p4_by_a_stranger(
    client: Client, app: Application, live: Live, key: VerifyKey, tmp_path: Path
) -> None:
    prediction = live.log(4)[2]
    file = client.bundles.export(prediction, tmp_path / "prediction.zip")
    elsewhere = tmp_path / "empty"
    elsewhere.mkdir()
    # Nothing of the server is left to the process: no home, no address, no token.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("EVERLINE_")}
    command = [sys.executable, "-m", "everline", "verify", str(file), "--key", key.text, "--json"]
    done = subprocess.run(command, cwd=elsewhere, env=variables, capture_output=True, check=True)
    report = msgspec.json.decode(done.stdout, type=BundleReport)
    assert (report.verified, report.level, report.subject) == (True, "P4", f"prediction:{prediction}"), failing(report)
    assert report.facts is not None and report.facts.release is not None
    assert [one["person_name"] for one in report.facts.release["approvals"]] == ["ravi"]
    assert list(elsewhere.iterdir()) == []
    with app.begin() as uow:
        (event,) = audit.list_events(uow, project="default", action="bundle.export")
    assert event.subject == f"prediction:{prediction}"


@only_sqlite
def test_whatever_is_changed_in_a_bundle_is_named(
    client: Client, live: Live, key: VerifyKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = client.bundles.export(live.log(2)[0], tmp_path / "good.zip")
    assert bundles.verify(file, key).verified

    def verified(**changes: Any) -> BundleReport:
        return bundles.verify(rewritten(file, tmp_path / "bad.zip", changes), key)

    model = "package/model.skops"
    assert (
        f"The file '{model}' of the bundle is not what"
        in failing(verified(**{model: lambda d: d[:-1] + b"x"}))["files"]
    )
    assert "lacks 'facts.json'" in failing(verified(**{archive.FACTS: None}))["files"]
    assert "does not list: 'more.txt'" in failing(verified(**{"more.txt": b"hello"}))["files"]
    assert failing(verified(**{archive.STATEMENT: None})) == {"signature": "The bundle is not signed."}

    # Somebody who also mends the table of contents has not the key to sign it.
    def other_output(data: bytes) -> bytes:
        facts = msgspec.json.decode(data)
        facts["prediction"]["outputs"]["probability"] = 0.5
        return msgspec.json.encode(facts)

    facts = other_output(zipfile.ZipFile(file).read(archive.FACTS))

    def relisted(data: bytes) -> bytes:
        contents = msgspec.json.decode(data)
        entry = next(one for one in contents["files"] if one["path"] == archive.FACTS)
        entry |= {"digest": bundles.archive.digest_bytes(facts), "bytes": len(facts)}
        return bundles.archive.canonical_json(contents)

    found = failing(verified(**{archive.FACTS: facts, archive.CONTENTS: relisted}))
    assert found == {"signature": "The bundle's signature was made for another table of contents."}
    other = VerifyKey(name="everline", public_bytes=bytes(32))
    assert {"signature", "proofs", "package"} <= set(failing(bundles.verify(file, other)))
    assert everline(["verify", str(file), "--key", other.text]) == 1
    assert "NOT verified: prediction:" in capsys.readouterr().out

    climbing = rewritten(
        file, tmp_path / "climb.zip", {archive.CONTENTS: lambda data: data.replace(b'"facts.json"', b'"../f.json"')}
    )
    with zipfile.ZipFile(climbing, "a") as zipped:
        zipped.writestr("../f.json", zipfile.ZipFile(file).read(archive.FACTS))
    assert "does not list: 'facts.json'" in failing(bundles.verify(climbing, key))["files"]
    huge = rewritten(
        file,
        tmp_path / "huge.zip",
        {archive.CONTENTS: lambda data: data.replace(b'"bytes":', b'"bytes":999999999', 1)},
    )
    with pytest.raises(InvalidInputError, match="would unpack to more than 100 times its size"):
        bundles.verify(huge, key)
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InvalidInputError, match="is no evidence bundle"):
        bundles.verify(tmp_path / "no.zip", key)


@only_sqlite
def test_bundles_are_written_while_others_write(client: Client, live: Live, key: VerifyKey, tmp_path: Path) -> None:
    prediction, over = live.log(1)[0], threading.Event()

    def traffic() -> None:
        while not over.is_set():
            live.log(1)

    writer = threading.Thread(target=traffic)
    writer.start()
    try:
        files = [client.bundles.export(prediction, tmp_path / f"{number}.zip") for number in range(15)]
    finally:
        over.set()
        writer.join()
    assert bundles.verify(files[-1], key).level == "P4"


def test_a_model_goes_with_its_release_and_evidence(client: Client, live: Live, key: VerifyKey, tmp_path: Path) -> None:
    file = client.bundles.export("flight-delay/1", tmp_path / "model.zip")
    report = bundles.verify(file, key)
    assert report.verified, failing(report)
    assert [one.name for one in report.findings] == ["signature", "proofs", "package", "certificates"]
    assert report.facts is not None
    assert "evaluation" in {one["kind"] for one in report.facts.evidence}


@only_sqlite
def test_a_run_is_rebuilt_from_its_bundle_in_an_empty_home(
    client: Client, key: VerifyKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (root / "everline.toml").write_text("")
    (root / "flow.py").write_text(FLOW)
    for number in range(3):
        client.datasets.add("numbers", pa.table({"x": [1.0, 2.0, float(number)]}))
    home = client.settings.home.absolute()
    command = [sys.executable, "-m", "everline", "run", "flow:flow", "--json", "--home", str(home)]
    run = msgspec.json.decode(subprocess.run(command, cwd=root, capture_output=True, check=True).stdout)["run"]
    file = client.bundles.export(run, tmp_path / "run.zip")
    report = bundles.verify(file, key)
    assert report.verified, failing(report)
    told = {one.name: one.detail for one in report.findings}
    assert told["data"] == "2 dataset versions, 2 files"
    assert told["steps"] == "1 steps gave what the log says"

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.delenv("EVERLINE_HOME", raising=False)
    again = bundles.rebuild(file, key)
    assert (again.level, again.run) == ("L5", run), again.reason
    assert list(elsewhere.iterdir()) == []

    without = client.bundles.export(run, tmp_path / "without.zip", data=False)
    assert bundles.verify(without, key).verified
    with pytest.raises(InvalidInputError, match="written without its data"):
        bundles.rebuild(without, key)


@only_sqlite
def test_only_who_may_read_the_log_takes_it_away(
    live: Live, begin: Callable[..., Any], tmp_path: Path, key: VerifyKey
) -> None:
    from everline.access.types import Role
    from everline.bundles import service
    from tests_support.live import someone

    prediction = live.log(1)[0]
    with pytest.raises(ForbiddenError, match=r"audit\.read is needed"), begin(someone("tom", Role.VIEWER)) as uow:
        service.export(uow, "default", f"prediction:{prediction}", tmp_path / "no.zip")
    with pytest.raises(InvalidInputError, match="There is no bundle about 'project:default'"), begin() as uow:
        service.export(uow, "default", "project:default", tmp_path / "no.zip")
