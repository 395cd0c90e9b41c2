"""Tier 2's folder: what a hostile program leaves there is measured and removed."""

import os
from pathlib import Path

from rewards.sandbox_workspace import MAX_FILES, empty, usage


def test_files_are_counted_at_every_depth(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"x" * 10_000)
    (tmp_path / "link").symlink_to("/usr")
    num_bytes, num_files = usage(str(tmp_path))
    assert num_files == 4
    assert num_bytes >= 10_000


def test_folders_nested_deeper_than_a_path_count_as_too_many_and_can_be_removed(tmp_path: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    os.chdir(tmp_path)
    try:
        for _ in range(3000):
            os.mkdir("deep")
            os.chdir("deep")
    finally:
        os.chdir(here)
        os.close(here)
    assert usage(str(tmp_path))[1] > MAX_FILES
    empty(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_what_is_closed_or_points_elsewhere_is_removed_but_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    box = tmp_path / "box"
    (box / "closed" / "inner").mkdir(parents=True)
    (box / "closed" / "inner" / "file").touch()
    (box / "closed" / "inner").chmod(0)
    (box / "closed").chmod(0)
    (box / "link").symlink_to(kept)
    empty(str(box))
    assert list(box.iterdir()) == []
    assert (kept / "file").exists()
