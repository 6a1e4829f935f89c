"""The environment is recorded by content, and secrets never are."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from everline.runs.capture import nondeterminism, redact_argv
from everline.runs.environment import (
    REDACTED,
    capture_environment,
    differences,
    installed_distributions,
    pinned_variables,
    redact,
    relevant_variables,
)

SECRETS = {
    "EVERLINE_TOKEN": "elt_123",
    "EVERLINE_DATABASE_URL": "postgresql://maya:hunter2@db/everline",
    "MLFLOW_TRACKING_PASSWORD": "hunter2",
    "MLFLOW_TRACKING_URI": "https://maya:hunter2@mlflow.example.org",
    "PYTHON_KEYRING_SECRET": "hunter2",
    "CUDA_API_KEY": "hunter2",
    "TF_CREDENTIALS": "hunter2",
    "TORCH_PRIVATE": "-----BEGIN RSA PRIVATE KEY-----",
    "ARROW_HEADER": "Bearer hunter2",
    "JAX_PAT": "ghp_hunter2",
}


def test_secrets_are_never_recorded() -> None:
    environment = capture_environment(SECRETS | {"AWS_SECRET_ACCESS_KEY": "hunter2", "HOME": "/home/maya"})
    encoded = msgspec.json.encode(environment).decode()
    assert "hunter2" not in encoded
    assert "elt_123" not in encoded
    assert set(environment.variables) == set(SECRETS), "others are not recorded at all"
    assert set(environment.variables.values()) == {REDACTED}


def test_variables_that_decide_results_are_recorded() -> None:
    plain = {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8", "EVERLINE_HOME": "/srv"}
    assert relevant_variables(plain) == plain
    environment = capture_environment(plain)
    assert environment.threads == {"OMP_NUM_THREADS": "2"}
    assert pinned_variables(environment) == {
        "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    assert redact("TZ", "x" * 5000) == "x" * 1024


@pytest.mark.parametrize(
    ("argv", "kept"),
    [
        (["run", "--token", "abc", "x"], ("run", "--token", REDACTED, "x")),
        (["--password=abc"], (f"--password={REDACTED}",)),
        (["--db", "postgresql://u:p@h/d"], ("--db", REDACTED)),
        (["--param", "depth=6"], ("--param", "depth=6")),
        (["--param", "api_key=abc"], ("--param", f"api_key={REDACTED}")),
    ],
)
def test_secrets_of_the_command_line_are_redacted(argv: list[str], kept: tuple[str, ...]) -> None:
    assert redact_argv(argv) == kept


def install(site: Path, name: str, version: str, *, content: str = "a.py,sha256=abc,1") -> None:
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = [
        content,
        f"{folder.name}/RECORD,,",
        f"{folder.name}/INSTALLER,sha256=pip,4",
        "../../bin/tool,sha256=path,9",
    ]
    (folder / "RECORD").write_text("\n".join(lines))


def test_distributions_are_digested_by_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for site, content in (("one", "a.py,sha256=abc,1"), ("two", "a.py,sha256=abd,1"), ("three", "a.py,sha256=abc,1")):
        install(tmp_path / site, "My_Pack.age", "1.0", content=content)
    found = [installed_distributions([str(tmp_path / site)])[0] for site in ("one", "two", "three")]
    assert found[0].name == "my-pack-age"
    assert found[0].digest == found[2].digest != found[1].digest
    record = tmp_path / "one" / "My_Pack.age-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text().replace("abc", "xyz_longer"))
    assert installed_distributions([str(tmp_path / "one")])[0].digest != found[0].digest, "the cache is not stale"


def test_the_first_package_on_the_path_counts(tmp_path: Path) -> None:
    install(tmp_path / "one", "pack", "1.0")
    install(tmp_path / "two", "pack", "2.0")
    assert installed_distributions([str(tmp_path / "two"), str(tmp_path / "one")])[0].version == "2.0"


def test_an_editable_package_is_digested_by_its_sources(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "mod.py").write_text("a = 1\n")
    install(tmp_path / "site", "pack", "1.0", content="pack.pth,sha256=abc,1")
    folder = tmp_path / "site" / "pack-1.0.dist-info"
    (folder / "direct_url.json").write_text('{"url": "file:///x", "dir_info": {"editable": true}}')
    (tmp_path / "site" / "pack.pth").write_text(str(source))
    before = installed_distributions([str(tmp_path / "site")])[0]
    (source / "mod.py").write_text("a = 2\n")
    after = installed_distributions([str(tmp_path / "site")])[0]
    assert before.editable
    assert before.digest != after.digest


def test_the_first_differing_package_is_named() -> None:
    here = capture_environment({"PYTHONHASHSEED": "0"})
    assert differences(here, here) == []
    other = msgspec.structs.replace(here.distributions[0], version="0.0.1")
    changed = msgspec.structs.replace(
        here,
        distributions=(other, *here.distributions[1:]),
        machine=msgspec.structs.replace(here.machine, cpu="Abacus"),
    )
    found = differences(changed, here)
    assert [(d.kind, d.name) for d in found] == [("environment", other.name), ("hardware", "cpu")]
    assert "0.0.1" in found[0].sentence()


def test_sources_of_chance_are_named() -> None:
    loose = capture_environment({})
    assert any("PYTHONHASHSEED" in source for source in nondeterminism(loose, None))
    assert any("no seed" in source for source in nondeterminism(loose, None))
    strict = capture_environment({"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"})
    assert nondeterminism(strict, 7) == []
