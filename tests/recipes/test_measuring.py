"""What passages are judged by: rules over tables, intervals against known values, and the loop's gain."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.nano.measuring import Passage, gain, measured, share, speakers_named, summary, worth
from spellbound.data.checks import Check
from spellbound.data.examples import Example
from spellbound.data.fields import Provenance
from spellbound.data.simulator import HELD_OUT_FROM, to_examples
from spellbound.directives import Character, Open, StoryPrompt, parse
from spellbound.errors import InputError

MARA, TOM, OTHER_TOM = (
    Character("Mara Voss", "32AN4R", ()),
    Character("Tom", "8JNOJJ", ()),
    Character("Tom Ash", "4YURK5", ()),
)
CAST = (MARA, TOM)


@pytest.mark.parametrize(
    ("text", "named", "wrong"),
    [
        ('<quote speaker="32AN4R">Go,</quote> said Mara.', 1, 0),
        ('<quote speaker="8JNOJJ">Go,</quote> said Mara.', 1, 1),
        ('<quote speaker="32AN4R">Go?</quote> Mara asked quietly.', 1, 0),
        ('Mara cried, <quote speaker="32AN4R">Go!</quote>', 1, 0),
        ('Mara cried: <quote speaker="8JNOJJ">Go!</quote>', 1, 1),
        ("<quote>Go,</quote> said Mara.", 1, 1),  # no speaker is not the right one
        ('<quote speaker="32AN4R">Go,</quote> Mara said to Tom.', 0, 0),  # two names: who speaks is open
        ('<quote speaker="32AN4R">Go.</quote>\n\nTom went.', 0, 0),  # another paragraph
        ('Tom left. <quote speaker="32AN4R">Go.</quote>', 0, 0),  # another sentence
        ('Tom left <quote speaker="32AN4R">Go.</quote>', 0, 0),  # nothing that leads into speech
        (
            '<quote speaker="32AN4R">Tom!</quote> <action>Tom ran.</action>',
            0,
            0,
        ),  # names in speech or actions
        ('<quote speaker="32AN4R">Go,</quote> said Maralyn.', 0, 0),
        ('<quote speaker="32AN4R">Go, <action>she waves</action> go,</quote> said Mara.', 0, 0),
        ('<quote speaker="32AN4R">A,</quote> said Mara. <quote speaker="8JNOJJ">B,</quote> Tom said.', 2, 0),
        ("Mara, Tom.", 0, 0),
    ],
)
def test_speakers_named(text: str, named: int, wrong: int) -> None:
    assert speakers_named(parse(text), CAST) == (named, wrong)


def test_a_first_name_that_two_have_names_nobody() -> None:
    events = parse('<quote speaker="8JNOJJ">Go,</quote> said Tom.')
    assert speakers_named(events, (MARA, TOM)) == (1, 0)
    assert speakers_named(events, (MARA, TOM, OTHER_TOM)) == (0, 0)
    assert speakers_named(events, ()) == (0, 0)


def test_gold_stories_have_no_wrong_speaker_and_many_named_ones() -> None:
    quotes = named = wrong = 0
    for seed in range(HELD_OUT_FROM, HELD_OUT_FROM + 60):
        for example in to_examples(seed, invented_names=0.5):
            events = parse(example.completion)
            found, faults = speakers_named(events, example.prompt.characters)
            quotes += sum(isinstance(event, Open) and event.kind == "quote" for event in events)
            named, wrong = named + found, wrong + faults
    assert wrong == 0
    assert named > 0.4 * quotes > 100


def test_gold_passages_are_worth_everything() -> None:
    for seed in range(HELD_OUT_FROM, HELD_OUT_FROM + 20):
        for example in to_examples(seed):
            found = measured(example, example.completion, mended=0, ended=True, constrained=True)
            assert worth(found) == 1
            assert found.well_formed


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [  # Newcombe, Stat. Med. 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_intervals_are_those_of_the_literature(part: int, whole: int, low: float, high: float) -> None:
    found = share(part, whole)
    assert found["of"] == whole
    assert (found["low"], found["high"]) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_nothing_has_no_share() -> None:
    assert share(0, 0) == {"of": 0, "share": None, "low": None, "high": None}


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 500).flatmap(lambda whole: st.tuples(st.integers(0, whole), st.just(whole))))
def test_an_interval_holds_its_share(counts: tuple[int, int]) -> None:
    found = share(*counts)
    assert 0 <= found["low"] <= found["share"] <= found["high"] <= 1


def example(*, tags: bool = True) -> Example:
    return Example(
        id="e1",
        prompt=StoryPrompt((MARA,), "", ("Go.",), tags),
        completion="Go.",
        provenance=Provenance(annotator="test"),
        checks=(Check("speaks", ("32AN4R",)), Check("no_sound")),
    )


def told(text: str, *, mended: int = 0, ended: bool = True, tags: bool = True) -> Passage:
    return measured(example(tags=tags), text, mended=mended, ended=ended, constrained=True)


@pytest.mark.parametrize(
    ("text", "well_formed", "speaks", "silent"),
    [
        ('<quote speaker="32AN4R">Go!</quote>', True, True, True),
        ('<quote speaker="XXXXXX">Go!</quote>', False, False, True),
        ('<quote speaker="32AN4R">Go! <sound>Boom.</sound>', False, True, False),
        ("Nobody spoke.", True, False, True),
    ],
)
def test_writing_is_judged_by_rule(text: str, well_formed: bool, speaks: bool, silent: bool) -> None:
    found = told(text)
    assert found.well_formed == well_formed
    assert found.followed == (("speaks", speaks), ("no_sound", silent))
    assert found.quotes == text.count("<quote")
    assert not told(text, mended=1).well_formed


def test_what_is_wrong_costs_two_thirds_of_the_worth() -> None:
    good = '<quote speaker="32AN4R">Go,</quote> said Mara.'
    assert worth(told(good)) == 1
    assert worth(told("Nobody spoke.")) == 0.5
    for found in (told(good, mended=1), told(good, ended=False), replace(told(good), wrong_speaker=1)):
        assert worth(found) == pytest.approx(1 / 3)
    assert worth(replace(told(good), followed=())) == 1


def test_a_summary_counts_by_kind() -> None:
    tagged, silent = told('<quote speaker="32AN4R">Go!</quote>'), told("Nobody spoke.", ended=False)
    plain = told("Nobody spoke.", tags=False)
    found = summary([tagged, silent, plain])
    assert found["passages"] == 3
    assert found["words"] == pytest.approx(5 / 3, abs=0.05)
    shares = {name: (entry["of"], entry["share"]) for name, entry in found["kinds"].items()}
    assert shares == {"speaks": (3, pytest.approx(1 / 3, abs=1e-4)), "no_sound": (3, 1.0)}
    assert found["instructions followed"]["of"] == 6
    assert found["ended by itself"]["share"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["has a quote where tags were asked for"] == share(1, 2)
    assert found["speaker named beside the quote"] == share(0, 1)
    assert found["wrong speaker"]["of"] == 0


def passages(worths: list[bool]) -> list[Passage]:
    usual = told("Nobody spoke.")
    return [replace(usual, id=f"p{n}", followed=(("speaks", held),)) for n, held in enumerate(worths)]


def test_the_gain_is_paired_and_a_function_of_what_it_is_given() -> None:
    before = passages([False] * 60 + [True] * 40)
    after = passages([False] * 30 + [True] * 70)
    found = gain(before, after)
    assert found == gain(before, list(reversed(list(reversed(after)))))
    assert (found["prompts"], found["before"], found["after"], found["gain"]) == (100, 0.4, 0.7, 0.3)
    assert found["low"] == pytest.approx(0.3 - 0.09, abs=0.02)  # 1.96 * sqrt(0.3 * 0.7 / 100)
    assert found["high"] == pytest.approx(0.3 + 0.09, abs=0.02)
    same = gain(before, before)
    assert (same["gain"], same["low"], same["high"]) == (0, 0, 0)


def test_only_prompts_that_both_answered_count() -> None:
    before, after = passages([False, True, True]), passages([True, True, False])[:2]
    found = gain(before, after)
    assert (found["prompts"], found["before"], found["after"]) == (2, 0.5, 1.0)
    with pytest.raises(InputError, match="no prompt in common"):
        gain(before[2:], after)
