"""What a data plane does by an endpoint's options: keys and quotas, sticky canaries, shadows, samples, late rows."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from everline.ids import digest_bytes, new_uid
from everline.models.package import Package
from everline.serving.dataplane.routing import position
from everline.serving.types import DesiredEndpoint, DesiredKey, DesiredRevision, EndpointAccess, Guard, RevisionRole
from everline.testing.control_plane_simulator import ControlPlaneSimulator
from tests_support.dataplane import Running, Start, build, eventually, flights


def desired(*revisions: DesiredRevision, **options: Any) -> DesiredEndpoint:
    return DesiredEndpoint(
        endpoint="flight-delay", project="default", guard=Guard.REJECT, revisions=list(revisions), **options
    )


def key(secret: str, **options: Any) -> DesiredKey:
    return DesiredKey(uid=new_uid(), hash=digest_bytes(secret.encode()), **options)


def test_keys_open_their_own_endpoint_within_their_quota_with_the_control_plane_away(
    running: Running, packages: list[Package]
) -> None:
    control, plane = running
    one = control.release(packages[0])
    keys = [
        key("evk_good"),
        key("evk_slow", requests_per_s=0.01),
        key("evk_day", requests_per_day=2),
        key("evk_old", expires_at=datetime.now(UTC) - timedelta(seconds=1)),
    ]
    other = DesiredEndpoint(
        endpoint="other", project="default", guard=Guard.REJECT, revisions=[], access=EndpointAccess.KEY,
        keys=[key("evk_other")],
    )  # fmt: skip
    plane.follows(control.desire(desired(one, access=EndpointAccess.KEY, keys=keys), other))
    control.down = True

    def ask(secret: str | None, header: str = "Authorization", path: str = "infer") -> tuple[int, str | None]:
        value = f"Bearer {secret}" if header == "Authorization" else str(secret)
        headers = {} if secret is None else {header: value}
        answer = plane.client.post(f"/v2/models/flight-delay/{path}", json=flights(), headers=headers)
        return answer.status_code, answer.headers.get("retry-after")

    try:
        assert ask("evk_good") == (200, None)
        assert ask("evk_good", "X-API-Key") == (200, None)
        assert [ask(secret)[0] for secret in (None, "evk_", "evk_bad", "evk_goo", "evk_old")] == [401] * 5
        assert ask("evk_other")[0] == 403
        assert [ask("evk_slow")[0] for _ in range(2)] == [200, 429]
        assert 90 <= int(ask("evk_slow")[1] or 0) <= 100
        assert [ask("evk_day")[0] for _ in range(3)] == [200, 200, 429]
        assert plane.client.get("/v2/models/flight-delay").status_code == 401
        assert plane.client.get("/v2/models/flight-delay/ready").status_code == 200
        assert plane.client.get("/v2/models/flight-delay", headers={"X-API-Key": "evk_good"}).status_code == 200
        refused = plane.client.post("/endpoints/flight-delay/invocations", json={"inputs": {}})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    finally:
        control.down = False
    plane.follows(control.desire(desired(one, access=EndpointAccess.KEY, keys=keys[1:]), other))
    assert ask("evk_good")[0] == 401  # it was revoked


def test_who_has_a_key_is_answered_by_one_revision_and_a_shadow_by_nobody(
    running: Running, packages: list[Package]
) -> None:
    control, plane = running
    first = control.release(packages[0], share=0.5)
    second = control.release(packages[1], version=2, role=RevisionRole.CANARY, share=0.5)
    shadow = control.release(packages[1], version=3, role=RevisionRole.SHADOW, share=0.5)
    plane.follows(control.desire(desired(first, second, shadow)))
    seen: dict[str, set[str]] = {}
    answered, told = {}, {}
    for number in range(60):
        who, request = f"customer-{number % 10}", f"r{number}"
        by_header = number % 2 == 0
        more: dict[str, Any] = {} if by_header else {"parameters": {"key": who}}
        headers = {"Everline-Key": who} if by_header else {}
        answer = plane.client.post(
            "/v2/models/flight-delay/infer", json=flights(2, id=request, **more), headers=headers
        ).json()
        seen.setdefault(who, set()).add(answer["model_version"])
        answered[request] = answer["parameters"]["predictions"]
        told[request] = answer["outputs"][0]["data"]
    assert all(len(versions) == 1 for versions in seen.values())
    assert set.union(*seen.values()) == {"1", "2"}
    for who, versions in seen.items():
        assert versions == {"2" if position(f"{second.release} {who}") < 0.5 else "1"}

    mirrored = {request for request in answered if position(f"shadow {request}") < 0.5}
    revisions = {first.revision, second.revision, shadow.revision}

    def rows(role: str) -> list[dict[str, Any]]:
        return [row for row in control.predictions() if row["revision"] in revisions and row["role"] == role]

    eventually(lambda: len(rows("shadow")) == 2 * len(mirrored))
    eventually(lambda: len(rows("primary")) + len(rows("canary")) == 120)
    assert 10 < len(mirrored) < 50
    by_request: dict[str, list[str]] = {}
    for row in sorted(rows("shadow"), key=lambda row: row["row"]):
        assert (row["revision"], row["prediction"] in answered[row["request"]]) == (shadow.revision, False)
        by_request.setdefault(row["request"], []).append(row["primary"])
    assert by_request == {request: answered[request] for request in mirrored}
    assert all(row["primary"] is None and len(row["key"]) == 16 for row in rows("canary"))
    assert len({row["key"] for row in rows("primary") + rows("canary")}) == 10
    assert b"customer-" not in b"".join(control.segments.values())
    shadows = [segment for segment in control.schemas() if "primary" in segment.names]
    assert shadows


def test_a_sample_is_logged_and_rows_may_wait_as_long_as_the_endpoint_says(
    control: ControlPlaneSimulator, start: Start, packages: list[Package]
) -> None:
    one = control.release(packages[0])
    generation = control.desire(desired(one, log_share=0.3, durability_s=60.0))
    plane = start()
    plane.follows(generation)
    for number in range(50):
        assert plane.ask(1, id=f"r{number}").status_code == 200
    wanted = {f"r{number}" for number in range(50) if position(f"log r{number}") < 0.3}
    assert not control.predictions()  # they wait in memory
    assert plane.end(signal.SIGTERM) == 0
    assert {row["request"] for row in control.predictions()} == wanted
    assert 5 < len(wanted) < 30


def test_revisions_whose_inputs_stand_in_another_order_are_asked_right(
    running: Running, packages: list[Package], tmp_path: Path
) -> None:
    control, plane = running
    other = build(tmp_path / "other", rounds=10, order=("carrier", "distance", "hour"))
    one, two = control.release(packages[0]), control.release(other, version=2, role=RevisionRole.SHADOW, share=1.0)
    plane.follows(control.desire(desired(one, two)))
    row = {"distance": 500.0, "hour": 17, "carrier": "UA"}
    said = plane.client.post("/endpoints/flight-delay/predict", json=row).json()
    eventually(lambda: any(found["revision"] == two.revision for found in control.predictions()))
    (shadow,) = [found for found in control.predictions() if found["revision"] == two.revision]
    assert shadow["inputs"] == row
    assert shadow["outputs"] == said["outputs"]
    canary = control.release(other, version=3, role=RevisionRole.CANARY, share=0.5)
    plane.follows(control.desire(desired(one, canary)))
    answers = [plane.client.post("/endpoints/flight-delay/predict", json=row) for _ in range(12)]
    assert {answer.headers["everline-revision"] for answer in answers} == {one.revision, canary.revision}
    assert {answer.json()["outputs"]["probability"] for answer in answers} == {said["outputs"]["probability"]}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_rollback_takes_effect_while_another_model_is_still_being_fetched(
    control: ControlPlaneSimulator, start: Start, packages: list[Package], tmp_path: Path, workers: str
) -> None:
    first, second = control.release(packages[0]), control.release(packages[1], version=2)
    warm = replace(first, role=RevisionRole.WARM, share=0.0)
    generation = control.desire(desired(second, warm))
    plane = start("--workers", workers)
    plane.follows(generation)
    assert plane.ask().json()["model_version"] == "2"
    late = build(tmp_path / "late", rounds=5)
    canary = control.release(late, version=3, role=RevisionRole.CANARY, share=0.1)
    control.held = {entry.digest for entry in late.manifest.files}
    control.desire(desired(replace(second, share=0.9), canary, warm))
    eventually(lambda: control.waiting == 1)
    rolled_back = control.desire(desired(first))
    plane.follows(rolled_back)  # nothing of it has to be fetched
    assert {plane.ask(1, id=f"r{n}").json()["model_version"] for n in range(20)} == {"1"}
    assert control.waiting == 1
    control.let_go()
    eventually(lambda: control.waiting == 0)
    again = control.desire(desired(replace(first, share=0.5), replace(canary, share=0.5)))
    plane.follows(again)
    assert {plane.ask(1, id=f"r{n}").json()["model_version"] for n in range(40)} == {"1", "3"}
