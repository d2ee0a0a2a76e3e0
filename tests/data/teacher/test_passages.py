"""Passages: everything is in one of them, none is too long, all numbers are right."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.data.teacher.passages import passages

TEXTS = st.text(st.sampled_from("ab .!”\n\t\u00a0"), max_size=400)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 30))
def test_nothing_is_lost_and_nothing_is_twice(text: str, words: int) -> None:
    places = [place for passage in passages(text, words) for place in passage.paragraphs]
    assert "".join("".join(text[a:b].split()) for a, b in places) == "".join(text.split())
    assert all(one[1] <= two[0] for one, two in pairwise(places))
    assert all(text[a:b] == text[a:b].strip() != "" for a, b in places)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 30))
def test_no_passage_is_too_long(text: str, words: int) -> None:
    for passage in passages(text, words):
        assert sum(len(text[a:b].split()) for a, b in passage.paragraphs) <= words


def test_paragraphs_stay_whole_where_they_fit() -> None:
    text = "One two.\n\nThree\nfour.\n \nFive six seven.\n\n* * *"
    made = passages(text, 4)
    assert [passage.plain for passage in made] == ["One two.\n\nThree\nfour.", "Five six seven.", "* * *"]
    assert made[0].numbered == "[1] One two.\n\n[2] Three\nfour."


def test_a_long_paragraph_is_cut_after_a_sentence() -> None:
    text = "“Go!” he said. She went. They came back at night, all of them."
    assert [passage.plain for passage in passages(text, 6)] == [
        "“Go!” he said. She went.",
        "They came back at night, all",
        "of them.",
    ]


def test_a_word_without_end_is_cut_too() -> None:
    made = passages("x" * 100, 2)
    assert "".join(passage.plain for passage in made) == "x" * 100
    assert max(len(passage.plain) for passage in made) <= 24


def test_an_empty_text_has_no_passages() -> None:
    assert passages(" \n\n ", 10) == []
