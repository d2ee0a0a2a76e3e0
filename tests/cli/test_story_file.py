"""A passage goes to the end of the past story, and every other byte stays."""

from pathlib import Path

import pytest

from spellbound.cli.story_file import append_passage, past_story, with_passage
from spellbound.directives import StoryPrompt
from spellbound.errors import InputError

TELL = "<writingInstructions>\n- Go on.\n</writingInstructions>\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<pastStory>\nA.\n</pastStory>\n", "<pastStory>\nA.\n\nNew.\n</pastStory>\n"),
        ("<pastStory>\nA.\n\n</pastStory>\n", "<pastStory>\nA.\n\nNew.\n</pastStory>\n"),
        ("<pastStory>\n</pastStory>\n", "<pastStory>\nNew.\n</pastStory>\n"),
        ("<pastStory></pastStory>\n", "<pastStory>\nNew.\n</pastStory>\n"),
        ("<pastStory>A.</pastStory>\n", "<pastStory>A.\n\nNew.</pastStory>\n"),
        ("", "<pastStory>\nNew.\n</pastStory>\n"),
    ],
)
@pytest.mark.parametrize("line", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [False, True])
def test_with_passage(before: str, after: str, line: str, last: bool) -> None:
    def file(past: str) -> str:
        return (TELL + past if last and past else past + TELL).replace("\n", line)

    extended = with_passage(file(before), "New.")
    if before or not last:
        assert extended == file(after)
    assert StoryPrompt.parse(extended).past_story.endswith("New.")


def test_tags_of_a_prompt_in_a_passage_stay_text() -> None:
    passage = "B </pastStory> C\n\nD"
    extended = with_passage(f"<pastStory>\nA.\n</pastStory>\n{TELL}", passage)
    assert StoryPrompt.parse(extended).past_story == StoryPrompt(past_story=f"A.\n\n{passage}").past_story


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
