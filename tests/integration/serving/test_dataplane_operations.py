"""What operators ask of a data plane: TLS, a line for each request, a signal for autoscalers, bad settings refused."""

from __future__ import annotations

import ipaddress
import json
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from everline.models.package import Package
from everline.testing.control_plane_simulator import ControlPlaneSimulator
from tests_support.dataplane import Start, flights


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for loopback, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = (
        builder.not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


def test_connections_are_encrypted_and_every_request_leaves_a_line(
    control: ControlPlaneSimulator,
    start: Start,
    packages: list[Package],
    certificate: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    control.serve(control.release(packages[0]))
    lines = tmp_path / "logs" / "access.jsonl"
    plane = start(
        EVERLINE_TLS_CERTIFICATE=str(certificate[0]), EVERLINE_TLS_KEY=str(certificate[1]),
        EVERLINE_ACCESS_LOG=str(lines),
    )  # fmt: skip
    address = plane.client.base_url
    assert address.scheme == "https"
    with pytest.raises(httpx.ConnectError):
        plane.client.get("/health")  # it does not trust this certificate
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    plane.client = httpx.Client(base_url=address, timeout=20, verify=trusting)
    plane.ready()
    answer = plane.client.post(
        "/v2/models/flight-delay/infer", json=flights(id="gate-7"),
        headers={"X-Forwarded-For": "192.0.2.7", "Authorization": "Bearer evk_secret"},
    )  # fmt: skip
    assert answer.status_code == 200
    assert plane.client.get("/nowhere%0A").status_code == 404
    assert control.reports[-1].address == str(address)
    assert "everline_busy_ratio" in plane.client.get("/metrics").text
    with pytest.raises(httpx.HTTPError):
        httpx.get(str(address).replace("https", "http") + "/health", timeout=5)
    assert plane.end() == 0
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    (mine,) = [line for line in told if line["path"] == "/v2/models/flight-delay/infer"]
    assert mine["request"] == "gate-7"
    assert (mine["status"], mine["forwarded_for"], mine["model_version"]) == (200, "192.0.2.7", "flight-delay/1")
    assert mine["bytes_out"] == len(answer.content)
    assert [line["status"] for line in told if line["path"].startswith("/nowhere")] == [404]
    assert "evk_secret" not in lines.read_text()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"EVERLINE_TLS_CERTIFICATE": "cert.pem"}, "only one of them is set"),
        ({"EVERLINE_TLS_CERTIFICATE": "no.pem", "EVERLINE_TLS_KEY": "no.pem"}, "cannot be used"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_refused_at_the_start(
    tmp_path: Path, settings: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "everline", "serve", "--port", "0", "--home", str(tmp_path / "home")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 2
    assert says in found.stderr
