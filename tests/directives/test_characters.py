"""Characters, the names of their sheets and their speaker IDs."""

import random
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.directives import Character, is_speaker_id, new_speaker_id
from spellbound.directives.characters import sheet_names, speaker_ids
from spellbound.errors import DirectiveError


def names_of(*names: str) -> list[str]:
    return sheet_names(Character(name, "32AN4R") for name in names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Mara Voss", "MaraVoss"),
        ("past Story", "PastStory"),
        ("7 of 9", "Character7Of9"),
        ("", "Character"),
        ("  \n", "Character"),
        ("🧙‍♀️", "Character"),
        ("<quote>", "Quote"),
        ("ليلى", "ليلى"),
        ("שָׂרָה כהן", "שָׂרָהכהן"),
        ("Łukasz Żal", "ŁukaszŻal"),
        ("०१", "Character०१"),
        ("½²", "Character"),
        ("\u0301a", "A"),
        ("ªb", "B"),
        ("×÷", "Character"),
        ("\ud800", "Character"),
        ("a_b-c.d", "ABCD"),
    ],
)
def test_sheet_name(name: str, expected: str) -> None:
    assert names_of(name) == [expected + "Description"]


def test_collisions_are_numbered() -> None:
    assert names_of("Mara Voss", "mara voss", "Mara Voss 2", "MaraVoss") == [
        "MaraVossDescription",
        "MaraVoss2Description",
        "MaraVoss22Description",
        "MaraVoss3Description",
    ]


@settings(deadline=None, max_examples=120)
@given(st.lists(st.one_of(st.text(max_size=8), st.sampled_from(["A", "a", "A2", "", "x" * 99])), max_size=6))
def test_sheet_names_are_valid_in_xml_and_unique(names: list[str]) -> None:
    tags = names_of(*names)
    assert len(set(tags)) == len(names)
    for tag in tags:
        assert re.fullmatch(r"[^<>/&\"'= \t\r\n]{1,256}", tag)
        assert tag.endswith("Description")
        if all(ord(char) < 0x10000 for char in tag):  # expat knows the names of XML 1.0's fourth edition only
            assert _is_name(tag)


def _is_name(tag: str) -> bool:
    """NameStartChar and NameChar of XML 1.0, fifth edition, in the basic plane."""
    start = (
        "A-Z_a-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c-\u200d\u2070-\u218f"
        "\u2c00-\u2fef\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd"
    )
    return re.fullmatch(f"[{start}][{start}.0-9\u00b7\u0300-\u036f\u203f-\u2040-]*", tag) is not None


def test_a_sheet_is_xml() -> None:
    tag = names_of("Zoë O’Hara")[0]
    assert ElementTree.fromstring(f"<{tag}/>").tag == "ZoëOHaraDescription"  # noqa: S314


@pytest.mark.parametrize(
    "speaker_id", ["", "32an4r", "32AN4", "32AN4R7", "32AN4R\n", "32ÄN4R", "３２AN4R", "32-N4R", " 32AN4"]
)
def test_invalid_speaker_id(speaker_id: str) -> None:
    assert not is_speaker_id(speaker_id)
    with pytest.raises(DirectiveError, match=r"'Mara'.*A-Z and 0-9"):
        Character("Mara", speaker_id)
    with pytest.raises(DirectiveError, match="cast"):
        speaker_ids([speaker_id])


@pytest.mark.parametrize(
    "details", [["ab"], [("a",)], [("a", "b", "c")], [("a", 1)], [(None, "b")], {"a": "b"}]
)
def test_details_are_pairs_of_strings(details: object) -> None:
    with pytest.raises(DirectiveError, match="not a pair of strings"):
        Character("Mara", "32AN4R", details)  # type: ignore[arg-type]


def test_name_and_id_are_strings() -> None:
    with pytest.raises(DirectiveError, match="must be strings"):
        Character(None, "32AN4R")  # type: ignore[arg-type]
    with pytest.raises(DirectiveError, match="must be strings"):
        Character("Mara", 324441)  # type: ignore[arg-type]


def test_new_speaker_ids() -> None:
    taken: set[str] = set()
    for _ in range(200):
        taken.add(new_speaker_id(taken))
    assert len(taken) == 200
    assert all(is_speaker_id(each) for each in taken)


def test_a_seeded_generator_repeats_and_skips_what_is_taken() -> None:
    first = new_speaker_id((), random.Random(1))
    assert new_speaker_id((), random.Random(1)) == first
    assert new_speaker_id({first}, random.Random(1)) != first


def test_a_cast_may_mix_characters_and_ids() -> None:
    assert speaker_ids([Character("A", "32AN4R"), "7QK2MD", "32AN4R"]) == ("32AN4R", "7QK2MD")
