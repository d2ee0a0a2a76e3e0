"""Derived instructions: in the language of the story, true of the passage, the same every time."""

import re
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings

from spellbound.data.checks import KINDS, PLAIN_KINDS
from spellbound.data.examples import Example
from spellbound.data.instructions import INSTRUCTORS, instructor
from spellbound.data.instructions.derive import WEIGHTS, Derive
from spellbound.data.instructions.phrasing import LANGUAGES, phrases
from spellbound.data.instructions.salience import Salience
from spellbound.data.instructions.units import Names
from spellbound.data.instructions.windows import WindowSettings, windows
from spellbound.data.instructions.wishes import GROUPS, wishes
from spellbound.data.tagged import TaggedStory
from spellbound.directives import Character, parse
from spellbound.errors import InputError
from tests.data.tagged_stories import STORIES, drama, simulated, story

SMALL = WindowSettings(completion_words=(10, 60), overlap=0.5)


@pytest.fixture(scope="module")
def rows() -> list[Example]:
    told = [drama("de"), drama("es"), drama("nl"), *(simulated(seed, seed) for seed in range(15))]
    return [row for one in told for row in Derive(windows=SMALL).instruct(one)]


def holds(row: Example) -> bool:
    return all(check.holds(parse(row.completion)) for check in row.checks)


def test_no_check_fails_on_its_own_passage(rows: list[Example]) -> None:
    assert len(rows) > 200
    assert all(map(holds, rows))


@given(STORIES)
@settings(max_examples=60, deadline=None)
def test_no_story_makes_a_check_fail_on_its_own_passage(told: TaggedStory) -> None:
    cut = WindowSettings(completion_words=(3, 30), past_words=(2, 50), plain=0.3)
    for row in Derive(windows=cut).instruct(told):
        assert holds(row), row.checks
        assert Example.model_validate(row.model_dump()) == row


def test_checks_usually_fail_on_another_passage(rows: list[Example]) -> None:
    tagged = [row for row in rows if row.prompt.tags and row.checks]
    others = [tagged[(place + 40) % len(tagged)] for place in range(len(tagged))]
    failed = [
        not all(check.holds(parse(other.completion)) for check in row.checks)
        for row, other in zip(tagged, others, strict=True)
    ]
    assert sum(failed) > 0.7 * len(failed)


def test_numbers_and_kinds(rows: list[Example]) -> None:
    counts = Counter(len(row.checks) for row in rows)
    assert set(counts) == set(range(6))
    assert counts[0] < 0.15 * len(rows)
    kinds = Counter(check.kind for row in rows for check in row.checks)
    assert set(kinds) >= set(GROUPS) - {"person", "no_quote", "only_speaker"}
    assert max(kinds.values()) < 0.2 * kinds.total()
    for row in rows:
        groups = [GROUPS[check.kind] for check in row.checks]
        assert len(set(groups)) == len(groups)
        if not row.prompt.tags:
            assert all(check.kind in PLAIN_KINDS for check in row.checks)


def test_the_language_is_the_storys(rows: list[Example]) -> None:
    text = {
        language: " ".join(t for row in rows if row.language == language for t in row.prompt.instructions)
        for language in ("de", "es", "nl")
    }
    assert re.search(r"\b(?:Wörter|Absätze|Schreibe|spricht|Ende)\b", text["de"])
    assert re.search(r"\b(?:palabras|párrafos|Termina|habla)\b", text["es"])
    assert re.search(r"\b(?:woorden|alinea's|Eindig|spreekt)\b", text["nl"])


def test_rows_say_where_they_are_from(rows: list[Example]) -> None:
    row = rows[0]
    assert row.source == "plays/de"
    assert row.language == "de"
    assert row.provenance.annotator == "drama+derive"
    assert {"spellbound", "drama", "derive"} <= row.provenance.versions.keys()
    assert not any(re.search(r"[{}]", text) for one in rows for text in one.prompt.instructions)


def test_ids_are_unique_the_same_every_time_and_others_for_other_settings(rows: list[Example]) -> None:
    assert len({row.id for row in rows}) == len(rows)
    told = simulated(7)
    again = [list(Derive(windows=SMALL).instruct(told)) for _ in range(2)]
    assert again[0] == again[1]
    other = {row.id for row in Derive(windows=SMALL, instructions=2).instruct(told)}
    assert not other & {row.id for row in again[0]}


def test_instructions_do_not_leak_the_passage(rows: list[Example]) -> None:
    for row in rows:
        told = " ".join(re.findall(r"\w+", row.completion.lower()))
        for text in row.prompt.instructions:
            asked = re.findall(r"\w+", text.lower())
            runs = (" ".join(asked[at : at + 6]) for at in range(len(asked) - 5))
            assert not any(run in told for run in runs), text


