"""Simulated stories: deterministic, well formed, coherent, varied."""

import re

import pytest

from spellbound.data.simulator import Story, simulate
from spellbound.data.simulator.plot import mood_shows
from spellbound.directives import Close, Open, StreamParser, Text, parse, render

SEEDS = range(250)


@pytest.fixture(scope="module")
def stories() -> list[Story]:
    return [simulate(seed) for seed in SEEDS]


def test_same_seed_same_story() -> None:
    assert simulate(7) == simulate(7)
    assert simulate(7) != simulate(8)


def test_passages_need_no_repair_and_quote_the_cast_only(stories: list[Story]) -> None:
    for story in stories:
        cast = {character.speaker_id for character in story.characters}
        for passage in story.passages:
            parser = StreamParser()
            events = [*parser.feed(passage), *parser.close()]
            assert not parser.repairs, (story.seed, parser.repairs)
            speakers = {
                event.speaker for event in events if isinstance(event, Open) and event.kind == "quote"
            }
            assert speakers <= cast


def test_tags_do_not_nest_and_are_not_empty(stories: list[Story]) -> None:
    for story in stories:
        for passage in story.passages:
            depth = 0
            for event in parse(passage):
                if isinstance(event, Open | Close):
                    depth += 1 if isinstance(event, Open) else -1
                    assert depth in (0, 1), story.seed
                elif depth:
                    assert event.text.strip(), story.seed


def test_no_template_is_left_in_the_text(stories: list[Story]) -> None:
    for story in stories:
        for passage in story.passages:
            assert not re.search(
                r"[\[\]{}|~]|  |\ba (?!one\b)[aeio][a-z]|\s[,.!?]|(?<!\.)\.\.(?!\.)", passage
            ), story.seed


def test_every_paragraph_has_one_speaker_at_most(stories: list[Story]) -> None:
    for story in stories:
        for paragraph in "\n\n".join(story.passages).split("\n\n"):
            assert len(set(re.findall(r'speaker="(\w+)"', paragraph))) <= 1, (story.seed, paragraph)


def test_sentences_begin_with_a_capital(stories: list[Story]) -> None:
    for story in stories:
        for paragraph in "\n\n".join(story.passages).split("\n\n"):
            bare = re.sub(r"<[^>]+>", "", paragraph)
            assert not bare[0].islower(), (story.seed, paragraph)
            assert not re.search(r"(?<!\.\.)[.?] [a-z]", re.sub(r"<quote.*?</quote>[^<]*", "", paragraph)), (
                story.seed,
                paragraph,
            )


def test_passages_have_the_promised_length(stories: list[Story]) -> None:
    lengths = sorted(
        len(render(parse(passage), to="plain").split()) for story in stories for passage in story.passages
    )
    assert lengths[len(lengths) // 50] >= 50
    assert lengths[-len(lengths) // 50] <= 260
    assert 85 <= lengths[len(lengths) // 2] <= 160


def test_most_stories_have_two_speakers_or_more(stories: list[Story]) -> None:
    counts = [len(set(re.findall(r'speaker="(\w+)"', "".join(story.passages)))) for story in stories]
    assert sum(count >= 2 for count in counts) > 0.85 * len(counts)
    assert sum(count >= 3 for count in counts) > 0.2 * len(counts)
    assert 1 in counts


def test_the_goal_is_reached_once_and_after_it_was_wanted(stories: list[Story]) -> None:
    for story in stories:
        names = [happening.name for passage in story.details for happening in passage.happenings]
        wanted = next(index for index, name in enumerate(names) if name.startswith("the want"))
        reached = [index for index, name in enumerate(names) if name.startswith("climax")]
        known = next(index for index, name in enumerate(names) if name in ("finds a clue", "asks the way"))
        assert len(reached) == 1
        assert wanted < known < reached[0]


def test_a_tool_is_used_only_while_somebody_has_it(stories: list[Story]) -> None:
    for story in stories:
        names = [happening.name for passage in story.details for happening in passage.happenings]
        for index, name in enumerate(names):
            if name.startswith("uses the"):
                before = names[:index]
                assert before.count("finds a tool") > before.count("loses the tool")


def test_nobody_speaks_who_is_not_there(stories: list[Story]) -> None:
    for story in stories:
        ids = {letter: person.speaker_id for letter, person in zip("abcd", story.characters, strict=False)}
        for passage in story.details:
            taking_part = {ids[who] for happening in passage.happenings for who in happening.people}
            spoken = set(re.findall(r'speaker="(\w+)"', passage.text))
            assert spoken <= taking_part, story.seed


def test_sheets_are_as_the_design_has_them(stories: list[Story]) -> None:
    for story in stories:
        for character in story.characters:
            assert re.fullmatch(r"[A-Z0-9]{6}", character.speaker_id)
            assert character.details[0][0] == "Personality"
    names = {character.name for story in stories for character in story.characters}
    assert sum(" " in name for name in names) > 0.25 * len(names)
    assert len(names) > 350


def test_voices_differ() -> None:
    """The words of grumpy people are not the words of cheerful ones."""
    spoken: dict[str, list[str]] = {"grumpy": [], "cheerful": []}
    for seed in range(250):
        story = simulate(seed)
        for character in story.characters:
            traits = dict(character.details)["Personality"]
            for voice, words in {
                "grumpy": ("grumpy", "gruff", "prickly"),
                "cheerful": ("merry", "cheerful"),
            }.items():
                if any(word in traits for word in words):
                    pattern = rf'<quote speaker="{character.speaker_id}">(.*?)</quote>'
                    spoken[voice] += re.findall(pattern, "\n".join(story.passages))
    grumpy, cheerful = (" ".join(spoken[voice]) for voice in ("grumpy", "cheerful"))
    assert grumpy.count("Hmph") > 10 * (cheerful.count("Hmph") + 0.1)
    assert cheerful.count("Hooray") > 5 * grumpy.count("Hooray")


def test_mood_shows_finds_the_words_of_a_mood() -> None:
    assert mood_shows("sad", "tears came to mara's eyes")
    assert not mood_shows("angry", "mara smiled")


def test_plain_rendering_has_the_words_of_the_tagged_text(stories: list[Story]) -> None:
    passage = stories[0].passages[0]
    words = "".join(event.text for event in parse(passage) if isinstance(event, Text))
    plain = render(parse(passage), to="plain")
    assert re.sub(r"[“”]", "", plain).split() == words.split()
