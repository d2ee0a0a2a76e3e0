"""Whether words, names and moods stand in a text, in scripts that put small words before them too."""

import re
from functools import lru_cache

_HEBREW_BEFORE = "[ושהבלכמ]{0,3}"
_LONG = 5
_ARABIC_BEFORE = "[وفبلكس]{0,2}(?:ال|لل)?"


@lru_cache(maxsize=20_000)
def _pattern(words: str, shortest: int) -> re.Pattern[str]:
    """Match any of the words, or a longer form of those with at least so many letters.

    In Hebrew and Arabic "and", "the" or "in" may be joined to the front of a word.
    """
    alternatives = "|".join(
        _before(word) + re.escape(word) + ("" if len(word) >= shortest else r"(?!\w)")
        for word in words.split("|")
    )
    return re.compile(rf"(?<!\w)(?:{alternatives})", re.IGNORECASE)


def has(words: str, text: str) -> bool:
    """Whether one of the words, separated by "|", or a longer form of it, stands in the text."""
    return _pattern(words, 0).search(text) is not None


def has_word(words: str, text: str) -> bool:
    """Like `has`, but words of fewer than five letters only count whole: `mer` is not in `merci`."""
    return _pattern(words, _LONG).search(text) is not None


def names(name: str, text: str) -> bool:
    """Whether the name stands in the text as a word of its own."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def _before(word: str) -> str:
    """What may be joined to the front of a word in its script."""
    if "\u05d0" <= word[:1] <= "\u05ea":
        return _HEBREW_BEFORE
    return _ARABIC_BEFORE if "\u0621" <= word[:1] <= "\u064a" else ""
