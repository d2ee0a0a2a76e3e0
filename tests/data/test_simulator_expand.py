"""The expander: choices, links, references, and what tidy mends."""

from random import Random

import pytest

from spellbound.data.simulator import bank
from spellbound.data.simulator.expand import compile_template, expand, tidy
from spellbound.errors import InputError


def _all(template: str) -> set[str]:
    return {expand(template, Random(seed), {"a": "Mara", "=1": "0.9"}.__getitem__) for seed in range(200)}


@pytest.mark.parametrize(
    ("template", "results"),
    [
        ("plain", {"plain"}),
        ("[a|b]", {"a", "b"}),
        ("x[a|]y", {"xay", "xy"}),
        ("[a[1|2]|b]", {"a1", "a2", "b"}),
        ("{a} ran", {"Mara ran"}),
        ("[1:who|where] [1:he|here]", {"where here"}),
    ],
)
def test_expansion(template: str, results: set[str]) -> None:
    assert _all(template) == results


@pytest.mark.parametrize("template", ["[a|b", "a]b", "a|b", "[[a]"])
def test_unmatched_brackets_are_refused(template: str) -> None:
    with pytest.raises(InputError, match="bracket"):
        compile_template(template)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("it was a old boat. the sea  slept .", "It was an old boat. The sea slept."),
        ("a useful thing, a hour, A owl, a one", "A useful thing, an hour, An owl, a one"),
        (
            "<sound>clang! went the bell.</sound> then silence.",
            "<sound>Clang! went the bell.</sound> Then silence.",
        ),
        ('<quote speaker="AAAAA1">who?</quote> asked he.', '<quote speaker="AAAAA1">Who?</quote> asked he.'),
        ("so. <action>she ran.</action>", "So. <action>She ran.</action>"),
        ("well... perhaps", "Well... perhaps"),
    ],
)
def test_tidy(given: str, expected: str) -> None:
    assert tidy(given) == expected


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for part in value.values() for text in _strings(part)]
    return [text for part in value for text in _strings(part)] if isinstance(value, list) else []


@pytest.mark.parametrize(
    "name", ["acts", "events", "instructions", "moods", "phrases", "quests", "voices", "people"]
)
def test_every_template_of_the_banks_compiles(name: str) -> None:
    for text in _strings(bank.load(name)):
        compile_template(text)


def test_every_voice_has_every_bank() -> None:
    voices = bank.load("voices")
    keys = {frozenset(voice) for voice in voices.values()}
    assert len(voices) == 12
    assert len(keys) == 1


def test_there_are_several_hundred_names_without_doubles() -> None:
    names = bank.load("names")
    firsts = [name for key in ("she", "he", "they") for name in names[key].split()]
    assert len(set(firsts)) > 350
