"""kill -9 at the worst moments of an add: nothing half is seen, and adding again gives what was meant."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from everline.errors import NotFoundError
from everline.ids import digest_file
from everline.sdk.client import Client

DIE = """
import os, signal, sys
from everline.storage.packs import Packs
from everline.datasets import service
from everline.sdk.client import Client

def die(*_args, **_options):
    os.kill(os.getpid(), signal.SIGKILL)

where, home, path = sys.argv[1:]
owner, name = {"before the index": (Packs, "_insert"), "before the recipe": (Packs, "name"),
               "before the version": (service, "add_version")}[where]
setattr(owner, name, die)
Client(home=home).datasets.add("d", path)
"""


@pytest.mark.parametrize("where", ["before the index", "before the recipe", "before the version"])
def test_an_add_that_was_killed_leaves_nothing_half_and_can_be_repeated(where: str, tmp_path: Path):
    data = tmp_path / "data.bin"
    data.write_bytes(os.urandom(3 << 20))
    home = tmp_path / "home"
    ran = subprocess.run([sys.executable, "-c", DIE, where, str(home), str(data)], capture_output=True, text=True)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    digest = digest_file(data)
    with Client(home=home) as client:
        assert client.datasets.list() == []
        if where == "before the version":
            assert client.blobs.exists(digest)
        else:
            with pytest.raises(NotFoundError):
                client.blobs.get_bytes(digest)
        version = client.datasets.add("d", data)
        assert client.datasets.verify("d").verified
        assert version.version == 1
        assert client.datasets.checkout("d", tmp_path / "out")[0].read_bytes() == data.read_bytes()
