"""The story that the browser walks through: data, a run, two versions, two releases, predictions, an incident."""

from __future__ import annotations

import io
import struct
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from everline.access import service as access
from everline.access.types import Actor, Role
from everline.datasets import service as datasets
from everline.datasets.inspection import inspect
from everline.datasets.types import DatasetFile, DatasetVersion
from everline.delivery import service as delivery
from everline.delivery.types import Source
from everline.governance import evidence
from everline.ids import new_uid
from everline.models import aliases, card, service
from everline.models.package import build_package, store_package
from everline.models.signature_inference import infer_signature
from everline.models.types import ModelVersion
from everline.monitoring import service as monitoring
from everline.monitoring import watch
from everline.monitoring.types import CreateMonitor, MonitorKind, Reference
from everline.pipelines import running
from everline.pipelines import service as pipelines
from everline.pipelines.types import RecordSteps, StartRun, StepStatus, StepUpdate, ValueRef
from everline.releases import rollout
from everline.releases import service as releases
from everline.reproduction import service as reproduction
from everline.reproduction.explaining import service as explaining
from everline.reproduction.explaining.types import Component, Explanation, Finding, Method, Share
from everline.reproduction.types import (
    LEVELS,
    Cause,
    FirstDifference,
    LevelCheck,
    Reproduction,
    StepComparison,
    Verdict,
)
from everline.runs import artifacts, capture, tracking
from everline.runs import service as runs
from everline.runs.types import Metric, RunInput, to_ms
from everline.server.application import Application
from everline.serving import feedback, health, predictions
from everline.serving import service as serving
from everline.serving.types import Guard, Health, Outcome, RevisionHealth
from tests_support.segments import segment

PROJECT = "default"
PASSWORD = "a sentence that nobody guesses"
"""Of every person in the story."""

DAYS, ROWS_PER_DAY = 28, 150
ROWS = DAYS * ROWS_PER_DAY
CARRIERS = ["AA", "B6", "DL", "EV", "MQ", "UA", "US", "WN"]
START = datetime(2013, 4, 1, tzinfo=UTC)


class Story(msgspec.Struct, kw_only=True):
    """Where the walk finds its things."""

    run: str
    again: str
    """The second run."""
    step: str
    """One of the first run's."""
    live: str
    """The release that answers."""
    waiting: str
    """The release that waits for approval."""
    revision: str
    """The revision behind the live release."""
    prediction: str
    incident: str
    delivery: str
    """What everline.toml declared, applied; its endpoint drifted since."""
    certificate: str
    explanation: str
    """The certificate of what moved a metric from the first run to the second."""
    """Of the first run, whose rebuild left the record at a step."""


def tell(app: Application, folder: Path) -> Story:
    """Fill an empty server through its services, each step by the person whose work it is."""
    maya, ravi = _people(app)
    with app.begin(maya) as uow:
        flights = [
            add_dataset(app, uow, "flights", _table(month), folder, label=f"2013-0{month}") for month in (1, 2, 3)
        ]
        weather = add_dataset(app, uow, "weather", _table(9).select(["hour", "distance"]), folder)
        run = _run(uow, folder, [*flights, weather], name="flight_delay 2013-03")
        first = _version(app, uow, folder, run, seed=1)
        opened = releases.create(
            uow, project=PROJECT, endpoint="flight-delay", model="flight-delay", version=first.version
        )
    with app.begin(ravi) as uow:
        releases.approve(uow, opened.uid, reason="Evaluated on a month that it has not seen.")
        live = rollout.promote(uow, opened.uid)
    asked = _predictions(app, live.revision or "", first, live.uid)
    with app.begin(maya) as uow:
        incident = _incident(uow, flights[0])
        again = _run(uow, folder, [*flights, weather], name="flight_delay 2013-06")
        second = _version(app, uow, folder, again, seed=2)
        _compare(uow, first, second)
        waiting = releases.create(
            uow, project=PROJECT, endpoint="flight-delay", model="flight-delay", version=second.version
        )
        aliases.set_alias(uow, PROJECT, "flight-delay", alias="candidate", version=second.version)
    with app.begin() as uow:
        certificate = _certificate(uow, run, again)
        step = pipelines.list_steps(uow, PROJECT, run)[-1].uid
        explanation = _explanation(uow, run, again)
        declared = _delivery(uow)
    return Story(
        run=run,
        again=again,
        step=step,
        live=live.uid,
        waiting=waiting.uid,
        revision=live.revision or "",
        prediction=asked[0],
        incident=incident,
        delivery=declared,
        certificate=certificate,
        explanation=explanation,
    )


