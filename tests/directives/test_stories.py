"""A passage goes to the end of the past story, and every other byte stays."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from spellbound.directives import StoryPrompt, extend_story, is_story, parse, render
from spellbound.errors import DirectiveError
from tests.directives.strategies import prompt, writable

TELL = "<writingInstructions>\n- Go on.\n</writingInstructions>\n"
SHEET = "<TDescription>\n- Name: T\n- Says: <writingInstructions>\n- Speaker ID: K7Q2ZX\n</TDescription>\n"


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
def test_extend_story(before: str, after: str, line: str, last: bool) -> None:
    def file(past: str) -> str:
        return (TELL + past if last and past else past + TELL).replace("\n", line)

    extended = extend_story(file(before), "New.")
    if before or not last:
        assert extended == file(after)
    assert StoryPrompt.parse(extended).past_story.endswith("New.")


def test_tags_of_a_prompt_in_a_passage_stay_text() -> None:
    passage = "B </pastStory> C\n\nD"
    extended = extend_story(f"<pastStory>\nA.\n</pastStory>\n{TELL}", passage)
    assert StoryPrompt.parse(extended).past_story == StoryPrompt(past_story=f"A.\n\n{passage}").past_story


def test_what_was_cut_off_does_not_swallow_the_passage() -> None:
    past = 'A. <quote speaker="K7Q2ZX">Well, <action>he'
    extended = extend_story(f"<pastStory>\n{past}\n</pastStory>\n{TELL}", "New.")
    assert extended == f"<pastStory>\n{past}</action></quote>\n\nNew.\n</pastStory>\n{TELL}"


def test_a_block_named_in_a_sheet_is_no_place_for_a_past_story() -> None:
    assert extend_story(SHEET + TELL, "New.") == f"{SHEET}<pastStory>\nNew.\n</pastStory>\n{TELL}"
    assert extend_story(SHEET.strip(), "New.") == f"{SHEET}<pastStory>\nNew.\n</pastStory>\n"


def test_an_unreadable_story_is_refused() -> None:
    with pytest.raises(DirectiveError, match="line 1, column 1: <pastStory> is never closed"):
        extend_story("<pastStory>\nhalf", "New.")


@settings(deadline=None, max_examples=120)
@given(prompt, writable)
def test_any_story_takes_any_passage(story: StoryPrompt, words: str) -> None:
    passage = render(parse(words)).strip("\r\n")
    before = story.render()
    after = extend_story(before, passage)
    assert after.endswith(before[before.index("</pastStory>\n<writing") :])
    extended = StoryPrompt.parse(after)
    assert extended == replace(story, past_story=extended.past_story)
    assert extended.past_story.startswith(story.past_story)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<pastStory>\n", True),
        (" \t<writingInstructions>", True),
        ("x\n<MaraDescription>\ny", True),
        ("He said <pastStory>", False),
        ("</pastStory>", False),
        ("<pastStory >", False),
        ("", False),
    ],
)
def test_what_is_meant_as_a_story_file(text: str, expected: bool) -> None:
    assert is_story(text) == expected
