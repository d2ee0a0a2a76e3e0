"""Windows: where stories are cut, what the past holds, and who is on the sheets."""

import re
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.data.instructions.marks import brings_marks, unwrapped, without_outer_marks
from spellbound.data.instructions.units import Marks, Units, is_division
from spellbound.data.instructions.windows import Window, WindowSettings, as_plain, windows
from spellbound.data.tagged import TaggedStory
from spellbound.directives import Open, StoryPrompt, StreamParser, Text, parse, render
from spellbound.errors import InputError
from tests.data.tagged_stories import CAST, MARA, STORIES, drama, simulated, story

SMALL = WindowSettings(completion_words=(5, 25), past_words=(4, 60), plain=0.0)


def plain(markup: str) -> str:
    return "".join(event.text for event in parse(markup) if isinstance(event, Text))


def well_formed(markup: str, window: Window) -> bool:
    parser = StreamParser(window.characters)
    parser.feed(markup)
    parser.close()
    return not parser.repairs


def paragraphs(count: int, words: int = 10) -> list[str]:
    return [" ".join([f"p{number}", *["word"] * (words - 1)]) + "." for number in range(count)]


def test_same_story_same_windows_and_another_seed_others() -> None:
    told = simulated(1, 2, 3)
    assert list(windows(told)) == list(windows(told))
    assert list(windows(told)) != list(windows(told, WindowSettings(seed=1)))


