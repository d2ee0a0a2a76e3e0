"""Places in a text, and the characters that no file can hold."""

import re
from bisect import bisect_left
from dataclasses import dataclass

from spellbound.errors import DirectiveError

SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a text: offset from 0, line and column from 1, all in code points; lines end at U+000A."""

    offset: int
    line: int
    column: int


class Lines:
    """Finds line and column of any offset of a text."""

    def __init__(self, text: str) -> None:
        """Note where the lines of the text end."""
        self._ends = [match.start() for match in re.finditer("\n", text)]

    def position(self, offset: int) -> Position:
        """The place of one offset."""
        line = bisect_left(self._ends, offset)
        start = self._ends[line - 1] + 1 if line else 0
        return Position(offset, line + 1, offset - start + 1)


def require_writable(text: str, place: str) -> str:
    """The text itself; DirectiveError if it holds a lone surrogate, which UTF-8 cannot write."""
    if found := SURROGATE.search(text):
        at = Lines(text).position(found.start())
        raise DirectiveError(
            f"{place}, line {at.line}, column {at.column}: U+{ord(found[0]):04X} is half a character "
            "and cannot be written; remove it"
        )
    return text
