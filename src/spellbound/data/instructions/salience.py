"""Which words a passage is about: frequent in it, rare in the rest of its story."""

import math
import re
from collections import Counter

from spellbound.data.instructions.phrasing import phrases
from spellbound.data.tagged import TaggedStory
from spellbound.directives import Text, parse

_WORD = re.compile(r"[^\W\d_]{4,}")
_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")
_NOUN = re.compile(r"(?<=[a-zäöüß,] )[A-ZÄÖÜ][a-zäöüß]{3,}\b")
_COMMON = 0.1
"""A word in a larger share of the paragraphs says nothing of one of them."""
_FEW = 20
"""With fewer paragraphs than this, no share is measured."""


class Salience:
    """Counts in how many paragraphs of a story each word stands; memory grows with its vocabulary."""

    def __init__(self, story: TaggedStory) -> None:
        """Read a story once."""
        self._phrases = phrases(story.language)
        self._names = {word for one in story.cast for word in _WORD.findall(one.name.lower())}
        self._paragraphs = 0
        self._in: Counter[str] = Counter()
        text = "".join(event.text for event in parse(story.text) if isinstance(event, Text))
        for paragraph in text.split("\n\n"):
            self._paragraphs += 1
            self._in.update({word.lower() for word in _WORD.findall(paragraph)})

    def words(self, text: str, most: int = 12) -> list[str]:
        """Return the words that the text is about, the most telling first."""
        counts = Counter(self._candidates(text))
        ranked = sorted(counts, key=lambda word: (-self._score(word, counts[word]), word))
        return ranked[:most]

    def _candidates(self, text: str) -> list[str]:
        # Nouns where they have capitals; elsewhere no capitals, which are names or begin a sentence.
        found = _NOUN.findall(text) if self._phrases.language == "de" else _WORD.findall(text)
        return [
            word
            for word in found
            if (self._phrases.language == "de" or word.islower() or not _LATIN.match(word))
            and self._telling(word.lower())
        ]

    def _telling(self, word: str) -> bool:
        if word in self._phrases.stop or word in self._names:
            return False
        return self._paragraphs < _FEW or self._in[word] <= _COMMON * self._paragraphs

    def _score(self, word: str, count: int) -> float:
        return count * math.log((self._paragraphs + 1) / max(1, self._in[word.lower()]) + 1)
