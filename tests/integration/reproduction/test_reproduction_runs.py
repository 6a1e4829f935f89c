"""Runs are rebuilt from their record in a process of their own, on both databases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from everline.access.types import Role
from everline.cli.app import run as everline
from everline.errors import ForbiddenError, InvalidInputError, NotFoundError
from everline.governance import evidence
from everline.governance.signing import dsse_verify, server_key
from everline.ids import digest_bytes, new_uid
from everline.pipelines.types import StepUpdate
from everline.reproduction import service
from everline.reproduction.types import Cause, CertifyReproduction, Reproduction, Verdict
from everline.runs.capture import capture
from everline.runs.watching import Watch
from everline.sdk.client import Client
from everline.sdk.processes import run_process
from everline.sdk.reproduction import Changes, Where
from everline.sdk.syscalls import Supervisor
from everline.server.application import Application
from everline.storage.paths import blob_path

FLOW = """
import everline as el

SCALE = 2.0


@el.step
def double(table: el.Table, factor: float) -> el.Table:
    import pyarrow.compute as pc

    return table.append_column("y", pc.multiply(table["x"], factor * SCALE))


@el.step
def draw(table: el.Table, seed: int) -> dict[str, float]:
    import numpy as np

    return {"mean": float(np.mean(table["y"].to_numpy() * np.random.default_rng(seed).random(table.num_rows)))}


@el.pipeline
def flow(factor: float = 1.5, seed: int = 7) -> dict[str, float]:
    return draw(double(el.dataset("numbers"), factor=factor), seed=seed)


@el.step
def read_outside() -> str:
    import os

    return open(os.environ["OUTSIDE_FILE"]).read()


@el.pipeline
def outside() -> str:
    return read_outside()


@el.step
def read_compiled() -> int:
    import os

    import pyarrow.csv

    return pyarrow.csv.read_csv(os.environ["OUTSIDE_FILE"]).num_rows


@el.pipeline
def compiled() -> int:
    return read_compiled()


@el.step
def chance() -> str:
    import os

    return os.urandom(8).hex()


@el.pipeline
def dice() -> str:
    return chance()


@el.step
def noisy(shift: float) -> dict[str, float]:
    import os

    # Chance as it comes, but the same in every run of this test: the n-th draw of a list.
    file = os.open(os.environ["DRAWS"], os.O_RDWR | os.O_CREAT)
    drawn = len(os.read(file, 100))
    os.write(file, b".")
    os.close(file)
    return {"mean": shift + [0.0, 0.01, -0.01, 0.005, -0.005, 0.012][drawn % 6]}


@el.pipeline
def unseeded(shift: float = 0.5) -> dict[str, float]:
    return noisy(shift)


@el.pipeline
def promised(factor: float = 1.0) -> el.Table:
    return double(el.dataset("numbers", contract=True), factor=factor)


@el.step
def order_of_set() -> list:
    return list({"a", "b", "c", "d", "e", "f"})


@el.step
def number_of_threads() -> str:
    import os

    return os.environ["OMP_NUM_THREADS"]


@el.step
def order_of_files() -> list:
    import os
    from pathlib import Path

    folder = os.environ["SOME_FOLDER"]
    return [os.listdir(folder), [entry.name for entry in os.scandir(folder)], [p.name for p in Path(folder).iterdir()]]


@el.pipeline
def careless() -> list:
    return [order_of_set(), number_of_threads(), order_of_files()]
"""

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def project(tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's project, and the data that it reads."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "everline.toml").write_text("")
    (root / "flow.py").write_text(FLOW)
    client.datasets.add("numbers", pa.table({"x": [1.0, 2.0, 4.0]}))
    # An editable install is named by its sources: whoever edits them while the suite runs would change the environment.
    pinned = tmp_path / "pinned" / "everline-0.1.0.dist-info"
    pinned.mkdir(parents=True)
    (pinned / "RECORD").write_text("everline/__init__.py,sha256=pinned,1\n")
    monkeypatch.setenv("PYTHONPATH", f"{pinned.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.chdir(root)
    monkeypatch.setenv("EVERLINE_HOME", str(client.settings.home.absolute()))
    return root


@pytest.fixture
def run(project: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a pipeline in a process of its own, as people do; gives the run's uid."""

    def start(entry: str = "flow:flow", *options: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "everline", "run", entry, "--json", *options],
            cwd=project,
            capture_output=True,
            check=True,
        )
        return str(msgspec.json.decode(done.stdout)["run"])

    return start