def _delivery(uow: Any) -> str:
    text = '[endpoints.flight-delay]\nguard = "flag"\n[pipelines.retrain]\npipeline = "flight_delay:flight_delay"\n'
    applied = delivery.apply(uow, Source(text=text), project=PROJECT)
    serving.set_guard(uow, "flight-delay", project=PROJECT, guard=Guard.REJECT)
    return applied.uid if applied else ""


def _people(app: Application) -> tuple[Actor, Actor]:
    with app.begin() as uow:
        for name, role in (("maya", Role.CONTRIBUTOR), ("ravi", Role.APPROVER), ("ines", Role.AUDITOR)):
            access.create_user(uow, name, full_name=name.capitalize(), password=PASSWORD)
            access.grant_role(uow, name, role=role, project=PROJECT)
        return tuple(access.actor_of_password(uow, name, PASSWORD) for name in ("maya", "ravi"))  # type: ignore[return-value]


def _table(seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    distance = random.gamma(2.0, 500.0, ROWS) + 80
    hour = random.integers(5, 23, ROWS)
    late = random.random(ROWS) < 1 / (1 + np.exp(-(hour - 17) / 3))
    return pa.table({
        "day": pa.array([(START + timedelta(days=n % DAYS)).date() for n in range(ROWS)]),
        "hour": hour,
        "distance": distance,
        "carrier": random.choice(CARRIERS, ROWS),
        "late": late,
    })  # fmt: skip


def add_dataset(
    app: Application, uow: Any, name: str, table: pa.Table, folder: Path, label: str | None = None
) -> DatasetVersion:
    """Add a table as a version."""
    file = folder / f"{name}.parquet"
    pq.write_table(table, file)
    files = [DatasetFile(path=file.name, digest=app.blobs.put_file(file), bytes=file.stat().st_size)]
    return datasets.add_version(uow, PROJECT, name, found=inspect(app.blobs, files), label=label)


def _run(uow: Any, folder: Path, data: list[DatasetVersion], *, name: str) -> str:
    project = folder / "project"
    project.mkdir(exist_ok=True)
    (project / "flight_delay.py").write_text("def flight_delay(): ...\n")
    run = runs.create_run(
        uow, PROJECT, name=name, pipeline="flight_delay:flight_delay", params={"max_depth": "6"}, user="maya"
    ).run
    taken = capture.capture(project, "flight_delay:flight_delay", seed=7)
    for content in taken.blobs.values():
        uow.blobs.put_bytes(content)
    runs.set_record(uow, PROJECT, run, msgspec.to_builtins(taken.record))
    now = uow.clock.now()
    curve = [
        Metric(key=key, value=level + 0.3 * float(np.exp(-step / 12)), at_ms=to_ms(now), step=step)
        for key, level in (("train_log_loss", 0.40), ("valid_log_loss", 0.43))
        for step in range(40)
    ]
    found = [Metric(key=key, value=value, at_ms=to_ms(now)) for key, value in (("auc", 0.731), ("error_rate", 0.191))]
    inputs = [RunInput(name=one.dataset, digest=one.digest, version=one.version, context="training") for one in data]
    tracking.log_batch(uow, PROJECT, run, metrics=curve + found, inputs=inputs)
    name = "flight_delay:flight_delay"
    epoch = running.start(uow, PROJECT, run, body=StartRun(pipeline=name, driver="worker")).epoch
    pipelines.record_steps(uow, PROJECT, run, report=RecordSteps(pipeline=name, epoch=epoch, steps=_steps(now)))
    for path, data in _files().items():
        artifacts.put_artifact(uow, PROJECT, run, path, digest=uow.blobs.put_bytes(data))
    runs.finish_run(uow, PROJECT, run)
    return run


def _files() -> dict[str, bytes]:
    """What a run leaves: a picture, a table, and a page that would run a script if it were let."""
    size = 48
    rows = b"".join(b"\0" + bytes((x * y) % 256 for x in range(size)) for y in range(size))
    parts = (b"IHDR" + struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0), b"IDAT" + zlib.compress(rows), b"IEND")
    chunks = (struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in parts)
    table = io.BytesIO()
    pq.write_table(_table(4).slice(0, 300), table)
    return {
        "plots/confusion.png": b"\x89PNG\r\n\x1a\n" + b"".join(chunks),
        "predictions.parquet": table.getvalue(),
        "report.html": b"<script>document.title = 'taken over'</script>",
    }


