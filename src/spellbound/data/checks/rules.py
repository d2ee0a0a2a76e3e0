"""The rules behind the kinds of checks: each decides one thing about a completion."""

from collections.abc import Callable
from typing import TypeAlias

from spellbound.data.checks import narration
from spellbound.data.checks.segments import Segment
from spellbound.data.checks.words import has, has_word, names

Arguments: TypeAlias = tuple[str, ...]
Rule: TypeAlias = Callable[[list[Segment], str, Arguments], bool]

_CLOSING_MARKS = tuple('”“»«’‘›"')


def paragraph_count(whole: str) -> int:
    """Paragraphs of a text: what blank lines separate."""
    return sum(bool(paragraph.strip()) for paragraph in whole.split("\n\n"))


def _speakers(parts: list[Segment]) -> list[str]:
    return [part.speaker for part in parts if part.kind == "quote" and part.speaker]


def _kinds(parts: list[Segment]) -> set[str]:
    return {part.kind for part in parts}


def _words(whole: str) -> int:
    return len(whole.split())


def _happens(parts: list[Segment], whole: str, groups: Arguments) -> bool:
    """Every group of words is met within some five paragraphs in a row."""
    paragraphs = whole.split("\n\n")
    windows = range(max(1, len(paragraphs) - 4))
    return any(all(has(group, "\n".join(paragraphs[at : at + 5])) for group in groups) for at in windows)


def _mood(parts: list[Segment], whole: str, arguments: Arguments) -> bool:
    """A word of the mood stands in a paragraph that names the character, or in the next."""
    name, words = arguments
    paragraphs = whole.split("\n\n")
    pairs = [f"{one}\n{two}" for one, two in zip(paragraphs, [*paragraphs[1:], ""], strict=True)]
    named = [pair for one, pair in zip(paragraphs, pairs, strict=True) if names(name, one)]
    return any(has(words, pair) for pair in named)


def _ends_with(parts: list[Segment], whole: str, arguments: Arguments) -> bool:
    """The last stretch is of the given kind and, if words are given too, has one of them."""
    return (
        bool(parts)
        and parts[-1].kind == arguments[0]
        and all(has(words, parts[-1].text) for words in arguments[1:])
    )


def _ends_with_words(parts: list[Segment], whole: str, arguments: Arguments) -> bool:
    """The last paragraph has one of the words."""
    return has(arguments[0], whole.rstrip().rsplit("\n\n", 1)[-1])


def _paragraphs(parts: list[Segment], whole: str, arguments: Arguments) -> bool:
    """At least the first and at most the second number of paragraphs."""
    return int(arguments[0]) <= paragraph_count(whole) <= int(arguments[1])


RULES: dict[str, tuple[Rule, str]] = {
    "speaks": (lambda parts, whole, given: given[0] in _speakers(parts), "a character speaks"),
    "silent": (lambda parts, whole, given: given[0] not in _speakers(parts), "a character says nothing"),
    "first_speaker": (
        lambda parts, whole, given: _speakers(parts)[:1] == [given[0]],
        "a character speaks first",
    ),
    "last_speaker": (
        lambda parts, whole, given: _speakers(parts)[-1:] == [given[0]],
        "a character has the last word",
    ),
    "only_speaker": (
        lambda parts, whole, given: set(_speakers(parts)) == {given[0]},
        "a character speaks and nobody else",
    ),
    "asks": (
        lambda parts, whole, given: any(
            part.kind == "quote" and part.speaker == given[0] and has_question(part.text) for part in parts
        ),
        "a character asks a question",
    ),
    "action_by": (
        lambda parts, whole, given: any(
            part.kind == "action" and names(given[0], part.text) for part in parts
        ),
        "a tagged action names a character",
    ),
    "sound_of": (
        lambda parts, whole, given: any(part.kind == "sound" and has(given[0], part.text) for part in parts),
        "a tagged sound names what sounds",
    ),
    "has_action": (lambda parts, whole, given: "action" in _kinds(parts), "an action is tagged"),
    "has_sound": (lambda parts, whole, given: "sound" in _kinds(parts), "a sound is tagged"),
    "no_sound": (lambda parts, whole, given: "sound" not in _kinds(parts), "no sound is tagged"),
    "no_quote": (lambda parts, whole, given: "quote" not in _kinds(parts), "nobody speaks"),
    "min_quotes": (
        lambda parts, whole, given: len(_speakers(parts)) >= int(given[0]),
        "at least so many pieces of speech",
    ),
    "mentions": (lambda parts, whole, given: has(given[0], whole), "a word is used"),
    "avoids": (lambda parts, whole, given: not has(given[0], whole), "a word is not used"),
    "place": (lambda parts, whole, given: has_word(given[0], whole), "the place is named"),
    "happens": (_happens, "words of an event stand close together"),
    "mood": (_mood, "a character's mood is named near the character"),
    "mood_word": (lambda parts, whole, given: has_word(given[0], whole), "a word of the mood is used"),
    "person": (
        lambda parts, whole, given: narration.person(parts, given[1]) == given[0],
        "told in the first or third person",
    ),
    "tense": (
        lambda parts, whole, given: narration.tense(parts, given[1]) == given[0],
        "told in the past or present tense",
    ),
    "min_words": (lambda parts, whole, given: _words(whole) >= int(given[0]), "at least so many words"),
    "max_words": (lambda parts, whole, given: _words(whole) <= int(given[0]), "at most so many words"),
    "paragraphs": (_paragraphs, "the number of paragraphs"),
    "ends_with": (_ends_with, "ends with speech, an action or a sound"),
    "ends_with_words": (_ends_with_words, "the last paragraph has a word"),
    "ends_with_quote": (
        lambda parts, whole, given: whole.rstrip().endswith(_CLOSING_MARKS),
        "plain prose ends with speech",
    ),
}
"""Each kind of check: its rule, and what it asks in one line."""

PLAIN_KINDS = frozenset(
    {
        "avoids",
        "ends_with_quote",
        "ends_with_words",
        "happens",
        "max_words",
        "mentions",
        "min_words",
        "mood",
        "mood_word",
        "paragraphs",
        "person",
        "place",
        "tense",
    }
)
"""Kinds that need no tags."""


def has_question(text: str) -> bool:
    """Whether there is a question mark, also an Arabic one."""
    return "?" in text or "؟" in text