def test_a_run_reproduces_at_l5_with_a_signed_certificate(client: Client, app: Application, run: Any) -> None:
    made = run()
    report = client.reproduction.reproduce(made)
    assert report.first_difference is None, report.reason
    assert (report.level, report.verdict) == ("L5", Verdict.IDENTICAL)
    assert [step.equal for step in report.steps] == ["bits", "bits"]

    detail = client.reproduction.certificate(report.certificate or "")
    payload = dsse_verify(
        detail.envelope, server_key(app.settings).verify_key, payload_type="application/vnd.in-toto+json"
    )
    statement = msgspec.json.decode(payload)
    assert statement == detail.statement
    assert statement["predicate"]["result"] == "PASSED"
    assert statement["predicate"]["passedTests"] == ["L0", "L1", "L2", "L3", "L4", "L5"]
    assert statement["subject"][0]["name"] == f"run:{made}"
    assert [c.uid for c in client.reproduction.certificates(f"run:{made}")] == [report.certificate]
    with app.begin() as uow:
        found = evidence.list_evidence(uow, subject=f"run:{made}", project="default", kind="reproduction")
    assert found[0].body["level"] == "L5"
    assert found[0].body["certificate"] == report.certificate


@only_sqlite
def test_later_edits_of_the_project_do_not_matter(client: Client, project: Path, run: Any) -> None:
    made = run()
    (project / "flow.py").write_text("raise RuntimeError('edited')\n")
    client.datasets.add("numbers", pa.table({"x": [9.0]}))
    assert client.reproduction.reproduce(made).level == "L5"


@only_sqlite
@pytest.mark.parametrize(
    ("changes", "step", "cause"),
    [
        (Changes(params={"factor": "2"}), "double", Cause.PARAMETERS),
        (Changes(seed=8), "draw", Cause.SEED),
        (Changes(data={"numbers": "2"}), "double", Cause.DATA),
    ],
)
def test_one_change_is_named_with_its_step(client: Client, run: Any, changes: Changes, step: str, cause: Cause) -> None:
    made = run()
    client.datasets.add("numbers", pa.table({"x": [1.0, 2.0, 5.0]}))
    report = client.reproduction.reproduce(made, changes=changes)
    assert report.verdict is Verdict.DIVERGED
    assert report.first_difference is not None
    assert (report.first_difference.step, report.first_difference.cause) == (step, cause)
    assert report.certificate is None, "a rebuild that changes something on purpose proves nothing about the run"


@only_sqlite
def test_one_changed_line_of_code_is_named(client: Client, run: Any, tmp_path: Path) -> None:
    made = run()
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "flow.py").write_text(FLOW.replace("SCALE = 2.0", "SCALE = 2.5"))
    report = client.reproduction.reproduce(made, changes=Changes(code=tmp_path / "code"))
    assert report.first_difference is not None
    assert (report.first_difference.step, report.first_difference.cause) == ("double", Cause.CODE)
    assert "SCALE" in report.first_difference.detail


@only_sqlite
def test_another_package_version_is_named(client: Client, run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    for version in ("1.0", "2.0"):
        folder = tmp_path / version / f"wheel_of_chance-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "RECORD").write_text(f"wheel.py,sha256={version},1\n")
    paths = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / '1.0'}{os.pathsep}{paths}")
    made = run()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / '2.0'}{os.pathsep}{paths}")
    report = client.reproduction.reproduce(made, environment=Where.HERE)
    assert report.first_difference is not None
    assert report.first_difference.cause is Cause.ENVIRONMENT
    assert report.first_difference.detail.startswith("wheel-of-chance: 1.0")
    assert (report.level, report.verdict) == ("L0", Verdict.EQUIVALENT)