def _steps(now: datetime) -> list[StepUpdate]:
    graph = {"validate": (), "weather": (), "join": ("validate", "weather"), "split": ("join",), "train": ("split",)}
    graph["evaluate"] = ("split", "train")
    made = []
    for position, (name, needs) in enumerate(graph.items()):
        cached = position < 2
        digest = "sha256:" + f"{position:x}" * 64
        made.append(
            StepUpdate(
                uid=new_uid(), name=name, position=position, needs=needs,
                status=StepStatus.CACHED if cached else StepStatus.SUCCEEDED,
                outputs=(ValueRef(kind="table", digest=digest),), attempts=0 if cached else 1,
                started_at=now, ended_at=now + timedelta(seconds=0.01 if cached else 1.2 + position),
            )
        )  # fmt: skip
    return made


def _version(app: Application, uow: Any, folder: Path, run: str, *, seed: int) -> ModelVersion:
    frame: pd.DataFrame = _table(seed).to_pandas()
    inputs = frame[["hour", "distance", "carrier"]]
    encode = make_column_transformer((OrdinalEncoder(), ["carrier"]), remainder="passthrough")
    model = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=10, random_state=seed)).fit(
        inputs, frame["late"]
    )
    told = {"intended_use": "Warn travellers early.", "limitations": "Flights from New York in 2013 only."}
    package = build_package(
        model,
        signature=infer_signature(inputs),
        out_dir=folder / f"package-{seed}",
        metadata=told,
        created_from={"run": run},
    )
    digest = store_package(package, put_bytes=app.blobs.put_bytes, put_file=app.blobs.put_file)
    version = service.register(uow, project=PROJECT, model="flight-delay", package=digest, run=run)
    measured = {
        "dataset": "flights 2013-04", "digest": "sha256:" + "e" * 64, "n": 9600,
        "metrics": {"auc": 0.73 + seed / 1000, "log_loss": 0.431, "calibration_error": 0.012, "error_rate": 0.191},
        "slices": [
            {"by": "carrier", "value": name, "n": 1200, "metrics": {"auc": 0.72, "error_rate": 0.15 + n / 100}}
            for n, name in enumerate(CARRIERS)
        ],
    }  # fmt: skip
    traced = {f"{part}_recorded": True for part in ("code", "environment", "data", "seed")} | {"data_age_days": 3.0}
    for kind, body in (("evaluation", measured), ("lineage", {"run": run} | traced)):
        evidence.attach(uow, subject=version.subject, kind=kind, body=body, project=PROJECT)
    card.make_card(uow, version.uid)
    return version


def _compare(uow: Any, champion: ModelVersion, challenger: ModelVersion) -> None:
    body = {
        "champion": champion.package, "challenger": challenger.package, "metric": "log_loss", "n": 9600,
        "champion_value": 0.4431, "challenger_value": 0.4310, "difference": -0.0121, "low": -0.0140, "high": -0.0101,
        "level": 0.95, "method": "paired bootstrap", "verdict": "better",
    }  # fmt: skip
    evidence.attach(uow, subject=challenger.subject, kind="comparison", body=body, project=PROJECT)


def _certificate(uow: Any, run: str, rebuild: str) -> str:
    """Of a rebuild on other data: the first steps agree, the rest do not."""
    steps = pipelines.list_steps(uow, PROJECT, run)
    found = [
        StepComparison(
            name=step.name, position=step.position, recorded=(step.outputs[0].digest,),
            rebuilt=(step.outputs[0].digest if step.position < 2 else "sha256:" + "f" * 64,),
            equal="bits" if step.position < 2 else "no", difference=None if step.position < 2 else 0.25,
        )
        for step in steps
    ]  # fmt: skip
    earned = {"L0": "code, data, parameters and environment are recorded and whole", "L1": "Python is as recorded"}
    reasons = earned | dict.fromkeys(LEVELS[2:], "flights@2: not the recorded dataset versions")
    report = Reproduction(
        run=run, level="L1", verdict=Verdict.DIVERGED, reason="at step join: data",
        first_difference=FirstDifference(step="join", cause=Cause.DATA, detail=reasons["L2"]),
        checks=tuple(LevelCheck(level=level, earned=level in earned, reason=reasons[level]) for level in LEVELS),
        steps=tuple(found), hardware=("cores: 4 recorded, 2 here",), rebuilds=(rebuild,), subjects=(f"run:{run}",),
    )  # fmt: skip
    return reproduction.certify(uow, PROJECT, report).certificate or ""


