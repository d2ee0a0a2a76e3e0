"""Files are whole or not there."""

import os
import stat
from pathlib import Path

import pytest

from spellbound.errors import InputError
from spellbound.files import replacing, replacing_folder


def test_a_file_appears_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "story.txt"
    with replacing(target) as draft:
        draft.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert [each.name for each in tmp_path.iterdir()] == ["story.txt"]


def test_an_error_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    target = tmp_path / "story.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(target) as draft:  # noqa: PT012
        draft.write_text("ha")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_mode_and_link_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    with replacing(link) as draft:
        draft.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_new_file_is_readable_as_the_umask_says(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        with replacing(tmp_path / "new") as draft:
            draft.write_text("")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    complaint = pytest.raises(InputError, match=r"gone/story\.txt: cannot be written: no such file")
    with complaint, replacing(tmp_path / "gone" / "story.txt"):
        pass


def test_a_folder_keeps_its_other_files(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "card.md").write_text("card")
    (target / "weights").write_text("old")
    with replacing_folder(target) as draft:
        (draft / "weights").write_text("new")
    assert {each.name: each.read_text() for each in target.iterdir()} == {"card.md": "card", "weights": "new"}
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_fails_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing_folder(tmp_path / "model") as draft:  # noqa: PT012
        (draft / "weights").write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
