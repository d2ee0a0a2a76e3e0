"""The llguidance grammar: accepted, rejected, and valid beginnings that must not be an end."""

from functools import cache

import pytest
from hypothesis import given, settings
from llguidance import LLMatcher, LLTokenizer

from spellbound.directives import Character, Event, Open, StreamParser, Text, grammar, parse, render
from spellbound.errors import DirectiveError
from tests.directives.cases import ACCEPTED, CAST, REJECTED, UNFINISHED
from tests.directives.strategies import events, markup


@cache
def tokenizer() -> LLTokenizer:
    """One token a byte."""
    return LLTokenizer("byte")


def verdict(text: str, lark: str) -> str:
    """`accepted`, `unfinished` (more must come) or `rejected` (nothing that comes can mend it)."""
    matcher = LLMatcher(tokenizer(), LLMatcher.grammar_from_lark(lark))
    assert not matcher.is_error(), matcher.get_error()
    tokens = list(text.encode())
    if matcher.try_consume_tokens(tokens) < len(tokens):
        return "rejected"
    return "accepted" if matcher.is_accepting() else "unfinished"


def test_the_grammar_has_no_warnings() -> None:
    for lark in (grammar(CAST), grammar([]), grammar(CAST, tags=False)):
        found = LLMatcher.validate_grammar_with_warnings(LLMatcher.grammar_from_lark(lark), tokenizer())
        assert found == (False, [])


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted(text: str) -> None:
    assert verdict(text, grammar(CAST)) == "accepted"


@pytest.mark.parametrize("text", REJECTED)
def test_rejected(text: str) -> None:
    assert verdict(text, grammar(CAST)) == "rejected"


@pytest.mark.parametrize("text", UNFINISHED)
def test_a_valid_beginning_is_no_end(text: str) -> None:
    assert verdict(text, grammar(CAST)) == "unfinished"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "accepted"),
        ("a & b &lt;3\n", "accepted"),
        ("<", "rejected"),
        ("a>b", "rejected"),
        ("<action>", "rejected"),
    ],
)
def test_without_tags(text: str, expected: str) -> None:
    assert verdict(text, grammar(CAST, tags=False)) == expected


def test_with_nobody_to_speak() -> None:
    lark = grammar([])
    assert verdict("<action>x<sound>y</sound></action>", lark) == "accepted"
    assert verdict("<q", lark) == "rejected"


def test_a_character_left_out_of_the_cast_cannot_speak() -> None:
    mara, joss = Character("Mara", "32AN4R"), Character("Joss", "7QK2MD")
    assert verdict('<quote speaker="7QK2MD">x</quote>', grammar([mara, joss])) == "accepted"
    assert verdict('<quote speaker="7', grammar([mara])) == "rejected"


def test_only_speaker_ids_come_into_a_grammar() -> None:
    with pytest.raises(DirectiveError, match="cast"):
        grammar(['32AN4R">'])


def is_well_formed(text: str) -> bool:
    """Read without a repair, and no angle bracket left as text: what docs/directives.md calls well-formed."""
    parser = StreamParser(CAST)
    said = [*parser.feed(text), *parser.close()]
    brackets = sum(text.count(each) for each in "<>")
    tags = 2 * sum(not isinstance(event, Text) for event in said)
    return not parser.repairs and brackets == tags


@settings(deadline=None, max_examples=120)
@given(markup)
def test_accepts_exactly_what_is_well_formed(text: str) -> None:
    text = text.replace("\ud800", "").encode(errors="ignore").decode()
    assert (verdict(text, grammar(CAST)) == "accepted") == is_well_formed(text)


@settings(deadline=None, max_examples=120)
@given(events)
def test_accepts_all_that_the_writer_can_write(said: list[Event]) -> None:
    kept = [Open("quote", CAST[0]) if isinstance(e, Open) and e.kind == "quote" else e for e in said]
    text = render(kept)
    assert verdict(text, grammar(CAST)) == "accepted"
    assert is_well_formed(text)
    assert render(parse(text)) == text