def _explanation(uow: Any, before: str, after: str) -> str:
    """More data made it better, other code made it worse."""
    shares = (
        ("evaluation set", 0.012, 0.0),
        ("data flights", -0.05, 0.004),
        ("code", 0.02, 0.006),
        ("seed", 0.001, 0.002),
    )
    found = Explanation(
        before=before, after=after, metric="log_loss", before_value=0.467, after_value=0.45, change=-0.017,
        finding=Finding.EXPLAINED, reason="data flights caused -0.05 of the -0.017 by which log_loss changed (294%)",
        method=Method.EXACT, seeds=(7, 8, 9), noise=0.003,
        components=(
            Component(name="data flights", before="flights@1", after="flights@2", changes=("without sha256:5853",)),
            Component(name="code", before="1f0e3c2a91", after="77b1d02e4c", changes=("step train: LEAVES",)),
        ),
        shares=tuple(
            Share(components=(name,), value=value, low=value - spread, high=value + spread)
            for name, value, spread in shares
        ),
    )  # fmt: skip
    return explaining.certify(uow, PROJECT, found).certificate or ""


def _predictions(app: Application, revision: str, version: ModelVersion, release: str) -> list[str]:
    """Eight days of flights; from the fifth on somebody sends kilometres."""
    random = np.random.default_rng(3)
    hours, distances = random.integers(5, 23, 8 * ROWS_PER_DAY), random.gamma(2.0, 500.0, 8 * ROWS_PER_DAY) + 80
    rows = []
    for n, (hour, distance) in enumerate(zip(hours, distances, strict=True)):
        day = n // ROWS_PER_DAY
        p = float(1 / (1 + np.exp(-(hour - 17) / 3)))
        miles = float(distance) * (1.609344 if day >= 4 else 1.0)
        inputs = {"hour": int(hour), "distance": miles, "carrier": str(random.choice(CARRIERS))}
        rows.append(
            {
                "inputs": inputs, "outputs": {"probability": p, "label": p >= 0.5}, "release": release,
                "package": version.package, "event_time": START + timedelta(days=day, hours=int(hour)),
            }
        )  # fmt: skip
    with app.begin() as uow:
        data, asked = segment(rows, at=uow.clock.now(), revision=revision)
        predictions.add_segment(uow, data, project=PROJECT, endpoint="flight-delay")
        outcomes = [Outcome(prediction=one, outcome=n % 4 == 0) for n, one in enumerate(asked)]
        feedback.log_feedback(uow, outcomes, project=PROJECT, endpoint="flight-delay")
    report_health(app, revision, requests=200)
    return asked


def report_health(app: Application, revision: str, *, requests: int) -> None:
    """What a data plane says every few seconds."""
    for step in range(3):
        seen = RevisionHealth(
            endpoint="flight-delay", project=PROJECT, revision=revision, ready=True, requests=requests + step,
            window_requests=20, p50_ms=1.9 + step / 10, p95_ms=3.8, p99_ms=7.1,
        )  # fmt: skip
        with app.begin() as uow:
            health.report_health(uow, Health(replica="one", address="http://127.0.0.1:9", revisions=[seen]))


def _incident(uow: Any, reference: DatasetVersion) -> str:
    """Watch the inputs, and find what happened to them."""
    monitoring.create_monitor(
        uow,
        CreateMonitor(
            name="inputs", endpoint="flight-delay", kind=MonitorKind.DRIFT, start=START,
            reference=Reference(dataset=reference.dataset, version=str(reference.version)),
        ),
        project=PROJECT,
    )  # fmt: skip
    found = watch.run_monitor(uow, "inputs", project=PROJECT, until=START + timedelta(days=8))
    return found.opened[0]
