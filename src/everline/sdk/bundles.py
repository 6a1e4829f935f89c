"""Evidence bundles: fetched through the client; checked, replayed and rebuilt without any server.

client.bundles.export("flight-delay/1", Path("flight-delay.zip"))
verify(Path("flight-delay.zip"), key).verified
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec

from everline.bundles import archive, verification
from everline.bundles.archive import Reader
from everline.bundles.types import BundleReport, Facts, Finding, Kind
from everline.errors import EverlineError, IntegrityError, InvalidInputError
from everline.governance.signing import VerifyKey
from everline.loader import load
from everline.pipelines.types import StepRecord, StepUpdate
from everline.reproduction.types import Reproduction, Verdict
from everline.runs.capture import RunRecord
from everline.sdk.client import Client
from everline.sdk.reproduction import Where

Watch = Callable[[str], None]
_PREDICTION = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_RUN = re.compile(r"[0-9a-f]{32}")


class BundlesApi:
    """Take evidence away."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def export(self, target: str, file: Path, *, data: bool = True) -> Path:
        """Download all evidence about a run, model version or prediction as one file.

        Args:
            target: a run's uid (32 digits), a prediction's (with dashes), or a model as `name`, `name/version`,
                `name@alias`.
            file: written when it is whole.
            data: whether the dataset versions of a run go with it.

        Raises:
            NotFoundError: there is no such thing.
        """
        return self._download(self._subject(target), file, {"data": "true" if data else "false"})

    def package(self, model: str, file: Path, *, endpoint: str | None = None) -> Path:
        """Download a released model version as one file that `everline serve --bundle` serves with no network.

        Args:
            model: `name:2`, `name@alias`, or `name` for the newest version.
            file: written when it is whole.
            endpoint: where the version answers; None where that is one endpoint only.

        Raises:
            ConflictError: no release of the version is live.
        """
        found = self._client.models.named(model)
        return self._download(f"serving:{found.uid}", file, {"endpoint": endpoint})

    def _download(self, subject: str, file: Path, query: dict[str, str | None]) -> Path:
        partial = file.with_name(file.name + ".partial")
        file.parent.mkdir(parents=True, exist_ok=True)
        path = f"/api/v1/bundles/{quote(subject, safe=':')}"
        partial.write_bytes(self._client.send("GET", path, query=query).content)
        return partial.replace(file)

    def _subject(self, target: str) -> str:
        if _PREDICTION.fullmatch(target):
            return f"prediction:{target}"
        if _RUN.fullmatch(target):
            return f"run:{target}"
        name, _, version = target.partition("@" if "@" in target else "/")
        found = self._client.models.get(name, (f"@{version}" if "@" in target else version) or "latest")
        return f"model-version:{found.uid}"


def verify(file: Path, key: VerifyKey) -> BundleReport:
    """Check a bundle offline; one about a prediction is replayed, and its level is P4 if every bit is the same.

    Args:
        key: the public key of the server that wrote it, from a source that you trust.

    Raises:
        InvalidInputError: the file cannot be read as a bundle.
    """
    try:
        with verification.opened(file) as reader:
            report = verification.verify(reader, key)
            return _replayed(reader, report) if reader.contents.kind is Kind.PREDICTION else report
    except IntegrityError as error:  # so badly altered that it cannot even be unpacked
        wrong = Finding(name="files", passed=False, detail=error.message)
        return BundleReport(kind=Kind.RUN, subject="unknown", verified=False, findings=(wrong,), key=key.text)