@given(STORIES, st.sampled_from(["keep", "strip"]), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_any_story_is_cut_into_well_formed_windows(told: TaggedStory, marks: Marks, seed: int) -> None:
    cut = WindowSettings(
        completion_words=(3, 30),
        past_words=(2, 50),
        plain=0.3,
        marks=marks,
        seed=seed,
        overlap=0.3,
    )
    units = Units(told).units
    for window in windows(told, cut):
        assert 0 <= window.first <= window.start < window.stop <= len(units)
        assert StoryPrompt.parse(prompt_text(window)).characters == window.characters
        assert not any(unit.doubtful for unit in units[window.start : window.stop])
        assert not units[window.stop - 1].head
        assert window.start == 0 or not units[window.start - 1].head
        if window.tags:
            assert well_formed(window.completion, window)
            assert well_formed(window.past, window)


def prompt_text(window: Window) -> str:
    return StoryPrompt(window.characters, window.past, (), window.tags).render()


def test_without_overlap_every_paragraph_is_learnt_at_most_once() -> None:
    found = list(windows(simulated(1, 2, 3, 4)))
    assert all(one.stop <= other.start for one, other in pairwise(found))
    assert len(found) > 5


def test_overlap_learns_more_often() -> None:
    told = story(*paragraphs(200))
    once = list(windows(told, SMALL))
    often = list(windows(told, WindowSettings(completion_words=(5, 25), overlap=0.8)))
    assert len(often) > 1.3 * len(once)
    assert all(one.start < other.start for one, other in pairwise(often))


def test_lengths_are_as_asked_and_spread() -> None:
    told = story(*paragraphs(4000))
    found = list(windows(told, WindowSettings(plain=0.0, without_past=0.0)))
    completions = sorted(len(window.completion.split()) for window in found)
    assert completions[0] >= 60
    assert completions[-1] <= 400
    assert completions[len(found) // 10] < 100
    assert completions[-len(found) // 10] > 250
    pasts = sorted(len(window.past.split()) for window in found[len(found) // 2 :])
    assert pasts[len(pasts) // 5] < 300
    assert pasts[-len(pasts) // 10] > 5000


def test_past_story_joins_on() -> None:
    told = story(*paragraphs(100))
    texts = [unit.markup for unit in Units(told).units]
    for window in windows(told, SMALL):
        assert window.past == "\n\n".join(texts[window.first : window.start])
        assert window.completion == "\n\n".join(texts[window.start : window.stop])
        assert len(window.past.split()) <= 60


def test_some_begin_without_a_past() -> None:
    found = list(windows(story(*paragraphs(600)), WindowSettings(completion_words=(5, 25), without_past=0.3)))
    assert 0.2 < sum(not window.past for window in found) / len(found) < 0.4


def test_chapters_begin_completions_and_end_them() -> None:
    told = story(*(text for _ in range(30) for text in ("Chapter II", *paragraphs(4))))
    found = list(windows(told, WindowSettings(completion_words=(20, 200), plain=0.0)))
    openings = [window for window in found if window.opening]
    assert len(openings) >= 25
    assert all(window.completion.startswith("Chapter II") for window in openings)
    assert all("Chapter" not in window.completion for window in found if not window.opening)
    assert len(found) > len(openings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Chapter 3", True),
        ("* * *", True),
        ("IV.", True),
        ("Erster Auftritt.", True),
        ("Jornada II", True),
        ("Tweede tooneel.", True),
        ("الفصل الأول", True),
        ("פרק א", True),
        ("He was in the third act of it.", False),
        ("He went home.", False),
        ("No!", False),
    ],
)
def test_divisions(text: str, expected: bool) -> None:
    assert is_division(text) is expected


def test_a_title_stays_with_what_follows_and_lines_without_stops_are_titles_only_with_capitals() -> None:
    heads = [unit.head for unit in Units(story("The Blue Lamp", "He went home.", "كان بيته كبيرا")).units]
    assert heads == [True, False, False]


def test_long_speech_over_paragraphs_is_never_cut() -> None:
    speech = f'<quote speaker="32AN4R">{paragraphs(1)[0]}\n\n{paragraphs(1)[0]}</quote>'
    for window in windows(story(*[speech] * 30), SMALL):
        assert well_formed(window.completion, window)
        assert window.completion.startswith("<quote")


def test_paragraph_longer_than_a_completion_is_only_in_the_past() -> None:
    told = story(*paragraphs(5), "long " * 100, *paragraphs(5))
    found = list(windows(told, WindowSettings(completion_words=(5, 25), past_words=(500, 500), plain=0.0)))
    assert found
    assert not any("long" in window.completion for window in found)
    assert any("long" in window.past for window in found)


def test_doubtful_paragraphs_are_in_no_completion_and_in_few_pasts() -> None:
    texts = paragraphs(200)
    at = [match.start() for match in re.finditer(r"p\d+5 ", "\n\n".join(texts))]
    told = story(*texts, doubtful=tuple((start, start + 5) for start in at))
    found = list(
        windows(told, WindowSettings(completion_words=(5, 25), past_words=(10, 800), doubtful_past=0.2))
    )
    assert found
    for window in found:
        assert not re.search(r"p\d+5 ", window.completion)
        past = re.findall(r"p\d+", window.past)
        assert sum(bool(re.fullmatch(r"p\d+5", word)) for word in past) <= 0.2 * len(past)


def test_sheets_are_of_those_who_appear_and_of_distractors() -> None:
    texts = [
        '<quote speaker="32AN4R">Where is he, where has he gone?</quote>',
        "Voss went home at last, it rained.",
    ]
    none = WindowSettings(completion_words=(5, 25), distractors=0, redraw_ids=False, plain=0.0)
    assert {window.characters for window in windows(story(*texts * 20), none)} == {(MARA,)}
    many = WindowSettings(completion_words=(5, 25), distractors=2)
    sizes = Counter(len(window.characters) for window in windows(story(*texts * 60), many))
    assert set(sizes) == {1, 2, 3}


def test_redrawn_ids_are_the_same_in_sheets_past_and_completion() -> None:
    told = simulated(4, 4, 4)
    found = list(windows(told, WindowSettings(plain=0.0)))
    assert all(well_formed(window.past + window.completion, window) for window in found)
    drawn = [one.speaker_id for window in found for one in window.characters]
    assert len(set(drawn)) == len(drawn)
    kept = list(windows(told, WindowSettings(plain=0.0, redraw_ids=False)))
    assert {one for window in kept for one in window.characters} <= set(told.cast)
    names = {one.speaker_id: one.name for one in told.cast}
    for new, old in zip(found, kept, strict=True):
        now = {one.speaker_id: one.name for one in new.characters}
        assert said_by(new.completion, now) == said_by(old.completion, names)


def said_by(markup: str, names: dict[str, str]) -> list[str]:
    return [
        names[event.speaker or ""]
        for event in parse(markup)
        if isinstance(event, Open) and event.kind == "quote"
    ]


def test_share_without_tags() -> None:
    found = list(windows(drama("nl"), WindowSettings(completion_words=(10, 30), plain=1.0)))
    assert found
    assert all(not window.tags and "<quote" not in window.completion for window in found)
    assert "‘" in found[0].completion
    assert any("<quote" in window.past for window in found)
    assert any(window.past and "<quote" not in window.past for window in found)


def test_at_most_so_many_windows_of_a_story() -> None:
    told = story(*paragraphs(300))
    few = list(windows(told, WindowSettings(completion_words=(5, 25), most=7)))
    assert len(few) == 7
    assert few[-1].start > 100
    assert {window.start for window in few} <= {
        window.start for window in windows(told, WindowSettings(completion_words=(5, 25)))
    }


def test_time_grows_with_the_story_and_not_with_its_square() -> None:
    """Work is counted in characters of past story, which a bounded past keeps to so much a window."""
    cut = WindowSettings(past_words=(30, 300))
    small, large = (
        sum(len(window.past) for window in windows(story(*paragraphs(count)), cut)) for count in (1000, 8000)
    )
    assert large < 12 * small


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"completion_words": (9, 3)}, "smaller one first"),
        ({"completion_words": (0, 3)}, "from 1 on"),
        ({"past_words": (1, 2, 3)}, "two numbers"),
        ({"plain": 1.5}, "from 0 to 1"),
        ({"overlap": 1.0}, "from 0 to 0.9"),
        ({"most": 0}, "1 or more"),
        ({"distractors": -1}, "0 or more"),
        ({"marks": "drop"}, "keep or strip"),
    ],
)
def test_settings_refuse_nonsense(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        WindowSettings(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("speech", "stripped"),
    [
        ("“Hello,”", "Hello,"),
        ("„Hallo“", "Hallo"),
        ("«\u00a0Viens\u00a0»", "Viens"),
        ("»Ja.«", "Ja."),
        ("— Oui", "Oui"),
        ("‘Ja.’", "Ja."),
        ("'Yes.'", "Yes."),
        ('"Yes."', "Yes."),
        ("”שלום”", "שלום"),
        ("“and so on", "and so on"),
        ("the end.”", "the end."),
        ("’t Is waar.", "’t Is waar."),
        ("goin’", "goin’"),
        ("He said “go”", "He said “go”"),
        ("“He said ‘go’”", "He said ‘go’"),
        ("Plain.", "Plain."),
        ("", ""),
        ("- Sí", "Sí"),
        ("-ish", "-ish"),
    ],
)
def test_marks_at_the_ends_of_speech(speech: str, stripped: str) -> None:
    markup = f'So: <quote speaker="32AN4R">{speech}</quote> he said.' if speech else "So: he said."
    expected = markup.replace(speech, stripped) if speech else markup
    assert render(without_outer_marks(parse(markup)), "tagged") == expected
    assert brings_marks(speech) is (speech != stripped)


def test_marks_stay_round_an_action_within_speech() -> None:
    markup = '<quote speaker="32AN4R">“Go <action>she points</action> there.”</quote>'
    assert plain(render(without_outer_marks(parse(markup)), "tagged")) == "Go she points there."


def test_plain_prose_keeps_marks_that_are_there_and_adds_those_that_are_not() -> None:
    markup = '<quote speaker="32AN4R">“One</quote> <quote speaker="32AN4R">Two.</quote>'
    assert as_plain(markup, "de") == "“One „Two.“"
    assert as_plain(markup, "xx") == "“One “Two.”"
    assert len(unwrapped(parse(markup))) == len(parse(markup)) - 2


def test_stripped_stories_have_no_marks_at_the_ends_of_speech() -> None:
    told = story(*['<quote speaker="32AN4R">“Where is he, where has he gone?”</quote> she said.'] * 30)
    for window in windows(told, WindowSettings(completion_words=(5, 25), marks="strip", plain=0.0)):
        assert "“" not in window.completion + window.past
    assert CAST[0].speaker_id in told.text


def test_sheets_stand_in_any_order() -> None:
    told = story(*[f"{character.name} went home at last, and slept until noon." for character in CAST] * 20)
    orders = {tuple(one.name for one in window.characters) for window in windows(told, SMALL)}
    assert len({order for order in orders if len(order) == len(CAST)}) > 2
