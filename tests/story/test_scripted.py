"""The generator that recites, and the protocol it shows."""

import pytest

from spellbound.directives import StoryPrompt
from spellbound.errors import InputError
from spellbound.story import Ending, Generator, ScriptedGenerator, WriteOptions, collect

PROMPT = StoryPrompt(instructions=("Begin.",))
TEXT = 'One. <quote speaker="AAAAAA">Two three.</quote>\n\nFour five.'


def test_recites_in_turn() -> None:
    generator: Generator = ScriptedGenerator(["a b", "c"], piece=1)
    assert [collect(generator.write(PROMPT, WriteOptions()))[0] for _ in range(3)] == ["a b", "c", "a b"]


def test_ends_with_one_ending() -> None:
    pieces = list(ScriptedGenerator([TEXT]).write(PROMPT, WriteOptions()))
    assert [isinstance(piece, Ending) for piece in pieces].index(True) == len(pieces) - 1
    text, ending = collect(pieces)
    assert text == TEXT
    assert (ending.reason, ending.words, ending.closed, ending.repairs) == ("stop", 5, (), ())


@pytest.mark.parametrize(
    ("options", "text", "reason", "closed"),
    [
        (WriteOptions(words=2), TEXT.partition("\n")[0], "words", ()),
        (WriteOptions(max_tokens=9), 'One. <quote speaker="AAAAAA">Two thr</quote>', "length", ("quote",)),
    ],
)
def test_limits(options: WriteOptions, text: str, reason: str, closed: tuple[str, ...]) -> None:
    found, ending = collect(ScriptedGenerator([TEXT]).write(PROMPT, options))
    assert (found, ending.reason, ending.closed) == (text, reason, closed)


def test_cancelled_is_closed() -> None:
    answers = iter([False] * 8 + [True] * 9)
    text, ending = collect(ScriptedGenerator([TEXT]).write(PROMPT, WriteOptions(), lambda: next(answers)))
    assert ending.reason == "cancelled"
    assert text == 'One. <quote speaker="AAAAAA">Two</quote>'


@pytest.mark.parametrize("name", ["words", "max_tokens"])
@pytest.mark.parametrize("value", [0, -3, 1_000_001])
def test_numbers_that_mean_nothing(name: str, value: int) -> None:
    with pytest.raises(InputError, match=rf"{name} is {value}"):
        WriteOptions(**{name: value})  # type: ignore[arg-type]


def test_a_generator_without_an_ending_is_named() -> None:
    with pytest.raises(InputError, match="without an Ending"):
        collect(["text"])


def test_a_stop_string_ends_it() -> None:
    text, ending = collect(
        ScriptedGenerator(["One two three four."]).write(PROMPT, WriteOptions(stop=("three",)))
    )
    assert (text, ending.reason) == ("One two", "stop")