def rebuild(
    file: Path,
    key: VerifyKey,
    *,
    environment: Where = Where.AUTO,
    timeout_s: float = 24 * 3600.0,
    watch: Watch = lambda message: None,
) -> Reproduction:
    """Do the run of a bundle again in an empty home of its own, and compare every output; see `reproduce`.

    Raises:
        InvalidInputError: the bundle is about something else, or its data were left out.
        IntegrityError: something in it is not what it says.
    """
    with (
        verification.opened(file) as reader,
        tempfile.TemporaryDirectory(prefix="everline-home-") as home,
        _nothing_set(),
    ):
        verification.require(reader, key, Kind.RUN)
        if any("data" in one for one in reader.contents.left_out):
            raise InvalidInputError(
                "The bundle was written without its data, so that the run cannot be done again.",
                hint="Ask for one that was exported with them.",
                field="bundle",
            )
        with Client(home=Path(home)) as client:
            run = _restore(client, reader)
            report: Reproduction = client.reproduction.reproduce(
                run, environment=environment, timeout_s=timeout_s, watch=watch
            )
            return report


@contextmanager
def _nothing_set() -> Iterator[None]:
    """Without EVERLINE_* variables, of this process too: a rebuild must not reach somebody's database or server."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("EVERLINE_")}
    for name in kept:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(kept)


def _replayed(reader: Reader, report: BundleReport) -> BundleReport:
    """Ask the package in a bundle the logged inputs again."""
    if not report.verified or report.facts is None or report.facts.prediction is None:
        return report
    package = load("everline.models.package").open_package(reader.folder / "package", digest=reader.contents.package)
    prediction = msgspec.convert(report.facts.prediction, load("everline.serving.types").Prediction)
    try:
        replay = load("everline.sdk.replaying").ask(package.load(), [prediction])[0]
    except EverlineError as error:
        finding = Finding(name="replay", passed=False, detail=f"{error.message} {error.hint or ''}".strip())
        return _with(report, finding, level="P1")
    equal = replay.verdict is Verdict.IDENTICAL
    finding = Finding(name="replay", passed=equal or replay.verdict is Verdict.EQUIVALENT, detail=replay.reason)
    return _with(report, finding, level="P4" if equal else replay.level)


def _with(report: BundleReport, finding: Finding, *, level: str | None) -> BundleReport:
    return msgspec.structs.replace(
        report, findings=(*report.findings, finding), verified=report.verified and finding.passed, level=level
    )


def _restore(client: Client, reader: Reader) -> str:
    """Put the run of a bundle into an empty home: its code, data, record and steps; return its uid."""
    facts, record = reader.read(archive.FACTS, Facts), reader.read(archive.RECORD, RunRecord)
    assert facts is not None
    assert record is not None
    assert facts.run is not None
    for file in record.code.files:
        client.blobs.put_file(reader.blob(file.digest))
    for detail in facts.data:
        with tempfile.TemporaryDirectory(dir=reader.folder) as name:
            paths = _laid_out(reader, detail["files"], Path(name))
            client.datasets.add(detail["version"]["dataset"], paths)
    uid = str(facts.run["run"])
    body = {"run": uid, "experiment": facts.run["experiment"], "pipeline": facts.run["pipeline"]}
    client.call("POST", "/runs", body=body, returns=msgspec.Raw)
    client.runs.set_record(uid, msgspec.json.decode((reader.folder / archive.RECORD).read_bytes()))
    steps = [_update(step) for step in facts.steps]
    if steps:
        client.pipelines.write_down(uid, pipeline=record.entry, steps=steps)
    else:
        client.runs.finish(uid)
    return uid


def _laid_out(reader: Reader, files: list[dict[str, object]], folder: Path) -> list[Path]:
    """The files of a dataset version under their own names; the folder if one of them lies in a folder."""
    paths = []
    for one in files:
        target = (folder / str(one["path"])).resolve()
        if not target.is_relative_to(folder.resolve()):
            raise IntegrityError(f"The bundle names {one['path']!r}, which lies outside of it.")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(reader.blob(str(one["digest"])))
        paths.append(target)
    return [folder] if any("/" in str(one["path"]) for one in files) else paths


def _update(step: StepRecord) -> StepUpdate:
    names = StepUpdate.__struct_fields__
    return StepUpdate(**{name: getattr(step, name) for name in names if hasattr(step, name) and name != "cached_from"})
