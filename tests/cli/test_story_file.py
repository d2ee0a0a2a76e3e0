"""A passage goes into the user's file, whoever else is at it."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spellbound.cli.story_file import append_passage, past_story
from spellbound.directives import StoryPrompt
from spellbound.errors import InputError

TELL = "<writingInstructions>\n- Go on.\n</writingInstructions>\n"


def test_edits_made_meanwhile_and_the_byte_order_mark_stay(tmp_path: Path) -> None:
    file = tmp_path / "s.md"
    file.write_bytes(b"\xef\xbb\xbf" + f"<pastStory>\nEdited.\n</pastStory>\n{TELL}".encode())
    append_passage(str(file), "New.")
    assert (
        file.read_bytes() == b"\xef\xbb\xbf" + f"<pastStory>\nEdited.\n\nNew.\n</pastStory>\n{TELL}".encode()
    )


def test_a_spoilt_file_is_left_alone_and_the_passage_rescued(tmp_path: Path) -> None:
    file = tmp_path / "s.md"
    file.write_text("<pastStory>\nhalf", encoding="utf-8")
    with pytest.raises(InputError, match=r"what was written is in .*s\.md\.passage\.txt"):
        append_passage(str(file), "New.")
    assert file.read_text(encoding="utf-8") == "<pastStory>\nhalf"
    assert (tmp_path / "s.md.passage.txt").read_text(encoding="utf-8") == "New.\n"


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path: Path) -> None:
    file, link = tmp_path / "s.md", tmp_path / "link.md"
    file.write_text(f"<pastStory>\nA.\n</pastStory>\n{TELL}", encoding="utf-8")
    file.chmod(0o640)
    link.symlink_to(file)
    append_passage(str(link), "New.")
    assert link.is_symlink()
    assert "New." in file.read_text(encoding="utf-8")
    assert file.stat().st_mode & 0o777 == 0o640


def test_past_story_of_a_raw_passage_is_the_whole(tmp_path: Path) -> None:
    file = tmp_path / "p.md"
    file.write_text("He said: <pastStory> is a tag.", encoding="utf-8")
    assert past_story(str(file)) == ("He said: <pastStory> is a tag.", ())


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    file, link = tmp_path / "s.md", tmp_path / "link.md"
    file.write_text(f"<pastStory>\nA.\n</pastStory>\n{TELL}", encoding="utf-8")
    link.symlink_to(file)
    words = [f"Passage{number}." for number in range(60)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append_passage, [str(file), str(link)] * 30, words))
    past = StoryPrompt.parse(file.read_text(encoding="utf-8")).past_story
    assert sorted(past.split("\n\n")) == sorted(["A.", *words])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.md", "s.md"]


def test_a_rescue_does_not_replace_an_earlier_one(tmp_path: Path) -> None:
    file = tmp_path / "s.md"
    file.write_text("<pastStory>\nhalf", encoding="utf-8")
    for passage in ("One.", "Two."):
        with pytest.raises(InputError, match="what was written is in"):
            append_passage(str(file), passage)
    assert (tmp_path / "s.md.passage.txt").read_text(encoding="utf-8") == "One.\n"
    assert (tmp_path / "s.md.passage-2.txt").read_text(encoding="utf-8") == "Two.\n"


def test_a_story_that_became_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s.md")
    with pytest.raises(InputError, match="a device or a pipe"):
        append_passage(str(tmp_path / "s.md"), "New.")
    assert (tmp_path / "s.md.passage.txt").read_text(encoding="utf-8") == "New.\n"


def test_an_indented_story_file_is_one(tmp_path: Path) -> None:
    file = tmp_path / "s.md"
    file.write_text(f"  <pastStory>\nA.\n</pastStory>\n{TELL}", encoding="utf-8")
    assert past_story(str(file)) == ("A.", ())
