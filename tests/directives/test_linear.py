"""Ten megabytes of the worst there is: the work counted, not timed.

Work is what the compiled patterns are asked to look at. That a pattern looks at a character a few times only
follows from its shape (possessive, no `<` inside a tag); a quadratic one would exceed the tests' time limit.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from spellbound.directives import (
    FORMATS,
    Character,
    Close,
    Event,
    FormatName,
    Open,
    Renderer,
    StoryPrompt,
    StreamParser,
    Text,
    check_story,
    render,
    stream,
    tags,
)
from spellbound.errors import DirectiveError

SIZE = 10_000_000
CHUNK = 4096


class Counting:
    """A pattern that counts the characters it is given."""

    def __init__(self, pattern: re.Pattern[str], work: list[int]) -> None:
        self.pattern, self.work = pattern, work

    def finditer(self, text: str) -> Iterator[re.Match[str]]:
        self.work[0] += len(text)
        return self.pattern.finditer(text)

    def match(self, text: str, start: int) -> Any:
        self.work[0] += len(text) - start
        return self.pattern.match(text, start)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    count = [0]
    for module, name in ((stream, "_CONSTRUCT"), (stream, "REFERENCE_PREFIX"), (tags, "_TAG_PREFIX")):
        monkeypatch.setattr(module, name, Counting(getattr(module, name), count))
    return count


def feed(text: str, size: int) -> tuple[int, int, StreamParser]:
    """Number of events, the longest text held back, and the parser."""
    parser = StreamParser(["32AN4R"])
    events = held = given = 0
    for start in range(0, len(text), size):
        got = parser.feed(text[start : start + size])
        events += len(got)
        given += min(size, len(text) - start)
        held = max(held, len(parser._held))
    return events + len(parser.close()), held, parser


@pytest.mark.parametrize(
    "unit",
    [
        "<",
        '<quote speaker="',
        "<quote" + " a" * 120,
        "<action" + " " * 1000,
        "&",
        "&#123456",
        "</quote>" + "x" * 500,
        '<quote speaker="32AN4R"><action><sound>' + "y" * 400,
    ],
    ids=["<", "unfinished value", "attributes", "spaces", "&", "reference", "closing", "nesting"],
)
def test_ten_megabytes(unit: str, work: list[int]) -> None:
    text = unit * (SIZE // len(unit))
    _, held, parser = feed(text, CHUNK)
    assert held < 256
    assert work[0] < 1.3 * SIZE
    assert len(parser.repairs) <= 5 * text.count(">")


@pytest.mark.parametrize("unit", ["<", '<quote speaker="', "<action" + " " * 300, "&#12", "<quote a=b "])
def test_one_character_at_a_time(unit: str, work: list[int]) -> None:
    text = unit * (50_000 // len(unit))
    feed(text, 1)
    assert work[0] < 2 * 256 * len(text)


def test_deep_nesting_stays_shallow() -> None:
    text = '<quote speaker="32AN4R"><action>' * 30_000
    events, _, parser = feed(text, CHUNK)
    assert events == 4 * 30_000
    assert len(parser.repairs) == 2 * 30_000


def test_an_instruction_of_many_lines() -> None:
    text = "<writingInstructions>\n" + 100_000 * "go on\n" + "</writingInstructions>"
    (wish,) = StoryPrompt.parse(text).instructions
    assert wish.count("\n") == 99_999


def test_a_name_without_an_end() -> None:
    text = StoryPrompt((Character("x" * 3_000_000, "32AN4R"),)).render()
    assert text.startswith(f"<X{'x' * 63}Description>\n")


def test_speech_of_nothing_but_marks() -> None:
    said: list[Event] = [Open("quote", "32AN4R"), Text("a" + '"' * 1_000_000 + "a"), Close("quote")]
    assert len(render(said, "plain")) == 1_000_004


@pytest.mark.parametrize("to", FORMATS)
def test_white_space_without_an_end_is_not_read_again(to: FormatName) -> None:
    renderer = Renderer(to)
    pieces = [renderer.write([Text("a")]), *(renderer.write([Text(" \n" * 50)]) for _ in range(20_000))]
    assert sum(map(len, pieces)) < 3_000_000
    renderer.close()


def test_a_prompt_of_unclosed_blocks() -> None:
    text = "<aDescription>\n" * 10_000
    assert len(check_story(text)) == 3 * 10_000
    with pytest.raises(DirectiveError, match="line 1, column 1"):
        StoryPrompt.parse(text)
