"""Paths of dataset files stay below their folder, whoever names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from everline.datasets.manifest import check_files, check_path, files_digest, scan
from everline.datasets.types import DatasetFile
from everline.errors import InvalidInputError

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    "path",
    ["../a", "/etc/passwd", "a/../b", "a//b", "./a", "a/", "", ".", "..", "a\\b", "C:/a", "a\0b", "a\nb", "a/ /b",
     "x" * 2000, "con.", "\ud800"],
)  # fmt: skip
def test_paths_that_play_tricks_are_refused(path: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot be the path"):
        check_path(path)


@pytest.mark.parametrize("path", ["a", "a/b.csv", ".hidden", "with space.txt", "ü/é.parquet", "a..b"])
def test_plain_paths_pass(path: str) -> None:
    assert check_path(path) == path


def file(path: str, *, size: int = 1, digest: str = DIGEST) -> DatasetFile:
    return DatasetFile(path=path, digest=digest, bytes=size)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([], "at least one"),
        ([file("a"), file("a")], "same path"),
        ([file("a"), file("a/b")], "below a path that is a file"),
        ([file("a", digest="md5:1")], "not a digest"),
        ([file("a", size=-1)], "-1 bytes"),
    ],
)
def test_manifests_from_outside_are_checked(files: list[DatasetFile], reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        check_files(files)


def test_a_scan_finds_hidden_files_and_follows_no_folder_links(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "b.txt").write_text("b")
    (root / ".hidden").write_text("h")
    (root / "loop").symlink_to(root, target_is_directory=True)
    assert [found.path for found in scan([root]).files] == [".hidden", "sub/b.txt"]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(folder)
    with pytest.raises(InvalidInputError, match="both be named 'a.txt'"):
        scan([tmp_path / "x" / "a.txt", tmp_path / "y" / "a.txt"])


def test_the_order_of_files_does_not_count() -> None:
    assert files_digest([file("a"), file("b")]) == files_digest([file("b"), file("a")])
    assert files_digest([file("a")]) != files_digest([file("b")])
