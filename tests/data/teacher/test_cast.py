"""The cast: entries of many passages become one sheet a person."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.data.documents import Document, Person
from spellbound.data.teacher.cast import (
    Group,
    Groups,
    Member,
    Sheet,
    Sheets,
    cast_of,
    entry_text,
    faults_of_groups,
    faults_of_sheets,
    joined,
    known_members,
    member_of,
    regrouped,
    speakers_of,
)
from spellbound.data.teacher.passages import passages


def sheet(name: str, *aliases: str, **texts: Any) -> Sheet:
    given = {"gender": "unknown", "personality": "", "voice": "", "description": "", **texts}
    return Sheet.model_validate({"name": name, "aliases": list(aliases), **given})


def group(*members: int, name: str, personality: str = "") -> Group:
    return Group(members=list(members), name=name, personality=personality, voice="", description="")


def names(members: list[Member]) -> list[list[str]]:
    return [member.names for member in members]


def test_the_same_name_is_the_same_person() -> None:
    made = joined([member_of(sheet("Mara Voss")), member_of(sheet("John")), member_of(sheet("MARA  voss"))])
    assert names(made) == [["Mara Voss"], ["John"]]
    assert [member.seen for member in made] == [2, 1]


def test_a_name_that_is_one_other_persons_alias_is_that_person() -> None:
    made = joined(map(member_of, [sheet("Mara"), sheet("John"), sheet("Mara Voss", "Mara", "the captain")]))
    assert names(made) == [["John"], ["Mara Voss", "Mara", "the captain"]]


def test_an_alias_of_two_persons_is_nobody_in_particular() -> None:
    sheets = [sheet("Miss Bennet"), sheet("Jane", "Miss Bennet"), sheet("Elizabeth", "Miss Bennet")]
    members = joined(map(member_of, sheets))
    assert len(members) == 3
    cast = cast_of("d", members)
    speakers = speakers_of(members, cast)
    assert speakers["miss bennet"] == cast[0].speaker_id


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4), max_size=8))
def test_joining_loses_no_name_and_leaves_no_double(people: list[list[str]]) -> None:
    members = joined([member_of(sheet(*each)) for each in people])
    firsts = [member.name for member in members]
    assert len(set(firsts)) == len(firsts)
    assert {name for each in people for name in each} == {name for each in members for name in each.names}


def test_sheets_that_invent_are_told_so() -> None:
    passage = passages("“Hello,” said the waiter to Mara Voss. I said nothing.", 100)[0]
    good = [sheet("Mara Voss"), sheet("the waiter"), sheet("Narrator")]
    assert faults_of_sheets(passage, Sheets(characters=good)) == []
    faults = faults_of_sheets(
        passage,
        Sheets(characters=[sheet("Ahab"), sheet(" "), sheet("Mara"), sheet("mara", personality="x" * 201)]),
    )
    assert [fault.split(";")[0] for fault in faults] == [
        "The name 'Ahab' does not stand in the passage",
        "A character has no name",
        "The name 'Mara' stands twice",
        "The name 'mara' stands twice",
        "'mara': its personality has more than 200 characters",
    ]


def test_groups_must_hold_every_entry_once() -> None:
    members = [Member([name]) for name in ("Mara", "Voss", "John")]
    right = Groups(characters=[group(1, 2, name="Mara"), group(3, name="john")])
    assert faults_of_groups(members, right) == []
    wrong = Groups(characters=[group(1, 2, name="Nemo"), group(2, 7, name="Voss")])
    assert [fault.split(";")[0] for fault in faults_of_groups(members, wrong)] == [
        "Entry 2 stands in 2 groups",
        "Entry 3 stands in 0 groups",
        "There is no entry 7.",
        "No entry of its group has the name 'Nemo'",
    ]


def test_groups_become_members_with_the_texts_drawn_for_them() -> None:
    members = [
        member_of(sheet("Mara", gender="female", personality="dry")),
        member_of(sheet("Mara Voss", gender="female", personality="brave", voice="low")),
    ]
    made = regrouped(members, Groups(characters=[group(1, 2, name="Mara Voss", personality="dry, brave")]))
    assert names(made) == [["Mara Voss", "Mara"]]
    assert cast_of("d", made)[0].details == (
        ("Also called", "Mara"),
        ("Gender", "female"),
        ("Personality", "dry, brave"),
        ("Voice", "low"),
    )


def test_sheets_are_the_same_in_every_run_and_others_in_another_document() -> None:
    members = [Member(["Mara"]), Member(["John"])]
    assert cast_of("d", members) == cast_of("d", members)
    assert cast_of("d", members) != cast_of("e", members)


def test_what_the_source_says_comes_first() -> None:
    person = Person(id="p", name="Mara Voss", gender="female", details=(("Personality", "dry"),))
    known = known_members(Document(id="d", text="x", cast=(person, Person(id="q", name=" "))))
    members = joined([*known, member_of(sheet("mara voss", "Mara", personality="wild", voice="low"))])
    assert cast_of("d", members)[0].details == (
        ("Also called", "Mara"),
        ("Gender", "female"),
        ("Personality", "dry"),
        ("Voice", "low"),
    )


def test_an_entry_is_shown_in_one_line() -> None:
    member = Member(["Mara", "Voss"], Counter(), ["dry", "brave", "late"], ["low"])
    assert entry_text(3, member) == "3. Mara (also: Voss): dry; brave; low"