def test_weights_choose_kinds() -> None:
    told = simulated(*range(5))
    only = Derive(windows=SMALL, weights={**dict.fromkeys(GROUPS, 0.0), "mentions": 1.0})
    assert {check.kind for row in only.instruct(told) for check in row.checks} == {"mentions"}
    none = Derive(windows=SMALL, weights=dict.fromkeys(GROUPS, 0.0))
    assert not any(row.checks or row.prompt.instructions for row in none.instruct(told))
    assert all(len(row.checks) <= 1 for row in Derive(windows=SMALL, instructions=1).instruct(told))


@pytest.mark.parametrize("language", LANGUAGES)
def test_phrases_of_a_language(language: str) -> None:
    found, english = phrases(language), phrases("en")
    assert found.language == language
    assert found.ask.keys() == english.ask.keys()
    for key, texts in found.ask.items():
        assert len(set(texts)) == 3
        wanted = set(re.findall(r"\{.\}", english.ask[key][0]))
        assert all(set(re.findall(r"\{.*?\}", text)) == wanted for text in texts), key
        assert all(text.endswith((".", "!")) for text in texts)
    assert len(found.places) > 20
    assert len(found.moods) == 10
    assert len(found.stop) > 20


def test_a_tenth_language_is_asked_in_english() -> None:
    assert phrases("xx").language == "en"


def test_salient_words_are_of_the_passage_and_not_names_or_common_ones() -> None:
    told = story(
        *["Mara went home because the rain fell again."] * 30, "Mara found a lantern, an old brass lantern."
    )
    assert Salience(told).words("Mara found a lantern, an old brass lantern.")[0] == "lantern"
    assert not {"mara", "because", "rain"} & set(Salience(told).words(told.text))
    german = story("Dort stand ein alter Brunnen im Garten, und Brunnen sind tief.", language="de")
    assert Salience(german).words("Dort stand ein alter Brunnen im Garten.") == ["Brunnen", "Garten"]


def test_nobody_is_to_be_left_out_who_is_there_under_another_name() -> None:
    tom = Character("Tom", "K7Q2ZX", (("Aliases", "the Captain; Old Tom"),))
    narrator = Character("Narrator", "AAAAA1", (("Role", "narrator"),))
    told = story(*["The Captain went home at last, and slept until noon."] * 9).model_copy(
        update={"cast": (tom, narrator)}
    )
    cut = WindowSettings(completion_words=(10, 30), plain=0.0, distractors=2, redraw_ids=False)
    for window in windows(told, cut):
        assert tom in window.characters
        found = wishes(window, phrases("en"), Salience(told), Names(told), "en", Random(0))
        assert not [wish for wish in found if wish.check.kind == "avoids"]


@pytest.mark.parametrize(
    ("names", "told", "asked"),
    [
        (("Miss Hale", "Miss Lund"), "Miss Lund rises.", {"Miss Lund": "Miss Lund"}),
        (("Mr. Hale", "Mrs. Hale"), "Mrs. Hale rises.", {"Mrs. Hale": "Mrs. Hale"}),
        (("Hale", "Mrs. Hale"), "Mrs. Hale rises.", {"Mrs. Hale": "Mrs. Hale"}),
        (("Mara Hale", "Tom Hale"), "Mara rises.", {"Mara Hale": "Mara"}),
        (("The Porter", "Tom"), "The door swings. Tom rises.", {"Tom": "Tom"}),
    ],
)
def test_only_who_is_meant_has_to_act(names: tuple[str, str], told: str, asked: dict[str, str]) -> None:
    cast = tuple(Character(name, f"AAAAA{number}") for number, name in enumerate(names))
    both = f"So {names[0]} and {names[1]} stay here, where the sea is as it was, and the night the same."
    one = story(f"<action>{told}</action> {both}").model_copy(update={"cast": cast})
    cut = WindowSettings(completion_words=(10, 60), plain=0.0)
    (window,) = windows(one, cut)
    found = wishes(window, phrases("en"), Salience(one), Names(one), "en", Random(0))
    acting = {wish.check.arguments[0] for wish in found if wish.check.kind == "action_by"}
    assert acting == set(asked.values())


def test_instructors_by_name() -> None:
    assert INSTRUCTORS == ("derive", "teacher")
    made = instructor("derive", past_words=[30, 90], instructions=3, seed=4)
    assert made == Derive(windows=WindowSettings(past_words=(30, 90), seed=4), instructions=3)
    with pytest.raises(InputError, match="'deriv' is unknown; use one of derive, teacher"):
        instructor("deriv")
    with pytest.raises(InputError, match=r"instructor derive has no setting 'speed'; .* past_words"):
        instructor("derive", speed=3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"instructions": 9}, "0 to 5"),
        ({"weights": {"sings": 1.0}}, "sings"),
        ({"weights": {"speaks": -1.0}}, "from 0 on"),
    ],
)
def test_settings_refuse_nonsense(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Derive.of(**values)


def test_every_derived_kind_is_one() -> None:
    assert set(GROUPS) <= set(KINDS)
    assert set(WEIGHTS) <= set(GROUPS)
