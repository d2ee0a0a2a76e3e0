"""Long texts cut into passages a model can read at once: at ends of paragraphs, paragraphs numbered."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_PARAGRAPH = re.compile(r"\S(?:.|\n(?![^\S\n]*\n))*")
_SENTENCE_END = re.compile(r"[.!?…][”“»«\"'’)]*\s+")
_CHARACTERS_A_WORD = 12


@dataclass(frozen=True, slots=True)
class Passage:
    """Paragraphs of a text, as places (start, end) in it."""

    text: str
    """The whole text, not a copy of the passage."""
    paragraphs: tuple[tuple[int, int], ...]

    @property
    def plain(self) -> str:
        """The passage as it stands."""
        return self.text[self.paragraphs[0][0] : self.paragraphs[-1][1]]

    def paragraph(self, number: int) -> str:
        """Return a paragraph by its number, from 1."""
        start, end = self.paragraphs[number - 1]
        return self.text[start:end]

    @property
    def numbered(self) -> str:
        """The passage with the number of each paragraph before it."""
        count = len(self.paragraphs)
        return "\n\n".join(f"[{number}] {self.paragraph(number)}" for number in range(1, count + 1))


def passages(text: str, words: int) -> list[Passage]:
    """Cut a text into passages of at most so many words; a longer paragraph is cut at a sentence's end."""
    made: list[Passage] = []
    paragraphs: list[tuple[int, int]] = []
    held = 0
    for start, end in _pieces(text, words):
        size = len(text[start:end].split())
        if paragraphs and held + size > words:
            made.append(Passage(text, tuple(paragraphs)))
            paragraphs, held = [], 0
        paragraphs.append((start, end))
        held += size
    if paragraphs:
        made.append(Passage(text, tuple(paragraphs)))
    return made


def _pieces(text: str, words: int) -> Iterator[tuple[int, int]]:
    """Paragraphs, those of too many words in parts."""
    for found in _PARAGRAPH.finditer(text):
        start, end = found.start(), found.start() + len(found[0].rstrip())
        while end - start > words and (cut := _cut(text, start, end, words)) < end:
            yield start, start + len(text[start:cut].rstrip())
            start = cut
        yield start, end


def _cut(text: str, start: int, end: int, words: int) -> int:
    """Where the first part of a paragraph ends; `end` if it is short enough."""
    limit = start + words * _CHARACTERS_A_WORD
    for count, word in enumerate(re.compile(r"\S+\s*").finditer(text, start, end)):
        if count == words or word.end() > limit:
            limit = min(limit, word.start())
            break
    else:
        return end
    cuts = [found.end() for found in _SENTENCE_END.finditer(text, start, limit)]
    return cuts[-1] if cuts else max(limit, start + 1)
