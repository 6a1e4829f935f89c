"""A run's record holds its code and environment, and no secret."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import msgspec
import pytest

from everline.errors import IntegrityError, InvalidInputError
from everline.runs.capture import CodeSnapshot, RunRecord, SourceFile, capture, manifest_digest, verify_snapshot


def git(root: Path, *arguments: str) -> str:
    environment = os.environ | {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
                                "GIT_COMMITTER_EMAIL": "a@b"}  # fmt: skip
    return subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True, env=environment
    ).stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "lib").mkdir(parents=True)
    (root / "main.py").write_text("x = 1\n")
    (root / "lib" / "tool.py").write_text("y = 1\n")
    (root / "notes.md").write_text("not a source\n")
    (root / ".gitignore").write_text("ignored.py\nbig.json\n")
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    git(root, "remote", "add", "origin", "https://user:hunter2@example.org/team/project.git")
    return root


def paths(code: CodeSnapshot) -> list[str]:
    return [file.path for file in code.files]


def test_a_clean_repository_is_named_by_its_commit(project: Path) -> None:
    code = capture(project, "main:flow").record.code
    assert (code.commit, code.branch, code.dirty, code.diff) == (git(project, "rev-parse", "HEAD"), "main", False, None)
    assert paths(code) == ["lib/tool.py", "main.py"]
    assert code.repository == "https://example.org/team/project.git"


def test_changes_and_untracked_sources_are_in_the_snapshot(project: Path) -> None:
    before = capture(project, "main:flow").record.code
    (project / "main.py").write_text("x = 2\n")
    (project / "new.py").write_text("z = 1\n")
    (project / "ignored.py").write_text("imported all the same\n")
    (project / "big.json").write_text("{}")
    captured = capture(project, "main:flow")
    code = captured.record.code
    assert code.digest != before.digest
    assert code.dirty
    assert paths(code) == ["ignored.py", "lib/tool.py", "main.py", "new.py"]
    assert b"+x = 2" in captured.blobs[code.diff or ""]
    assert {file.digest for file in code.files} <= captured.blobs.keys()


def test_a_folder_without_git_is_recorded_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("a = 1\n")
    for skipped in (".venv", "__pycache__", "node_modules", ".hidden"):
        (tmp_path / skipped).mkdir()
        (tmp_path / skipped / "b.py").write_text("b\n")
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    (tmp_path / "env" / "c.py").write_text("c\n")
    code = capture(tmp_path, "a:flow").record.code
    assert paths(code) == ["a.py"]
    assert code.commit is None


def test_a_folder_that_the_repository_ignores_stands_alone(project: Path) -> None:
    inner = project / "home" / "demo"
    inner.mkdir(parents=True)
    (project / ".gitignore").write_text("home/\n")
    (inner / "flow.py").write_text("f\n")
    code = capture(inner, "flow:flow").record.code
    assert paths(code) == ["flow.py"]
    assert code.commit is None


def test_secret_files_large_files_and_links_outside_are_left_out_and_named(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (root / "a.py").write_text("a\n")
    (root / "secrets.toml").write_text("password = 'hunter2'\n")
    (root / "huge.json").write_text("1" * 1_000_001)
    (tmp_path / "outside.py").write_text("outside\n")
    (root / "link.py").symlink_to(tmp_path / "outside.py")
    captured = capture(root, "a:flow")
    assert paths(captured.record.code) == ["a.py"]
    reasons = "\n".join(captured.record.code.omitted)
    assert all(word in reasons for word in ("secrets.toml", "huge.json", "link.py: a link that leaves"))
    assert b"hunter2" not in b"".join(captured.blobs.values())


def test_a_folder_that_is_no_project_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(12):
        (tmp_path / f"{n:02}.py").write_text(f"x = {n}\n")
    monkeypatch.setattr("everline.runs.capture.FILES_MAX", 10)
    code = capture(tmp_path, "00:flow").record.code
    assert len(code.files) == 10
    assert len(code.omitted) == 1
    (tmp_path / "sub").mkdir()
    monkeypatch.setattr("everline.runs.capture.NAMES_MAX", 5)
    assert "not all were looked at" in capture(tmp_path, "00:flow").record.code.omitted[0]


def test_the_record_survives_json(project: Path) -> None:
    record = capture(project, "main:flow", ["run", "main:flow"], seed=3, params={"depth": 6}).record
    assert msgspec.json.decode(msgspec.json.encode(record), type=RunRecord) == record
    assert "PYTHONHASHSEED" in " ".join(record.nondeterminism) or record.environment.hash_seed != "random"


def test_altered_records_are_refused() -> None:
    honest = (SourceFile(path="a.py", digest="sha256:" + "0" * 64, bytes=1),)
    verify_snapshot(CodeSnapshot(digest=manifest_digest(honest), files=honest))
    with pytest.raises(IntegrityError, match="do not have the digest"):
        verify_snapshot(CodeSnapshot(digest="sha256:" + "1" * 64, files=honest))
    for path in ("../a.py", "/a.py", "a/../../b.py", "a\\b.py"):
        evil = (SourceFile(path=path, digest="sha256:" + "0" * 64, bytes=1),)
        with pytest.raises(IntegrityError, match="outside its folder"):
            verify_snapshot(CodeSnapshot(digest=manifest_digest(evil), files=evil))


def test_a_project_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="not a folder"):
        capture(tmp_path / "nothing", "a:b")


def test_capture_costs_little_at_the_start_of_a_run(project: Path) -> None:
    capture(project, "main:flow")  # reads the records of installed distributions once
    times = []
    for _ in range(5):
        started = time.perf_counter()
        capture(project, "main:flow")
        times.append(time.perf_counter() - started)
    assert min(times) < 0.150
