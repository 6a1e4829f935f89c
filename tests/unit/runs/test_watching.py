"""What is read outside of code and environment is seen; what belongs to them, or was written by the run, is not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from everline.ids import digest_bytes
from everline.runs.undeclared import peers, read_tag, sentence, tag_of, told
from everline.runs.watching import Seen, Watch, injected, read_report


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "prices.csv"
    path.write_text("1,2\n")
    os.utime(path, (1, 1))
    return path


def older(path: Path) -> Path:
    """The status of a new file has a new time: wait until the clock of the file system has gone on."""
    while Watch(peers=[])._since <= path.stat().st_ctime:
        threading.Event().wait(0.005)
    return path


def test_a_file_that_is_read_is_named_once_with_its_step_and_digest(data: Path, tmp_path: Path) -> None:
    older(data)
    watch = Watch(peers=[]).start()
    watch.step = "train"
    for _ in range(2):
        data.read_text()
    os.close(os.open(data, os.O_RDONLY))
    (tmp_path / "own.txt").write_text("x")
    (tmp_path / "own.txt").read_text()
    (tmp_path / "log.txt").open("a").close()
    Path(os.__file__).read_bytes()
    Path("/etc/hostname").exists() and Path("/etc/hostname").read_bytes()
    with watch.aside():
        Path(__file__).read_bytes()
    assert watch.stop() == [Seen("file", str(data), "train", digest_bytes(b"1,2\n"), 4)]
    data.read_text()
    assert len(watch.stop()) == 1, "it was stopped"
    assert watch.stop(folders=[str(tmp_path)]) == [] == watch.stop(files={str(data)})


def test_code_outside_counts_though_only_its_compiled_form_is_read(tmp_path: Path) -> None:
    module = tmp_path / "lib" / "helper.py"
    module.parent.mkdir()
    module.write_text("VALUE = 1\n")
    command = [sys.executable, "-c", "import helper"]
    variables = os.environ | {"PYTHONPATH": str(module.parent)}
    subprocess.run(command, env=variables, check=True)
    older(module)
    (tmp_path / "watch").mkdir()
    told, report = injected(str(tmp_path / "watch"), folders=[], peers=[])
    paths = os.pathsep.join([str(tmp_path / "watch"), str(module.parent)])
    subprocess.run(command, env=variables | told | {"PYTHONPATH": paths}, check=True)
    assert [one.name for one in read_report(report)] == [str(module)]


def test_hosts_are_named_and_the_control_plane_is_none(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as ours:
        port, own = other.getsockname()[1], ours.getsockname()[1]
        watch = Watch(peers=[f"127.0.0.1:{own}"]).start()
        socket.create_connection(("localhost", port)).close()
        socket.create_connection(("127.0.0.1", own)).close()
        assert watch.stop() == [Seen("host", f"localhost:{port}")]


def test_a_watched_process_says_what_its_children_read_and_keeps_its_own_customisation(
    data: Path, tmp_path: Path
) -> None:
    older(data)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import builtins\nbuiltins.CUSTOM = 5\n")
    (tmp_path / "watch").mkdir()
    told, report = injected(str(tmp_path / "watch"), folders=[str(tmp_path / "site")], peers=[])
    child = f"open({str(data)!r}).read(); print(CUSTOM)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    paths = os.pathsep.join([str(tmp_path / "watch"), str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    variables = os.environ | told | {"PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, check=True, text=True)
    assert done.stdout == "5\n"
    assert read_report(report) == [Seen("file", str(data), None, digest_bytes(b"1,2\n"), 4)]


def test_a_tag_holds_what_fits_and_is_read_back() -> None:
    seen = [Seen("file", f"/data/{'x' * 90}/{n}.csv", "load", digest_bytes(b"x"), n) for n in range(100)]
    tags = tag_of(seen)
    assert all(len(value) <= 8_000 for value in tags.values())
    kept = read_tag(tags)
    assert list(kept) == seen[: len(kept)] and len(kept) > 20
    assert tag_of([]) == {}
    for broken in ("", "{", "3", "[3]", json.dumps([{"kind": "file"}])):
        assert read_tag({"everline.undeclared": broken}) == ()
    assert sentence(Seen("host", "example.com:443", "train")) == "step train connected to example.com:443"
    changed = told([seen[1]], [seen[1]._replace(digest=digest_bytes(b"y"))], step="load")
    assert changed is not None and changed.endswith("… when it was recorded")
    assert told([], seen, step="train") is None
    assert peers("https://everline.example/x") == ["everline.example:443"] and peers("") == []
