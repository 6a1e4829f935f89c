"""The build context of an image: reproducible, locked, without root or secrets; and what it installs serves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from everline.bundles.types import Dependencies
from everline.cli.app import run as everline
from everline.errors import InvalidInputError
from everline.governance.signing import VerifyKey, server_key
from everline.models.package import Package
from everline.sdk import images
from everline.sdk.client import Client
from everline.server.application import Application
from tests_support.live import Live, small_package

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
COLUMNS = {"distance": [100.0, 2500.5, 4000.0], "temp": [None, 3.25, -7.5]}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return small_package(tmp_path_factory.mktemp("package") / "model")


@pytest.fixture
def live(begin: Callable[..., Any], package: Package) -> Live:
    return Live(begin, package)


@pytest.fixture
def bundle(client: Client, live: Live, tmp_path: Path) -> Path:
    return client.bundles.package("flight-delay", tmp_path / "model.everline")


def needed(bundle: Path) -> Dependencies:
    with zipfile.ZipFile(bundle) as archive:
        return msgspec.json.decode(archive.read("dependencies.json"), type=Dependencies)


def test_a_context_is_reproducible_locked_and_holds_no_root_and_no_secret(
    bundle: Path, app: Application, tmp_path: Path
) -> None:
    key: VerifyKey = server_key(app.settings).verify_key
    pins = [f"{one.name}=={one.version} \\\n    --hash=sha256:{'0' * 64}\n" for one in needed(bundle).distributions]
    names = {one.name for one in needed(bundle).distributions}
    assert {"scikit-learn", "uvicorn", "cryptography"} <= names
    assert not names & {"sqlalchemy", "alembic", "starlette", "pyarrow", "psycopg", "everline"}
    lock, digest = "".join(pins), "sha256:" + "a" * 64
    written = [
        images.write_context(bundle, tmp_path / name, key=key, lock=lock, base_digest=digest) for name in ("a", "b")
    ]
    assert [path.read_bytes() for path in written[0]] == [path.read_bytes() for path in written[1]]
    docker = (tmp_path / "a" / "Dockerfile").read_text()
    assert f"ARG BASE_DIGEST={digest}\nFROM ${{BASE}}@${{BASE_DIGEST}}" in docker
    assert "--require-hashes" in docker and "USER 10001:10001" in docker and "HEALTHCHECK" in docker
    secrets = [line for line in (app.settings.home / "keys/signing.key").read_bytes().splitlines() if len(line) > 20]
    assert secrets and not any(line in path.read_bytes() for line in secrets for path in written[0])
    copied = set(re.findall(r"[\w.-]+", " ".join(re.findall(r"^COPY (.*) \./$", docker, re.M))))
    ignored = (tmp_path / "a" / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*" and {line[1:] for line in ignored[1:]} == copied

    with pytest.raises(InvalidInputError, match="not empty"):
        images.write_context(bundle, tmp_path / "a", key=key, lock=lock)
    with pytest.raises(InvalidInputError, match="The lock has .* not at all"):
        images.write_context(bundle, tmp_path / "c", key=key, lock="".join(pins[1:]))
    with pytest.raises(InvalidInputError, match="no hash for"):
        images.write_context(bundle, tmp_path / "c", key=key, lock=lock.replace(pins[0], pins[0].split()[0] + "\n"))


@pytest.mark.drill
def test_what_an_image_installs_serves_the_same_bits_as_the_dockerfile_says(
    bundle: Path, live: Live, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context, venv, home = tmp_path / "context", tmp_path / "venv", tmp_path / "log"
    command = ["package", "flight-delay", "-o", str(tmp_path), "--image", str(context)]
    assert everline([*command, "--home", str(client.settings.home), "--json"]) == 0
    capsys.readouterr()
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(venv)], check=True)
    install = ["pip", "install", "-q", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", images.LOCK]
    subprocess.run([*uv, *install, "--python", str(venv / "bin/python")], cwd=context, check=True)

    docker = (context / "Dockerfile").read_text().replace("\\\n", " ")
    entry, command, probe = (
        json.loads(re.search(rf"^{word} .*?(\[.*\])$", docker, re.M).group(1))  # type: ignore[union-attr]
        for word in ("ENTRYPOINT", "CMD", "HEALTHCHECK")
    )
    variables = {"PATH": os.environ["PATH"], "EVERLINE_HOME": str(home), "EVERLINE_LOGIN": "1"}

    def here(words: list[str], port: str) -> list[str]:
        moved = (word.replace("/opt/everline", str(venv)).replace("/srv/everline", str(context)) for word in words)
        return [word.replace("4681", port).replace("0.0.0.0", "127.0.0.1") for word in moved]

    process = subprocess.Popen(
        here([*entry, *command], "0"), env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        found = re.search(r"http://\S+:(\d+)", process.stdout.readline() if process.stdout else "")
        assert found is not None, process.communicate()[1]
        subprocess.run(here(probe, found.group(1)), env=variables, check=True, timeout=20)
        answer = httpx.post(f"{found.group()}/invocations", json={"inputs": COLUMNS}).json()
        wanted = live.package.load().predict(COLUMNS)["probability"].tolist()
        assert [row["probability"] for row in answer["predictions"]] == wanted
    finally:
        process.terminate()
        said = process.communicate(timeout=30)[1]
    assert "here, and was" not in said  # the same versions as where the model was made
