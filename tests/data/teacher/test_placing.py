"""Marks in a text: found where they are meant, refused where they are not there."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.data.documents import Document
from spellbound.data.tagged import require_lossless
from spellbound.data.teacher.passages import passages
from spellbound.data.teacher.placing import _DOUBLE, _QUOTED, Mark, Marks, Placed, place, tagged_events
from spellbound.directives import render

SPEAKERS = {"mara voss": "32AN4R", "mara": "32AN4R", "john": "77JOHN"}


def mark(begins: str, ends: str = "", speaker: str = "Mara", kind: str = "quote", paragraph: int = 1) -> Mark:
    return Mark.model_validate(
        {"paragraph": paragraph, "kind": kind, "speaker": speaker, "begins": begins, "ends": ends}
    )


def put(text: str, *marks: Mark) -> Placed:
    return place(passages(text, 1000)[0], Marks(marks=list(marks)), SPEAKERS)


def markup(text: str, *marks: Mark) -> str:
    placed = put(text, *marks)
    assert placed.faults == []
    return render(tagged_events(text, placed.spans), "tagged")


M, J = '<quote speaker="32AN4R">', '<quote speaker="77JOHN">'
Q = "</quote>"

RIGHT = [
    ("“Hello?” she said.", [mark("“Hello?”")], f"{M}“Hello?”{Q} she said."),
    ("“Hello?” she said.", [mark('"Hello?"', speaker=" MARA  Voss ")], f"{M}“Hello?”{Q} she said."),
    ("“Hello?” she said.", [mark("Hello?")], f"{M}“Hello?”{Q} she said."),
    ("“Hello,” she said.", [mark("Hello")], f"{M}“Hello,”{Q} she said."),
    ("« Oui ! » dit-elle.", [mark("Oui")], f"{M}« Oui ! »{Q} dit-elle."),
    ("« Oui ! » dit-elle.", [mark("« Oui ! »")], f"{M}« Oui ! »{Q} dit-elle."),
    ("— Ya voy —dijo.", [mark("- Ya voy")], f"{M}— Ya voy{Q} —dijo."),
    ("„Ja“, sagte sie.", [mark("„Ja“")], f"{M}„Ja“{Q}, sagte sie."),
    ("“One,” he said, “two.”", [mark("“One,”"), mark("“two.”")], f"{M}“One,”{Q} he said, {M}“two.”{Q}"),
    ("“No.” “No.”", [mark("“No.”"), mark("“No.”", speaker="John")], f"{M}“No.”{Q} {J}“No.”{Q}"),
    (
        "“It is a long way,\nmy friend.”",
        [mark("“It is a", "way, my friend.”")],
        f"{M}“It is a long way,\nmy friend.”{Q}",
    ),
    ("“a b a b.”", [mark("“a b", "a b.”")], f"{M}“a b a b.”{Q}"),
    (
        "A bell rang far off.",
        [mark("A bell", "far off.", "", "sound")],
        "<sound>A bell rang far off.</sound>",
    ),
    (
        "He cried “Stop!” and ran.",
        [mark("He cried", "and ran.", "", "action"), mark("“Stop!”")],
        f"<action>He cried {M}“Stop!”{Q} and ran.</action>",
    ),
    ("He read “Emma” & <b>.", [mark("“Emma”", kind="other", speaker="")], "He read “Emma” & &lt;b&gt;."),
    ("“Hm,” said one.", [mark("“Hm,”", speaker="unknown")], "“Hm,” said one."),
    ("No one spoke.", [], "No one spoke."),
]


@pytest.mark.parametrize(("text", "marks", "told"), RIGHT)
def test_marks_are_placed(text: str, marks: list[Mark], told: str) -> None:
    assert markup(text, *marks) == told


WRONG = [
    ("“Hello?” she said.", [mark("“Hallo?”")], "do not stand there"),
    ("“Hello, you?”", [mark("“Hello", "yes?”")], "do not stand after"),
    ("“Hello?”", [mark("")], "with which words"),
    ("“Hello?”", [mark("“Hello?”", paragraph=2)], "There is no paragraph 2"),
    ("“Hello?”", [mark("“Hello?”", speaker="Nemo")], "'Nemo' is not in the cast"),
    ("“Hello?”", [mark("“Hello?”", speaker="")], "not in the cast"),
    ("“Hello?” “Bye.”", [mark("“Hello?”")], "'“Bye.”' has no mark"),
    ("“One,” he said, “two.”", [mark("“One", "two.”")], "interrupted by narration"),
    ("“One two three.”", [mark("“One", "two"), mark("two", "three.”")], "overlaps"),
    ("He ran and ran.", [mark("He ran", "ran.", "", "action"), mark("and", "", "", "action")], "may nest"),
]


@pytest.mark.parametrize(("text", "marks", "fault"), WRONG)
def test_what_cannot_be_placed_is_a_fault(text: str, marks: list[Mark], fault: str) -> None:
    assert any(fault in told for _, told in put(text, *marks).faults)


TEXTS = st.text(st.sampled_from("ab “”\"'<&.\n"), min_size=1, max_size=60).filter(str.strip)
MARKS = st.builds(
    mark,
    st.text(st.sampled_from('ab “"'), max_size=4),
    st.text(st.sampled_from('ab ”".'), max_size=4),
    st.sampled_from(["Mara", "john", "unknown", "Nemo"]),
    st.sampled_from(["quote", "action", "sound", "other"]),
    st.integers(0, 4),
)


@settings(deadline=None)
@given(TEXTS, st.lists(MARKS, max_size=8))
def test_no_answer_changes_the_text(text: str, marks: list[Mark]) -> None:
    placed = put(text, *marks)
    tagged = render(tagged_events(text, placed.spans), "tagged")
    require_lossless(Document(id="d", text=text), tagged)


@given(st.text('“”„"a1 —.\n'))
def test_words_between_two_marks_are_speech(text: str) -> None:
    at = [place for place, sign in enumerate(text) if sign in _DOUBLE]
    wanted, free = [], 0
    for start, end in pairwise(at):
        if start >= free and any(sign.isalnum() for sign in text[start:end]):
            wanted.append((start, end + 1))
            free = end + 1
    assert [each.span() for each in _QUOTED.finditer(text)] == wanted
