"""Checks: was a writing instruction followed? Decided by rule from the events of a completion.

A check of a kind in `PLAIN_KINDS` also works on prose without tags, where speech stands in quotation marks.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Self, TypeAlias

from spellbound.directives import Close, Event, Open, Text
from spellbound.errors import InputError

PLAIN_KINDS = frozenset({"mentions", "happens", "mood", "min_words", "max_words", "ends_with_quote"})
"""Kinds that need no tags."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a completion: inside one quote, action or sound, or outside all of them ("text")."""

    kind: str
    speaker: str | None
    text: str


def segments(events: Iterable[Event]) -> list[Segment]:
    """Return the innermost stretches of text in order; blank ones outside tags are left out."""
    found: list[Segment] = []
    opened: list[Open] = []
    for event in events:
        if isinstance(event, Open):
            opened.append(event)
        elif isinstance(event, Close) and opened:
            opened.pop()
        elif isinstance(event, Text) and (opened or event.text.strip()):
            inner = opened[-1] if opened else None
            found.append(
                Segment(inner.kind if inner else "text", inner.speaker if inner else None, event.text)
            )
    return found


Arguments: TypeAlias = tuple[str, ...]
Rule: TypeAlias = Callable[[list[Segment], str, Arguments], bool]


@dataclass(frozen=True, slots=True)
class Check:
    """One rule with its arguments; `Check("speaks", ("32AN4R",))` asks that this character speaks.

    In an argument that lists words, they are separated by "|".
    """

    kind: str
    arguments: Arguments = ()

    def __post_init__(self) -> None:
        """Refuse a kind nobody can decide."""
        if self.kind not in _RULES:
            raise InputError(f"check kind {self.kind!r} is unknown; use one of {', '.join(sorted(_RULES))}")

    def holds(self, events: Iterable[Event]) -> bool:
        """Whether a completion, given as its events, does what the check asks."""
        events = list(events)
        whole = "".join(event.text for event in events if isinstance(event, Text))
        return _RULES[self.kind](segments(events), whole, self.arguments)

    def to_json(self) -> str:
        """Return the check as one line of JSON."""
        return json.dumps({"kind": self.kind, "arguments": list(self.arguments)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; raises InputError for anything else."""
        try:
            row = json.loads(text)
            return cls(str(row["kind"]), tuple(str(argument) for argument in row["arguments"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"check {text[:60]!r} is not JSON with kind and arguments ({error}); write it with to_json"
            ) from error


@lru_cache(maxsize=20_000)
def _pattern(words: str) -> re.Pattern[str]:
    alternatives = "|".join(re.escape(word) for word in words.split("|"))
    return re.compile(rf"(?<!\w)(?:{alternatives})", re.IGNORECASE)


def _has(words: str, text: str) -> bool:
    """Whether one of the words, or a longer form of it, stands in the text."""
    return _pattern(words).search(text) is not None


def _names(name: str, text: str) -> bool:
    """Whether the name stands in the text as a word of its own."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def _speakers(parts: list[Segment]) -> list[str]:
    return [part.speaker for part in parts if part.kind == "quote" and part.speaker]


def _happens(parts: list[Segment], whole: str, groups: Arguments) -> bool:
    """Every group of words is met within some five paragraphs in a row."""
    paragraphs = whole.split("\n\n")
    windows = range(max(1, len(paragraphs) - 4))
    return any(all(_has(group, "\n".join(paragraphs[at : at + 5])) for group in groups) for at in windows)


def _mood(parts: list[Segment], whole: str, arguments: Arguments) -> bool:
    """A word of the mood stands in a paragraph that names the character, or in the next."""
    name, words = arguments
    paragraphs = whole.split("\n\n")
    pairs = [f"{one}\n{two}" for one, two in zip(paragraphs, [*paragraphs[1:], ""], strict=True)]
    named = [pair for one, pair in zip(paragraphs, pairs, strict=True) if _names(name, one)]
    return any(_has(words, pair) for pair in named)


def _ends_with(parts: list[Segment], whole: str, arguments: Arguments) -> bool:
    """The last stretch is of the given kind and, if words are given too, has one of them."""
    return (
        bool(parts)
        and parts[-1].kind == arguments[0]
        and all(_has(words, parts[-1].text) for words in arguments[1:])
    )


_RULES: dict[str, Rule] = {
    "speaks": lambda parts, whole, given: given[0] in _speakers(parts),
    "silent": lambda parts, whole, given: given[0] not in _speakers(parts),
    "first_speaker": lambda parts, whole, given: _speakers(parts)[:1] == [given[0]],
    "last_speaker": lambda parts, whole, given: _speakers(parts)[-1:] == [given[0]],
    "asks": lambda parts, whole, given: any(
        part.kind == "quote" and part.speaker == given[0] and "?" in part.text for part in parts
    ),
    "action_by": lambda parts, whole, given: any(
        part.kind == "action" and _names(given[0], part.text) for part in parts
    ),
    "sound_of": lambda parts, whole, given: any(
        part.kind == "sound" and _has(given[0], part.text) for part in parts
    ),
    "ends_with": _ends_with,
    "no_sound": lambda parts, whole, given: all(part.kind != "sound" for part in parts),
    "no_quote": lambda parts, whole, given: all(part.kind != "quote" for part in parts),
    "min_quotes": lambda parts, whole, given: len(_speakers(parts)) >= int(given[0]),
    "mentions": lambda parts, whole, given: _has(given[0], whole),
    "happens": _happens,
    "mood": _mood,
    "min_words": lambda parts, whole, given: len(whole.split()) >= int(given[0]),
    "max_words": lambda parts, whole, given: len(whole.split()) <= int(given[0]),
    "ends_with_quote": lambda parts, whole, given: whole.rstrip().endswith("”"),
}

KINDS = tuple(sorted(_RULES))
"""Every kind of check."""
