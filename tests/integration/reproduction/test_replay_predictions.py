"""Logged predictions are answered again by the package that gave them, bit for bit, on both databases."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from everline.cli.app import run as everline
from everline.errors import IntegrityError, InvalidInputError, NotFoundError
from everline.governance import evidence
from everline.governance.signing import dsse_verify, server_key
from everline.ids import new_uid
from everline.models.package import Package
from everline.reproduction.types import Cause, Verdict
from everline.sdk.client import Client
from everline.sdk.replaying import same_bits
from everline.server.application import Application
from everline.storage.paths import blob_path
from tests_support.live import Live, small_package

NOON = datetime(2013, 5, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return small_package(tmp_path_factory.mktemp("package") / "model")


@pytest.fixture
def live(begin: Callable[..., Any], package: Package) -> Live:
    return Live(begin, package)


def test_a_logged_prediction_replays_bit_for_bit_with_a_certificate(
    client: Client, app: Application, live: Live
) -> None:
    logged = live.log(5)[3]
    replay = client.reproduction.replay(logged)
    assert replay.first_difference is None, replay.reason
    assert (replay.level, replay.verdict, replay.difference) == ("P3", Verdict.IDENTICAL, 0.0)
    assert replay.logged == replay.replayed
    assert (replay.package, replay.release) == (live.package.digest, live.release.uid)
    detail = client.reproduction.certificate(replay.certificate or "")
    statement = msgspec.json.decode(dsse_verify(detail.envelope, server_key(app.settings).verify_key))
    assert statement["predicate"]["passedTests"] == ["P0", "P1", "P2", "P3"]
    assert statement["predicate"]["configuration"][0]["digest"]["sha256"] == live.package.digest[7:]
    with app.begin() as uow:
        found = evidence.list_evidence(uow, subject=f"prediction:{logged}", project="default", kind="replay")
    assert found[0].body["level"] == "P3"


def test_a_logged_prediction_is_explained_from_its_own_package(client: Client, live: Live) -> None:
    logged = client.predictions.get(live.log(3)[1])
    found = client.predictions.explain(logged.prediction)
    assert found["inputs"] == logged.inputs and set(found["contributions"]) == set(logged.inputs)
    assert found["base"][0] + sum(value[0] for value in found["contributions"].values()) == pytest.approx(
        found["values"][0]
    )
    told = client.call("GET", f"/predictions/{logged.prediction}/explanation", returns=dict[str, Any])
    assert told["contributions"] == found["contributions"] and told["method"] == "trees, path-dependent"


def test_many_predictions_replay_in_one_go(client: Client, live: Live) -> None:
    live.log(40)
    batch = client.reproduction.replay_many("flight-delay", sample=30)
    assert (batch.n, batch.bit_equal, batch.level, batch.verdict) == (30, 30, "P3", Verdict.IDENTICAL)
    assert batch.packages == (live.package.digest,)


def one_bit(outputs: dict[str, Any]) -> dict[str, Any]:
    bits = struct.unpack("<q", struct.pack("<d", outputs["probability"]))[0] ^ 1
    return outputs | {"probability": struct.unpack("<d", struct.pack("<q", bits))[0]}


def test_one_flipped_bit_of_an_output_is_no_p3(client: Client, live: Live) -> None:
    replay = client.reproduction.replay(live.log(3, outputs=one_bit)[1])
    assert (replay.level, replay.verdict) == ("P2", Verdict.EQUIVALENT)
    assert 0 < (replay.difference or 0) < 1e-15


def test_other_outputs_or_inputs_than_were_given_are_named(client: Client, live: Live) -> None:
    other = live.log(2, outputs=lambda outputs: outputs | {"probability": outputs["probability"] / 2})
    replay = client.reproduction.replay(other[0])
    assert (replay.level, replay.verdict, replay.first_difference.cause) == ("P1", Verdict.DIVERGED, Cause.OUTPUTS)
    assert replay.first_difference.detail.startswith("output probability")

    renamed = live.log(1, inputs={"distanz": 1.0, "temp": 2.0})
    replay = client.reproduction.replay(renamed[0])
    assert (replay.level, replay.first_difference.cause) == ("P1", Cause.INPUTS)
    assert "distanz" in replay.reason
    batch = client.reproduction.replay_many("flight-delay", sample=10)
    assert (batch.n, batch.diverged, batch.level) == (3, 3, "P1")


def test_a_tampered_package_is_named(client: Client, app: Application, live: Live) -> None:
    logged = live.log(1)[0]
    entry = next(entry for entry in live.package.manifest.files if entry.path.endswith(".skops"))
    assert app.blobs.directory is not None
    place = app.blobs.directory / blob_path(entry.digest)
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)
    replay = client.reproduction.replay(logged)
    assert (replay.level, replay.verdict, replay.first_difference.cause) == ("P0", Verdict.DIVERGED, Cause.PACKAGE)
    assert entry.digest in replay.reason


def test_a_tampered_log_is_named(client: Client, app: Application, live: Live) -> None:
    logged = live.log(2)[0]
    digest = client.predictions.get(logged).segment
    assert app.blobs.directory is not None
    place = app.blobs.directory / blob_path(digest)
    place.write_bytes(place.read_bytes()[:-1] + b"?")
    replay = client.reproduction.replay(logged)
    assert (replay.level, replay.first_difference.cause) == (None, Cause.RECORD)
    assert "was altered" in replay.reason
    batch = client.reproduction.replay_many("flight-delay")
    assert (batch.level, batch.first_difference.cause) == (None, Cause.RECORD)


def test_a_prediction_of_an_unknown_release_is_only_logged(client: Client, live: Live) -> None:
    replay = client.reproduction.replay(live.log(1, release=new_uid())[0])
    assert (replay.level, replay.first_difference.cause) == ("P0", Cause.RECORD)


def test_no_certificate_for_a_claim_that_the_log_does_not_bear_out(client: Client, live: Live) -> None:
    honest = client.reproduction.replay(live.log(1)[0])
    replaced = msgspec.structs.replace
    with pytest.raises(IntegrityError, match="other outputs"):
        client.reproduction.certify_replay(replaced(honest, logged={"probability": 0.5}, replayed={"probability": 0.5}))
    with pytest.raises(IntegrityError, match="another package"):
        client.reproduction.certify_replay(replaced(honest, package="sha256:" + "0" * 64))
    with pytest.raises(InvalidInputError, match="not what the replayed outputs show"):
        client.reproduction.certify_replay(replaced(honest, replayed={"probability": 0.5}))
    with pytest.raises(InvalidInputError, match="no level"):
        client.reproduction.certify_replay(replaced(honest, level="P4"))
    with pytest.raises(NotFoundError):
        client.reproduction.certify_replay(replaced(honest, prediction=new_uid()))


def test_the_command_line_answers_with_its_exit_code(
    client: Client, live: Live, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good, bad = live.log(1)[0], live.log(1, outputs=lambda outputs: outputs | {"label": not outputs["label"]})[0]
    home = ["--home", str(client.settings.home)]
    assert everline(["replay", good, "--json", *home]) == 0
    assert msgspec.json.decode(capfd.readouterr().out)["level"] == "P3"
    assert everline(["replay", bad, *home]) == 1
    assert everline(["replay", "--endpoint", "flight-delay", "--sample", "10", *home]) == 1
    assert everline(["replay", new_uid(), *home]) == 2
    assert everline(["replay", "../../etc/passwd", *home]) == 2
    assert everline(["replay", *home]) == 2
    assert "Traceback" not in capfd.readouterr().err


def test_bits_decide() -> None:
    assert same_bits(0.5, 0.5)
    assert same_bits(None, float("nan"))
    assert same_bits(1, 1)
    assert same_bits(1.0, 1)
    assert not same_bits(0.0, -0.0)
    assert not same_bits(True, 1)
    assert not same_bits(True, 1.0)
    assert not same_bits("a", "b")