@only_sqlite
@pytest.mark.drill
def test_a_hidden_file_and_chance_are_told_apart(
    client: Client, run: Any, tmp_path: Path, monkeypatch: Any, browser: TestClient
) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("one")
    monkeypatch.setenv("OUTSIDE_FILE", str(outside))
    made = run("flow:outside")
    seen = json.loads(client.runs.get(made).tags["everline.undeclared"])
    assert [(one["name"], one["step"], one["digest"]) for one in seen] == [
        (str(outside), "read_outside", digest_bytes(b"one"))
    ]
    assert f"step read_outside read {outside}" in browser.get(f"/runs/{made}").text
    # Even where it is as it was, nobody but the run knows what the step read: that is not a rebuild from the record.
    report = client.reproduction.reproduce(made)
    assert (report.level, report.verdict) == ("L1", Verdict.EQUIVALENT)
    assert (report.first_difference.step, report.first_difference.cause) == ("read_outside", Cause.HIDDEN_INPUT)
    assert f"step read_outside read {outside} ({digest_bytes(b'one')[:19]}…, 3 bytes)" in report.reason
    statement = client.reproduction.certificate(report.certificate or "").statement
    assert statement["predicate"]["everline"]["undeclared"] == list(report.undeclared) != []
    outside.write_text("two")
    report = client.reproduction.reproduce(made)
    assert (report.first_difference.step, report.first_difference.cause) == ("read_outside", Cause.HIDDEN_INPUT)
    assert f"{digest_bytes(b'two')[:19]}…, 3 bytes), {digest_bytes(b'one')[:19]}… when it was recorded" in report.reason
    outside.unlink()
    report = client.reproduction.reproduce(made)
    assert (report.level, report.first_difference.cause) == ("L1", Cause.HIDDEN_INPUT)
    assert "FileNotFoundError" in report.first_difference.detail
    assert f"when it was recorded, step read_outside read {outside}" in report.first_difference.detail

    report = client.reproduction.reproduce(run("flow:dice"))
    assert (report.first_difference.step, report.first_difference.cause) == ("chance", Cause.NON_DETERMINISM)
    assert (report.level, len(report.rebuilds)) == ("L2", 2)


