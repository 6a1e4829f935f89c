"""Typical mistakes on the command line: a clear sentence and exit code 2, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from everline.cli.app import run

MISTAKES = {
    "missing file": ["data", "add", "x", "missing.csv"],
    "unknown dataset": ["data", "show", "nothing"],
    "path trick as a name": ["data", "add", "../x", __file__],
    "unknown run": ["runs", "show", "nope"],
    "path trick as a run": ["runs", "show", "../../etc/passwd"],
    "query trick as a run": ["runs", "show", "x?project=other"],
    "bad parameter": ["runs", "list", "--limit", "abc"],
    "bad project": ["runs", "list", "--project", "../x"],
    "home is a file": ["runs", "list", "--home", __file__],
    "home cannot be made": ["runs", "list", "--home", "/proc/everline"],
    "nobody at the address": ["runs", "list", "--url", "http://127.0.0.1:9"],
    "no address": ["runs", "list", "--url", "not-an-address"],
    "empty address": ["runs", "list", "--url", "http://"],
    "unknown module": ["run", "nope_at_all:x"],
    "no pipeline": ["run", "nope"],
    "unknown endpoint": ["endpoints", "show", "nope"],
    "unknown prediction": ["replay", "nope"],
    "unknown release": ["release", "show", "nope"],
    "no time": ["release", "at", "2013-13-45"],
    "missing policy": ["policy", "save", "missing.toml"],
    "folder for a file": ["policy", "save", "."],
    "number beyond 64 bit": ["audit", "show", "9" * 30],
    "unknown command": ["frobnicate"],
    "unknown user": ["tokens", "create", "nobody"],
    "no such port": ["server", "--port", "99999999"],
}


@pytest.fixture
def home(sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh home, and the folder to work in."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "everline.db").write_bytes(sqlite_template.read_bytes())
    for name in ("EVERLINE_URL", "EVERLINE_TOKEN", "EVERLINE_DATABASE_URL", "EVERLINE_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EVERLINE_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a refused command says, once it has shown that it says it well."""
    code = run(arguments)
    text = capsys.readouterr().err
    assert code == 2, (code, text)
    assert "rror: " in text and "Traceback" not in text and "unexpected" not in text.replace("unexpected extra", ""), (
        text
    )
    assert len(text) < 1_000, text
    return text


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(home: Path, mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    told(MISTAKES[mistake], capsys)


def test_a_corrupted_database_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "everline.db").write_bytes(b"this was a database once" * 500)
    assert "not a database" in told(["runs", "list"], capsys)


def test_a_torn_database_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = (home / "everline.db").read_bytes()
    (home / "everline.db").write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    assert "database" in told(["runs", "list"], capsys)


def test_a_folder_in_place_of_the_blobs_or_database_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "blobs").write_text("a file")
    assert "blobs" in told(["runs", "list"], capsys)
    (home / "blobs").unlink()
    (home / "everline.db").unlink()
    (home / "everline.db").mkdir()
    assert "database" in told(["runs", "list"], capsys)


def test_a_missing_blob_folder_is_made_anew(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "list"]) == 0
    (home / "blobs").rmdir()
    assert run(["runs", "list"]) == 0
