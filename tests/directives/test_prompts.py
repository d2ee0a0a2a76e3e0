"""Story prompts: every one survives being written and read, and nothing in it breaks out of its place."""

import pytest
from hypothesis import given, settings

from spellbound.directives import Character, StoryPrompt, StreamParser, check_story, parse
from spellbound.errors import DirectiveError
from tests.directives.strategies import markup, prompt, writable

MARA = Character("Mara Voss", "32AN4R", (("Personality", "dry, brave, keeps her promises"),))


@settings(deadline=None, max_examples=120)
@given(prompt)
def test_round_trip(story: StoryPrompt) -> None:
    text = story.render()
    assert StoryPrompt.parse(text) == story
    assert StoryPrompt.parse(text).render() == text
    assert not any(problem.fatal for problem in check_story(text))


@settings(deadline=None, max_examples=100)
@given(writable)
def test_making_block_tags_text_changes_no_event(past: str) -> None:
    contained = StoryPrompt(past_story=past).past_story
    assert parse(contained) == parse(past)
    assert StoryPrompt(past_story=contained).past_story == contained


@settings(deadline=None, max_examples=120)
@given(markup)
def test_reading_any_text_gives_a_prompt_or_one_error(text: str) -> None:
    problems = check_story(text)
    fatal = [problem for problem in problems if problem.fatal]
    assert problems == sorted(problems)
    if fatal:
        with pytest.raises(DirectiveError) as caught:
            StoryPrompt.parse(text)
        assert str(caught.value).startswith(f"line {fatal[0].line}, column {fatal[0].column}: ")
    else:
        story = StoryPrompt.parse(text)
        assert StoryPrompt.parse(story.render()) == story


@settings(deadline=None, max_examples=100)
@given(prompt)
def test_check_finds_what_the_stream_parser_mends(story: StoryPrompt) -> None:
    parser = StreamParser(story.characters)
    parser.feed(story.past_story)
    parser.close()
    text = story.render()
    begin = text.index("<pastStory>\n") + len("<pastStory>\n")
    found = [problem.offset - begin for problem in check_story(text)]
    assert sorted(found) == sorted(repair.offset for repair in parser.repairs)


def test_the_layout_of_the_design() -> None:
    story = StoryPrompt(
        (MARA,),
        'The harbour lay still. <quote speaker="32AN4R">“Hello?”</quote> — she didn\'t wait.',
        ("Mara finds the harbour empty. Keep her hopeful. End on the sound of the bell.",),
    )
    assert story.render() == (
        "<MaraVossDescription>\n"
        "- Name: Mara Voss\n"
        "- Personality: dry, brave, keeps her promises\n"
        "- Speaker ID: 32AN4R\n"
        "</MaraVossDescription>\n"
        "<pastStory>\n"
        'The harbour lay still. <quote speaker="32AN4R">“Hello?”</quote> — she didn\'t wait.\n'
        "</pastStory>\n"
        "<writingInstructions>\n"
        "- Mara finds the harbour empty. Keep her hopeful. End on the sound of the bell.\n"
        "</writingInstructions>\n"
    )


def test_what_changes_least_comes_first() -> None:
    before = StoryPrompt((MARA,), "One.", ("Go on.",)).render()
    after = StoryPrompt((MARA,), "One.\nTwo.", ("End it.",)).render()
    assert after.startswith(before[: before.index("\n</pastStory>")])


@pytest.mark.parametrize(
    ("story", "place"),
    [
        (StoryPrompt(past_story="a\nb\ud800"), "line 3, column 2: U+D800"),
        (StoryPrompt(instructions=("\udfff",)), "line 4, column 3: U+DFFF"),
        (StoryPrompt((Character("A", "32AN4R", (("k\udc00", ""),)),)), "line 3, column 4: U+DC00"),
    ],
)
def test_half_characters_are_not_written(story: StoryPrompt, place: str) -> None:
    with pytest.raises(DirectiveError, match=place.replace("+", r"\+")):
        story.render()


def test_lists_are_taken_as_tuples() -> None:
    character = Character("A", "32AN4R", [["k", "v"]])  # type: ignore[arg-type]
    assert character.details == (("k", "v"),)
    story = StoryPrompt([character], "", ["Go."])  # type: ignore[arg-type]
    assert story == StoryPrompt((character,), "", ("Go.",))
    assert hash(story) == hash(StoryPrompt((character,), "", ("Go.",)))


def test_two_characters_cannot_share_an_id() -> None:
    with pytest.raises(DirectiveError, match=r"32AN4R belongs to 'A' and to 'B'.*give each"):
        StoryPrompt((Character("A", "32AN4R"), Character("B", "32AN4R")))


def test_an_unnamed_character_cannot_share_one_either() -> None:
    with pytest.raises(DirectiveError, match="32AN4R"):
        StoryPrompt((Character("", "32AN4R"), Character("", "32AN4R")))


def test_values_of_other_types_are_refused() -> None:
    with pytest.raises(DirectiveError, match=r"instructions 'Go\.' are not a list"):
        StoryPrompt(instructions="Go.")  # type: ignore[arg-type]
    with pytest.raises(DirectiveError, match="past_story is None"):
        StoryPrompt(past_story=None)  # type: ignore[arg-type]
    with pytest.raises(DirectiveError, match="instructions"):
        StoryPrompt(instructions=(1,))  # type: ignore[arg-type]


def test_a_problem_reads_as_one_line() -> None:
    (problem,) = check_story("<pastStory>\n<ACTION>x</action>\n</pastStory>")
    assert str(problem) == (
        "2:1: <ACTION> is not the canonical spelling; write lower case, one space, double quotation marks"
    )


def test_the_same_file_has_the_same_problems() -> None:
    text = "<ADescription>\n- Name: A\n</ADescription>\n<BDescription>\n- Name: B\n- Speaker ID: 1\n"
    assert check_story(text) == check_story(text)
    assert len(check_story(text)) == 3