@only_sqlite
def test_a_file_that_compiled_code_opens_by_itself_is_named(
    client: Client, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text("a\n1\n2\n")
    monkeypatch.setenv("OUTSIDE_FILE", str(outside))
    made = run("flow:compiled")
    with Supervisor(Watch(peers=[])) as supervisor:
        run_process([sys.executable, "-c", ""], folder=tmp_path, variables={}, timeout_s=60, supervisor=supervisor)
    if not supervisor.heard:
        pytest.skip("this sandbox does not let the kernel tell")
    report = client.reproduction.reproduce(made)
    assert (report.level, report.verdict) == ("L1", Verdict.EQUIVALENT)
    digest = digest_bytes(outside.read_bytes())[:19]
    assert report.undeclared == (f"step read_compiled read {outside} ({digest}…, 6 bytes)",)


@only_sqlite
@pytest.mark.drill
def test_a_noisy_run_is_statistically_equal_and_another_one_is_not(
    client: Client, run: Any, begin: Any, capfd: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("DRAWS", str(tmp_path / "draws"))
    made = run("flow:unseeded")
    home = str(client.settings.home)
    capfd.readouterr()
    assert everline(["reproduce", made, "--home", home, "--repeats", "3", "--json"]) == 0
    report = msgspec.json.decode(capfd.readouterr().out, type=Reproduction)
    assert (report.level, report.verdict, len(report.repeats)) == ("L3", Verdict.EQUIVALENT, 3), report.reason
    (band,) = report.bands
    assert band.name == "noisy.mean" and band.low < band.recorded < band.high and band.n == 3
    assert report.reason.startswith("statistically equal: 1 number within the 95% bands of 3 repeats: noisy.mean")
    statement = client.reproduction.certificate(report.certificate or "").statement
    assert statement["predicate"]["passedTests"] == ["L0", "L1", "L2", "L3"]
    assert statement["predicate"]["everline"]["bands"][0]["low"] == band.low

    # Somebody claims another result: the same repeats do not bear it out, and other runs are no repeats of it.
    kept = client.runs.record(made)
    step = client.pipelines.steps(made)[0]
    claimed = client.runs.create(experiment="unseeded", pipeline="flow:unseeded", params={"shift": "0.5"}).run
    client.runs.set_record(claimed, kept)
    digest = client.blobs.put_bytes(b'{"mean":0.9}')
    output = msgspec.structs.replace(step.outputs[0], digest=digest, files=(
        msgspec.structs.replace(step.outputs[0].files[0], digest=digest, bytes=12, text=None),
    ))  # fmt: skip
    update = StepUpdate(**{name: getattr(step, name) for name in StepUpdate.__struct_fields__ if hasattr(step, name)})
    update = msgspec.structs.replace(update, uid=new_uid(), outputs=(output,), key=step.key)
    client.pipelines.write_down(claimed, pipeline="flow:unseeded", steps=[update])
    for uid in (*report.rebuilds, *report.repeats):
        client.runs.log_batch(uid, tags={"everline.reproduces": claimed})
    asked = CertifyReproduction(
        run=claimed, rebuilds=list(report.rebuilds), repeats=list(report.repeats), certify=False
    )
    other = client.call("POST", "/reproductions", body=asked, returns=Reproduction)
    assert (other.level, other.verdict) == ("L2", Verdict.DIVERGED)
    assert "1 of 1 number outside of the 95% bands of 3 repeats: noisy.mean 0.9" in other.reason
    with pytest.raises(InvalidInputError, match="no rebuild of run"), begin() as uow:
        service.compare(uow, "default", claimed, rebuilds=report.rebuilds, repeats=[made, *report.repeats[:2]])
    with pytest.raises(InvalidInputError, match="3 to 50"):
        client.reproduction.reproduce(made, repeats=2)


def test_tampering_is_found_before_anything_runs(client: Client, app: Application, run: Any) -> None:
    made = run()
    assert app.blobs.directory is not None
    data = client.datasets.show("numbers").files[0]
    place = app.blobs.directory / blob_path(data.digest)
    honest = place.read_bytes()
    place.write_bytes(honest[:-1] + b"?")
    report = client.reproduction.reproduce(made)
    assert (report.level, report.verdict, report.first_difference.cause) == (None, Verdict.UNVERIFIABLE, Cause.DATA)
    assert "numbers" in report.reason
    place.unlink()
    report = client.reproduction.reproduce(made)
    assert (report.level, report.verdict, report.first_difference.cause) == (None, Verdict.UNVERIFIABLE, Cause.DATA)
    place.write_bytes(honest)

    record = client.runs.record(made)
    code = next(file for file in record["code"]["files"] if file["path"] == "flow.py")
    (app.blobs.directory / blob_path(code["digest"])).write_bytes(b"print('other')")
    report = client.reproduction.reproduce(made)
    assert (report.level, report.first_difference.cause) == (None, Cause.CODE)
    assert report.first_difference.detail.startswith("flow.py")


def test_a_run_without_a_record_gets_a_verdict_and_its_reason(
    client: Client, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = client.runs.create(experiment="plain").run
    client.runs.finish(made)
    report = client.reproduction.reproduce(made)
    assert (report.level, report.verdict) == (None, Verdict.UNVERIFIABLE)
    assert "recorded no code" in report.reason
    home = str(client.settings.home)
    assert everline(["reproduce", made, "--home", home, "--json"]) == 1
    assert everline(["reproduce", made, "--home", home]) == 1
    assert everline(["reproduce", "0" * 32, "--home", home]) == 2
    assert everline(["reproduce", "no-such-model/1", "--home", home]) == 2
    assert everline(["reproduce", "../../x", "--home", home]) == 2
    assert "Traceback" not in capfd.readouterr().err


def test_the_server_compares_only_true_rebuilds(client: Client, app: Application, begin: Any) -> None:
    runs = [client.runs.create(experiment="plain").run for _ in range(2)]
    for made in runs:
        client.runs.set_record(made, {"entry": "a:b"})
    with pytest.raises(NotFoundError), begin() as uow:
        service.compare(uow, "default", "0" * 32)
    with begin() as uow:
        report = service.compare(uow, "default", runs[0], rebuilds=[runs[1]])
    assert report.verdict is Verdict.UNVERIFIABLE
    assert "cannot be read" in report.reason
    with pytest.raises(ForbiddenError), begin(role=Role.VIEWER) as uow:
        service.certify(uow, "default", report)
    with pytest.raises(InvalidInputError), begin() as uow:
        service.compare(uow, "default", runs[0], rebuilds=["x"] * 9)


def test_a_script_says_how_far_its_record_goes(client: Client, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("print('trained')\n")
    captured = capture(tmp_path / "code", "train.py")
    for content in captured.blobs.values():
        client.blobs.put_bytes(content)
    made = client.runs.create(experiment="scripts").run
    client.runs.set_record(made, msgspec.to_builtins(captured.record))
    client.runs.finish(made)
    report = client.reproduction.reproduce(made)
    assert (report.level, report.verdict) == ("L0", Verdict.UNVERIFIABLE)
    assert "logged no metric, file or model" in report.reason
    assert report.certificate is not None


@only_sqlite
@pytest.mark.drill
def test_what_should_not_matter_is_changed_and_the_step_that_minds_is_named(
    client: Client, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "one").touch()
    monkeypatch.setenv("SOME_FOLDER", str(folder))
    made = run("flow:careless")
    (folder / "one").rename(folder / "two")
    assert client.reproduction.reproduce(made).first_difference.step == "order_of_files"
    (folder / "two").rename(folder / "one")
    checked = client.reproduction.check_determinism(made)
    assert [(one.changed, one.equal, one.step) for one in checked.variations] == [
        ("nothing", True, None),
        ("hash seed", False, "order_of_set"),
        ("threads", False, "number_of_threads"),
        ("file order", True, None),
    ]
    assert not checked.deterministic and checked.reason == "step order_of_set depends on the hash seed"
    recorded = {step.key: step.outputs for step in client.pipelines.steps(made)}
    kept = client.pipelines.lookup(list(recorded))
    assert {key: entry.outputs for key, entry in kept.items()} == recorded
    assert client.reproduction.certificates(f"run:{made}")  # of the rebuild above, and none of the variations
    home = str(client.settings.home)
    assert everline(["reproduce", made, "--home", home, "--check-determinism", "--seed", "1"]) == 2
    plain = run("flow:flow")
    assert everline(["reproduce", plain, "--home", home, "--check-determinism"]) == 0
    assert "no result depends on hash seed, threads or file order" in capfd.readouterr().out


@only_sqlite
def test_the_order_of_files_is_a_hidden_input(client: Client, run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    for name in ("one", "two", "three"):
        (folder / name).touch()
    monkeypatch.setenv("SOME_FOLDER", str(folder))
    checked = client.reproduction.check_determinism(run("flow:careless"))
    assert [one.step for one in checked.variations][3] == "order_of_files"


@only_sqlite
def test_a_contract_that_was_set_since_does_not_touch_the_rebuild(client: Client, run: Any) -> None:
    client.datasets.set_contract("numbers", {"owner": "x", "columns": {"x": {"max": 10}}})
    made = run("flow:promised")
    client.datasets.set_contract("numbers", {"owner": "x", "columns": {"x": {"max": 1}}})
    assert client.reproduction.reproduce(made).level == "L5"
