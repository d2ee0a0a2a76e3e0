"""Words and paragraphs of a text, with their places in code points."""

import re
from bisect import bisect_left
from itertools import pairwise

_POINTS = "\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c7\u0610-\u061a\u064b-\u065f\u0670"
"""Accents and vowel points that stand as characters of their own."""
_LETTERS = rf"[\w{_POINTS}]+"
_WORD = re.compile(rf"{_LETTERS}(?:['’ʼ](?!s\b){_LETTERS})*")
_ELIDED_WORD = re.compile(rf"{_LETTERS}(?:['’ʼ](?=\w))?")
_DROPPED = re.compile(f"[{_POINTS}\u0640]")
_BREAK = re.compile(r"\n[^\S\n]*\n\s*|\n(?=[^\S\n]*(?:[—–―]|-\s|[\"“„«»‘]\S))")


def key(word: str) -> str:
    """A word as lexicons spell it: lower case, without vowel points, with straight apostrophes."""
    return _DROPPED.sub("", word.lower().replace("’", "'").replace("ʼ", "'"))


class Words:
    """All words of a text, in columns: as written, as lexicons spell them, where they begin and end."""

    def __init__(self, text: str, *, elision: bool) -> None:
        """Find the words; with elision an apostrophe ends one (`l'` `ami`), else it stands inside."""
        matches = list((_ELIDED_WORD if elision else _WORD).finditer(text))
        self.text = text
        self.written = [match[0] for match in matches]
        self.keys = [key(word) for word in self.written]
        self.starts = [match.start() for match in matches]
        self.ends = [match.end() for match in matches]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.starts)

    def first_at(self, place: int) -> int:
        """Index of the first word that begins at a place or later."""
        return bisect_left(self.starts, place)

    def gap(self, index: int) -> str:
        """What stands between a word and the next, or the end of the text."""
        end = self.starts[index + 1] if index + 1 < len(self.starts) else len(self.text)
        return self.text[self.ends[index] : end]

    def before(self, index: int) -> str:
        """What stands between the word before and this one."""
        return self.text[self.ends[index - 1] if index else 0 : self.starts[index]]


def paragraphs(text: str) -> list[tuple[int, int]]:
    """Places (start, end) of the paragraphs, without the blank lines between them.

    A line that begins with a dash or an opening mark is one of its own.
    """
    breaks = [(match.start(), match.end()) for match in _BREAK.finditer(text)]
    edges = [(0, 0), *breaks, (len(text), len(text))]
    return [(end, start) for (_, end), (start, _) in pairwise(edges) if text[end:start].strip()]
