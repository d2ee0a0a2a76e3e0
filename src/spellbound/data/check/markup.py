"""What is wrong with tagged text, and what it says without its tags."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from spellbound.data.check.faults import Code, Finding
from spellbound.data.words import Hashes, word_hashes, words_of
from spellbound.directives import Character, Event, StreamParser, Text
from spellbound.directives.tags import TAG_PATTERN

_TAG = re.compile(TAG_PATTERN)
_DAMAGED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ufffd\ufffe\uffff\ud800-\udfff]")
_SPEAKER = ("speaker-missing", "speaker-outside-cast")


@dataclass(frozen=True)
class Markup:
    """Tagged text as it was read once, with the name of its field."""

    field: str
    text: str
    events: list[Event]
    findings: list[Finding]

    @classmethod
    def read(cls, field: str, text: str, cast: Iterable[Character] | None) -> "Markup":
        """Read a text; without a cast, any speaker may speak."""
        parser = StreamParser(cast)
        events = [*parser.feed(text), *parser.close()]
        findings = []
        for repair in parser.repairs:
            what, _, remedy = repair.message.partition("; ")
            code: Code = "speaker" if repair.code in _SPEAKER else "tags"
            place = f"line {repair.line}, column {repair.column}"
            findings.append(Finding(field, code, f"{place}: {what}", remedy))
        return cls(field, text, events, [*findings, *_loose(field, text), *_damaged(field, text)])

    @cached_property
    def plain(self) -> str:
        """The text without its tags."""
        return "".join(event.text for event in self.events if isinstance(event, Text))

    @cached_property
    def words(self) -> list[str]:
        """The words of the plain text, in lower case."""
        return words_of(self.plain)

    @cached_property
    def hashes(self) -> Hashes:
        """The words as numbers."""
        return word_hashes(self.words)

    @property
    def tagged(self) -> bool:
        """Whether there is a tag in it."""
        return any(not isinstance(event, Text) for event in self.events)


def _loose(field: str, text: str) -> Iterator[Finding]:
    """A `<` or `>` that stands as text: a writer would have written a reference."""
    without = _TAG.sub("", text) if "<" in text else text
    if "<" not in without and ">" not in without:
        return
    bare = _TAG.sub(lambda tag: " " * len(tag[0]), text)
    for mark, place in _placed(text, re.finditer("[<>]", bare)):
        name = "&lt;" if mark == "<" else "&gt;"
        yield Finding(field, "tags", f"{place}: {mark} stands as text", f"write {name}")


def _damaged(field: str, text: str) -> Iterator[Finding]:
    for sign, place in _placed(text, _DAMAGED.finditer(text)):
        what = f"{place}: U+{ord(sign):04X} is no character of a story"
        yield Finding(field, "characters", what, "take it out, or put the right one in its place")


def _placed(text: str, found: Iterable[re.Match[str]]) -> Iterator[tuple[str, str]]:
    """What was found, with its line and column from 1; the text is gone through once."""
    line, begin, at = 1, 0, 0
    for each in found:
        line += text.count("\n", at, each.start())
        at, begin = each.start(), max(begin, text.rfind("\n", at, each.start()) + 1)
        yield each[0], f"line {line}, column {at - begin + 1}"
