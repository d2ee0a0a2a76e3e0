"""Places that are no files, and files that cannot be written: one clear line, and nothing harmed."""

import os
from pathlib import Path

import pytest

from spellbound.cli import files
from spellbound.errors import InputError


def test_odd_places_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "none" / "x")
    for name, message in (
        ("pipe", "is a device or a pipe"),
        ("loop", "its links lead in a circle"),
        ("dangling", "none does not exist; create it first"),
        ("x" * 300, "cannot be a file: file name too long"),
    ):
        with pytest.raises(InputError, match=message):
            files.require_writable(tmp_path / name)
    with pytest.raises(InputError, match="is a device or a pipe"):
        files.require_writable(Path("/dev/null"))


@pytest.mark.parametrize("name", ["none/x", "loop", "folder", "x" * 300])
def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"; (make room there, or )?give another"):
        files.replace(tmp_path / name, b"x")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "loop"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    target = tmp_path / "x"
    target.write_text("old", encoding="utf-8")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="cannot be written: no space left on device; make room there"):
        files.replace(target, b"new")
    assert [(file.name, file.read_text(encoding="utf-8")) for file in tmp_path.iterdir()] == [("x", "old")]


def test_the_longest_name_there_is(tmp_path: Path) -> None:
    files.replace(tmp_path / ("x" * 255), b"whole")
    assert (tmp_path / ("x" * 255)).read_bytes() == b"whole"


@pytest.mark.parametrize("other", ["same", "hard", "soft"])
def test_the_source_is_no_place_for_the_result(tmp_path: Path, other: str) -> None:
    source = tmp_path / "same"
    source.touch()
    (tmp_path / "hard").hardlink_to(source)
    (tmp_path / "soft").symlink_to(source)
    with pytest.raises(InputError, match="which would be lost; give another name"):
        files.require_other_file(tmp_path / other, str(source))
    files.require_other_file(tmp_path / "new", str(source))
    files.require_other_file(tmp_path / "same", "-")


def test_free_names(tmp_path: Path) -> None:
    assert files.free_name(tmp_path / "a.txt") == tmp_path / "a.txt"
    (tmp_path / "a.txt").touch()
    (tmp_path / "a-2.txt").symlink_to("nowhere")
    assert files.free_name(tmp_path / "a.txt") == tmp_path / "a-3.txt"
