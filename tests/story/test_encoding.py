"""A growing text has the tokens it has as a whole, and only what was added is encoded."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from spellbound.story import encoding
from spellbound.story.encoding import GrowingEncoder
from spellbound.story.models import find_model
from spellbound.story.prompting import load_tokenizer

WORDS = ["Mara", "said", "the", "harbour,", "it's", "l’été", "Übung", "שלום", "مرحبا"]
WORDS += ["1234", "…", "—", "\n\n", "  "]
CHINESE = [*"夜雾笼罩着港口她说不要回头灯塔看守人，。"]
THAI = ["ท่าเรือ", "หมอก", "เธอพูดว่า", "อย่าหันกลับไป", "ฯ "]
TAGS = ['<quote speaker="32AN4R">', "</quote>", "<action>", "</action>", "<pastStory>", "<|write|>", "&amp;"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return load_tokenizer(find_model("nano"))


def told(seed: int, words: int, between: str = " ", vocabulary: Sequence[str] = WORDS) -> str:
    draw = random.Random(seed)
    return between.join(draw.choice(vocabulary if draw.random() < 0.9 else TAGS) for _ in range(words))


def check(encoder: GrowingEncoder, tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    found = encoder.encode(text)
    whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    assert found.ids.tolist() == whole["input_ids"]
    assert found.ends.tolist() == [end for _, end in whole["offset_mapping"]]


def test_a_turn_encodes_what_it_adds(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder, past = GrowingEncoder(tokenizer.backend_tokenizer), told(1, 20_000)
    check(encoder, tokenizer, f"{past}</pastStory>\nNow write.")
    before = encoder.encoded_characters
    past += " " + told(2, 200)
    check(encoder, tokenizer, f"{past}</pastStory>\nNow write more.")
    assert encoder.encoded_characters - before < 4_000
    before = encoder.encoded_characters
    check(encoder, tokenizer, f"{past}</pastStory>\nNow write more.")
    check(encoder, tokenizer, f"{past}</pastStory>\nWrite something else.")
    assert encoder.encoded_characters - before < 2_000


@pytest.mark.parametrize("vocabulary", [CHINESE, THAI])
def test_a_turn_without_spaces_encodes_what_it_adds_too(
    tokenizer: PreTrainedTokenizerFast, vocabulary: list[str]
) -> None:
    encoder, past = GrowingEncoder(tokenizer.backend_tokenizer), told(1, 8_000, "", vocabulary)
    check(encoder, tokenizer, f"{past}</pastStory>\nNow write.")
    before = encoder.encoded_characters
    for turn in range(4):
        past += told(2 + turn, 20, "", vocabulary)
        check(encoder, tokenizer, f"{past}</pastStory>\nNow write more.")
    assert encoder.encoded_characters - before < 4 * 2_000


def test_many_stories_in_turn_are_all_remembered(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = GrowingEncoder(tokenizer.backend_tokenizer)
    stories = [told(number, 2_000) for number in range(64)]
    for story in stories:
        encoder.encode(story)
    before = encoder.encoded_characters
    for number, story in enumerate(stories):
        check(encoder, tokenizer, story + " " + told(100 + number, 5))
    assert encoder.encoded_characters - before < 64 * 2_000


def test_no_more_is_remembered_than_there_is_room_for(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_KEPT_CHARACTERS", 20_000)
    encoder = GrowingEncoder(tokenizer.backend_tokenizer)
    stories = [told(number, 1_500) for number in range(5)]
    for story in [*stories, stories[-1]]:
        encoder.encode(story)
    before = encoder.encoded_characters
    encoder.encode(stories[-1])
    assert encoder.encoded_characters == before
    encoder.encode(stories[0])
    assert encoder.encoded_characters == before + len(stories[0])


@given(st.integers(0, 10**6), st.lists(st.tuples(st.floats(0, 1), st.text(max_size=40)), max_size=6))
@settings(max_examples=25, deadline=None)
def test_texts_changed_anywhere_have_the_tokens_of_the_whole(
    tokenizer: PreTrainedTokenizerFast, seed: int, changes: list[tuple[float, str]]
) -> None:
    encoder, text = GrowingEncoder(tokenizer.backend_tokenizer), told(seed, 1500)
    check(encoder, tokenizer, text)
    for where, added in changes:
        place = int(where * len(text))
        text = text[:place] + added + told(seed + place, 5) + text[place + 3 :]
        check(encoder, tokenizer, text)


@pytest.mark.parametrize("unit", ["a", " ", "\n", "ab ", "é", "<", "1", "雾", "雾。"])
def test_monotonous_texts(tokenizer: PreTrainedTokenizerFast, unit: str) -> None:
    encoder = GrowingEncoder(tokenizer.backend_tokenizer)
    for length in (5000, 5001, 6000, 4100):
        check(encoder, tokenizer, unit * length)
        check(encoder, tokenizer, unit * length + " end.")
