"""`everline profile`: files, folders and dataset versions; text, JSON and pictures; what is no table is refused."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from everline.cli.app import run
from everline.config import Settings
from everline.sdk.client import Client


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(4)

    def rows(count: int, factor: float) -> pa.Table:
        return pa.table(
            {
                "distance": rng.lognormal(6, 1, count) * factor,
                "<carrier>": rng.choice(["UA", "B6"], count),
                "day": np.arange(count) % 10,
            }
        )

    old, new = tmp_path / "old.parquet", tmp_path / "new.csv"
    pq.write_table(rows(4_000, 1.0), old)
    pa.csv.write_csv(rows(1_000, 1.609344), new)
    return old, new


def test_the_drifted_column_comes_first_in_text_json_and_pictures(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    old, new = map(str, files)
    page, picture = tmp_path / "drift.html", tmp_path / "drift.svg"
    assert run(["profile", new, "--reference", old, "--out", str(page), "--check"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "drifted: 1,000 rows against 4,000"
    assert said[2].split()[:2] == ["distance", "yes"]
    assert run(["profile", new, "--reference", old, "--out", str(picture), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer["report"]["features"])[0] == "distance"
    assert answer["profile"]["columns"]["<carrier>"]["values"].keys() == {"UA", "B6"}
    panels = ElementTree.fromstring(picture.read_text()).findall("{http://www.w3.org/2000/svg}g")
    assert [panel[0].text for panel in panels][0] == "distance"
    assert len(panels) == 3
    assert "&lt;carrier&gt;" in page.read_text() and "<carrier>" not in page.read_text()
    assert run(["profile", old, "--reference", old, "--check"]) == 0


def test_days_are_judged_as_days_and_datasets_are_read_by_version(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], settings: Settings
) -> None:
    old, new = files
    home = ["--home", str(settings.home)]
    with Client(home=settings.home) as client:
        client.datasets.add("flights", [old])
    assert run(["profile", str(new), "--reference", "flights@1", "--blocks", "day", "--json", *home]) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    assert report["features"].keys() == {"distance", "<carrier>"}
    assert run(["profile", "flights", *home]) == 0
    assert capsys.readouterr().out.startswith("4,000 rows\ndistance: number, 0 missing, median ")


def test_what_cannot_be_profiled_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: Settings, files: tuple[Path, Path]
) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    for arguments, told in (
        ([str(tmp_path / "notes.txt")], "is no table"),
        (["absent@3"], "neither a file 'absent@3' nor such a dataset version"),
        ([str(files[0]), "--out", "picture.gif"], "names no kind of picture"),
        ([str(files[0]), "--out", str(tmp_path / "gone" / "picture.svg")], "There is no folder"),
        ([str(files[0]), "--check"], "Without a reference nothing can drift"),
    ):
        assert run(["profile", *arguments, "--home", str(settings.home)]) != 0
        assert told in capsys.readouterr().err
