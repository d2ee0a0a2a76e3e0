"""Near-duplicates and shared runs against what counting says."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import IO, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spellbound.data.check import near
from spellbound.data.check.leaks import shared_run
from spellbound.data.check.near import Near, NearDuplicates
from spellbound.data.words import run_hashes, word_hashes, words_of

few_words = st.lists(st.sampled_from(["a", "b", "ab", "é", "x" * 300]), max_size=40)


def likeness(one: list[str], two: list[str]) -> float:
    """The share of runs of five words that two texts have in common, counted."""
    first, second = ({tuple(text[at : at + 5]) for at in range(len(text) - 4)} for text in (one, two))
    return len(first & second) / len(first | second)


def changed(text: list[str], share: float, rng: Random) -> list[str]:
    return [f"new{rng.random()}" if rng.random() < share else word for word in text]


def texts(rng: Random) -> Iterator[list[str]]:
    """Stories of their own, each with some nearer or farther relations."""
    for _ in range(60):
        story = [f"w{rng.randrange(10**6)}" for _ in range(rng.randrange(40, 400))]
        yield story
        for share in (0.0, 0.01, 0.02, 0.05, 0.2):
            yield changed(story, share, rng)


def found(folder: Path, all_texts: list[list[str]], similarity: float = 0.8) -> list[Near]:
    duplicates = NearDuplicates(folder, similarity)
    for number, text in enumerate(all_texts):
        if (signature := near.signature(word_hashes(text))) is not None:
            duplicates.add(number % 3, number, signature)
    return list(duplicates.found())


@pytest.mark.parametrize("at_once", [2**22, 50])
def test_it_finds_what_counting_finds(at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "_AT_ONCE", at_once)
    monkeypatch.setattr(near, "_BLOCK", 32)
    every = list(texts(Random(3)))
    said = {each.place[1]: each for each in found(tmp_path, every)}
    assert list(said) == sorted(said)
    for number, text in enumerate(every):
        kin = every[number - number % 6 : number]
        nearest = max((likeness(text, other) for other in kin), default=0.0)
        if number in said:
            first = said[number].first
            assert first[1] < number
            assert first[0] == first[1] % 3
            counted = likeness(text, every[first[1]])
            assert counted > 0.65
            assert abs(counted - said[number].similarity) < 0.16
        else:
            assert nearest < 0.95


def test_copies_all_point_to_the_first(tmp_path: Path) -> None:
    story, other = (next(texts(Random(seed))) for seed in (1, 2))
    assert found(tmp_path, [other, story, story, other, story]) == [
        ((2, 2), (1, 1), 1.0),
        ((0, 3), (0, 0), 1.0),
        ((1, 4), (1, 1), 1.0),
    ]


def test_short_texts_are_not_compared(tmp_path: Path) -> None:
    assert found(tmp_path, [["yes", "she", "said"] * 3] * 5) == []
    assert found(tmp_path, []) == []


def test_marks_and_capitals_do_not_count() -> None:
    assert words_of("“Who’s there?” – ÉMILE, l'été…") == ["who", "s", "there", "émile", "l", "été"]
    assert words_of("\ud800 …") == []


@given(few_words, st.integers(1, 45))
def test_equal_runs_have_equal_numbers_and_no_others(words: list[str], length: int) -> None:
    runs = run_hashes(word_hashes(words), length)
    told = [tuple(words[at : at + length]) for at in range(len(words) - length + 1)]
    assert len(runs) == len(told)
    pairs = set(zip(told, runs.tolist(), strict=True))
    assert len(pairs) == len(set(told)) == len(set(runs.tolist()))


def test_numbers_are_the_same_everywhere() -> None:
    assert word_hashes(["bell", "lamp"]).tolist() == [9429058724495380009, 5819941233009992312]


@given(few_words, few_words, st.integers(1, 8))
def test_a_shared_run_is_found_if_there_is_one(past: list[str], told: list[str], least: int) -> None:
    known = {tuple(told[at : at + least]) for at in range(len(told) - least + 1)}
    runs = [tuple(past[at : at + least]) in known for at in range(len(past) - least + 1)]
    shared = shared_run(past, word_hashes(past), word_hashes(told), least)
    assert (shared is not None) == any(runs)
    if shared is not None:
        longest = max(len(part) for part in "".join("x" if run else " " for run in runs).split())
        assert shared[0] == min(longest + least - 1, len(told))


def test_signatures_estimate_likeness() -> None:
    rng = Random(5)
    wrong = []
    for _ in range(60):
        story = [f"w{rng.randrange(10**6)}" for _ in range(300)]
        other = changed(story, rng.choice((0.01, 0.03, 0.06)), rng)
        one, two = (near.signature(word_hashes(text)) for text in (story, other))
        assert one is not None
        assert two is not None
        wrong.append(float(np.mean(one == two)) - likeness(story, other))
    assert abs(np.mean(wrong)) < 0.02
    assert np.std(wrong) < 0.06


def template(number: int) -> list[str]:
    """Most of it is in all of them, but too little for near-duplicates."""
    return [*(f"same{at}" for at in range(150)), *(f"own{number}x{at}" for at in range(60))]


def test_a_crowd_is_read_once_a_band_and_copies_in_it_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "_BLOCK", 64)
    monkeypatch.setattr(near, "MOST_COMPARED", 5)
    read = 0

    def counting(signatures: IO[bytes], texts: NDArray[np.integer[Any]]) -> NDArray[np.uint16]:
        nonlocal read
        read += len(texts)
        return one_by_one(signatures, texts)

    one_by_one = near._read
    monkeypatch.setattr(near, "_read", counting)
    crowd = [template(number) for number in range(400)]
    every = [*crowd, *crowd[::7]]
    said = found(tmp_path, every)
    copies = {each.place[1]: each.first[1] for each in said if each.place[1] >= len(crowd)}
    assert copies == {len(crowd) + place: 7 * place for place in range(len(crowd[::7]))}
    assert read <= near.BANDS * len(every) + 2 * len(said)


def test_of_two_that_a_text_repeats_the_earlier_is_named(tmp_path: Path) -> None:
    one = np.zeros(near.BANDS * near.BAND, np.uint32)
    both = np.concatenate((one[:96], np.ones(24, np.uint32)))
    two = np.concatenate((np.full(24, 2, np.uint32), both[24:]))
    duplicates = NearDuplicates(tmp_path, 0.8)
    for row, signature in enumerate((one, two, both)):
        duplicates.add(0, row, signature)
    assert list(duplicates.found()) == [((0, 2), (0, 0), 0.8)]
