"""A stop string ends a text at the same place however the text is cut, and no part of it is shown."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spellbound.errors import InputError
from spellbound.story.stops import StopStrings

LETTERS = st.text("ab", max_size=30)
STOPS = st.lists(st.text("ab", min_size=1, max_size=5), max_size=3)


def shown(stops: list[str], pieces: list[str]) -> tuple[str, str | None]:
    reader = StopStrings(stops)
    text = "".join(reader.feed(piece) for piece in pieces)
    return text + reader.finish(), reader.found


@given(LETTERS, STOPS, st.lists(st.integers(0, 30), max_size=8))
def test_cuts_change_nothing(text: str, stops: list[str], cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(places)]
    assert shown(stops, pieces) == shown(stops, list(text))


@given(LETTERS, STOPS)
def test_it_ends_where_the_first_one_is_whole(text: str, stops: list[str]) -> None:
    ends = {len(text[: text.find(stop)]) + len(stop): stop for stop in stops if stop in text}
    found, stop = shown(stops, list(text))
    if not ends:
        assert (found, stop) == (text, None)
        return
    assert stop is not None
    assert text.startswith(found + stop)
    assert len(found) + len(stop) == min(ends)


@given(LETTERS, STOPS)
def test_no_more_is_held_back_than_may_become_one(text: str, stops: list[str]) -> None:
    reader = StopStrings(stops)
    for letter in text:
        reader.feed(letter)
        held = reader._held
        assert not held or any(stop.startswith(held) for stop in stops)


def test_an_empty_one_is_refused() -> None:
    with pytest.raises(InputError, match="a stop string is empty"):
        StopStrings(["a", ""])
    with pytest.raises(InputError, match="stop is 'abc', one string"):
        StopStrings("abc")
