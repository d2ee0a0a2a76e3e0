"""The invariants of the stream parser, on any text and for every way of cutting it."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.directives import Close, Event, Open, Repair, StreamParser, Text, parse
from spellbound.directives.events import merge_text
from spellbound.directives.tags import may_become_tag
from tests.directives import reference
from tests.directives.strategies import markup

CAST = ["32AN4R", "7QK2MD"]
STORY = (
    'She <b>ran</b> & hid.\r\n<quote speaker="32AN4R">“Who\'s <action >lifts\n lamp</action> there?”</quote> '
    "a < b &amp;lt; <3 &#x1F514;&#8212;<SOUND/>\n"
    "<quote speaker='ZZZZZZ' mood=glad>שָׁלוֹם <quote speaker=7QK2MD>e\u0301"
    '</sound></quote></quote> <quote speaker="32AN4R'
)


def read(chunks: list[str]) -> tuple[list[Event], list[Repair]]:
    parser = StreamParser(CAST)
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    events += parser.close()
    return list(merge_text(events)), parser.repairs


def as_tuple(event: Event) -> tuple[str, ...]:
    match event:
        case Open(kind, speaker):
            return ("open", kind, speaker or "")
        case Close(kind):
            return ("close", kind)
        case Text(text):
            return ("text", text)


@settings(deadline=None, max_examples=300)
@given(markup)
def test_agrees_with_the_slow_reader(text: str) -> None:
    assert [as_tuple(event) for event in parse(text)] == reference.read(text)


@settings(deadline=None, max_examples=200)
@given(markup, st.data())
def test_any_cuts_give_the_same(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    chunks = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
    assert "".join(chunks) == text
    assert read(chunks) == read([text])


def test_every_single_cut_of_a_story() -> None:
    whole = read([STORY])
    for cut in range(len(STORY) + 1):
        assert read([STORY[:cut], STORY[cut:]]) == whole


def test_every_pair_of_cuts_of_the_hardest_stretch() -> None:
    text = "a<quote  speaker='A'>&lt;</ quote>&#x41;<sound/>"
    whole = read([text])
    for first in range(len(text)):
        for second in range(first, len(text)):
            assert read([text[:first], text[first:second], text[second:]]) == whole


def test_character_by_character() -> None:
    assert read(list(STORY)) == read([STORY])


@settings(deadline=None, max_examples=150)
@given(markup)
def test_well_nested_and_never_empty(text: str) -> None:
    stack: list[str] = []
    for event in parse(text):
        match event:
            case Open(kind):
                assert kind not in stack
                stack.append(kind)
            case Close(kind):
                assert stack.pop() == kind
            case Text(piece):
                assert piece
    assert stack == []


@settings(deadline=None, max_examples=150)
@given(markup)
def test_places_of_repairs_hold_their_tags(text: str) -> None:
    parser = StreamParser(CAST)
    parser.feed(text)
    parser.close()
    for repair in parser.repairs:
        assert text[repair.offset :].startswith(repair.tag)
        lines = text[: repair.offset].split("\n")
        assert (repair.line, repair.column) == (len(lines), len(lines[-1]) + 1)
        assert "\n" not in repair.message


def held_by(text: str) -> str:
    """What the parser holds back after a text: the text of its events is that much shorter."""
    parser = StreamParser()
    before = "".join(event.text for event in parser.feed(text) if isinstance(event, Text))
    after = "".join(event.text for event in parser.close() if isinstance(event, Text))
    assert len(before) + len(after) <= len(text)
    return after


HELD = """
a~|<            a~|<~            a~<~b|         <3|            <<|<            |<q          |<quot
<quotes|        <b|              |</            |</q           </b|            |</~         |<quote
|<quote~        |<quote~s        |<quote~a=     |<quote~a="A   |<quote~a="A"   <quote~a="A"b|
|<quote~a=A/    <quote~1|        <quote~=|      <quote~a="x"=| <quote~a=b=|    |<sound/     <sound//|
|<sound/~       <sound/~x|       <sound~/~x|    |<SOUN         <\u017foun|     |<action~a=~ |<action~a~
|&              R&D|             R&~|           |&l            |&lt            &ltx|        |&am
|&ap            |&apos           |&#            |&#12          |&#1234567      &#12345678|  |&#x
|&#x10FFFF      &#x10FFFF0|      &|&            |<quote~a=&lt  |<sound~a       <sound>|     x</sound>|
"""
"""Texts cut at `|`, where what is held back begins; `~` stands for a space."""


@pytest.mark.parametrize("marked", HELD.split())
def test_holds_back_only_what_is_ambiguous(marked: str) -> None:
    free, held = marked.replace("~", " ").split("|")
    assert held_by(free + held) == held


@pytest.mark.parametrize(
    ("held", "free"),
    [
        ('<quote a="' + "x" * 200, "x"),
        ("<quote a=" + "x" * 200, "x"),
        ("<action" + " " * 248, " "),
        ("<" + " " * 249, " "),
        ("<" + " " * 249 + "qu", " "),
        ("<sound a=" + "x" * 200 + " b=" + " " * 42, " "),
        ("<sound a='" + "x" * 200 + "' b='" + "y" * 39, "y"),
        ("<action a=" + "x" * 200 + " b=" + "y" * 42, "y"),
    ],
)
def test_a_tag_has_its_limits(held: str, free: str) -> None:
    assert held_by(held) == held
    assert held_by(held + free) == ""


COMPLETIONS = [
    f"{kind[start:]}{rest}>"
    for kind in ("quote", "action", "sound")
    for start in range(len(kind) + 1)
    for rest in ("", '"', "'", "x", "=x")
]


@settings(deadline=None, max_examples=300)
@given(markup)
def test_what_is_held_may_still_become_a_tag_and_is_the_longest_such(text: str) -> None:
    text = text.replace("&", "+")  # a reference in what is held would be decoded
    held = held_by(text)
    assert len(held) < 256
    if held:
        assert any(reference.read_tag(held + ending, 0) for ending in COMPLETIONS)
    for start in range(len(text) - len(held)):
        rest = text[start:]
        if rest.startswith("<") and "<" not in rest[1:] and len(rest) < 200:
            tags = [reference.read_tag(rest + ending, 0) for ending in COMPLETIONS]
            assert not any(tag and tag[0] > len(rest) for tag in tags)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(
        ["<quote speaker=\"A\" b = 'c' d=e f >", "< / Action / >", "<sound/>", "<quote a=b speaker=x/>"]
    )
)
def test_every_beginning_of_a_tag_is_one_that_may_become_a_tag(tag: str) -> None:
    assert reference.read_tag(tag, 0)
    for end in range(1, len(tag)):
        assert may_become_tag(tag[:end], 0)


def test_a_parser_gives_a_quote_at_once() -> None:
    parser = StreamParser()
    assert parser.feed('Well, <quote speaker="32AN4R">come') == [
        Text("Well, "),
        Open("quote", "32AN4R"),
        Text("come"),
    ]
    assert parser.feed(" in</quote") == [Text(" in")]
    assert parser.feed(">") == [Close("quote")]
    assert parser.close() == []
    assert parser.repairs == []
