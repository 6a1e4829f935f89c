"""What is in a package is looked at when it is to be released, on both databases."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from everline.governance import evidence
from everline.releases import service
from everline.releases.scanning import find
from tests_support.registry import attest, register
from tests_support.released import MAYA


def bodies(world, version):
    with world.work(MAYA) as uow:
        return [
            one.body for one in evidence.list_evidence(uow, subject=version.subject, project="default", kind="scan")
        ]


def test_a_package_is_scanned_once_and_a_pickle_in_it_is_found(world):
    clean = world.version(b"numbers")
    world.open(clean)
    (body,) = bodies(world, clean)
    assert (body["clean"], body["findings"], body["formats"]) == (True, [], [".skops"])
    with world.work(MAYA) as uow:
        hidden = register(uow, pickle.dumps({"a": 1}), model="hidden")
        attest(uow, hidden)
    with world.work(MAYA) as uow:
        service.create(uow, project="default", endpoint="hidden", model="hidden", version=1)
    (body,) = bodies(world, hidden)
    assert (body["clean"], body["findings"]) == (False, ["model.skops: holds a pickle"])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.bin", pickle.dumps([1], protocol=4), "pickle"),
        ("a.joblib", b"anything", "pickle"),
        ("lib.so", b"\x7fELF\x02\x01", "program"),
        ("run", b"#!/bin/sh\n", "program"),
        ("weights.npy", "objects", "Python objects"),
        ("model.zip", "archive", "pickle"),
        ("weights.safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", None),
        ("numbers.npy", "numbers", None),
        ("everline.json", b"{}", None),
    ],
)
def test_what_runs_or_is_run_by_being_loaded_is_named(tmp_path: Path, name, content, says):
    if isinstance(content, str):
        file = io.BytesIO()
        if content == "archive":
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("data.pkl", b"x")
        else:
            np.save(file, np.array([{}] if content == "objects" else [1.0]), allow_pickle=True)
        content = file.getvalue()
    (tmp_path / name).write_bytes(content)
    found = find(tmp_path, [name])
    assert found == [] if says is None else (len(found) == 1 and says in found[0])
