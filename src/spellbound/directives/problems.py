"""What is wrong with a story file, and where."""

from dataclasses import dataclass

from spellbound.directives.positions import Position


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One problem of a story file.

    `offset` counts from 0, `line` and `column` from 1, all in code points. `fatal`: the prompt cannot be
    read; otherwise it is something in the past story that the stream parser mends.
    """

    offset: int
    line: int
    column: int
    message: str
    remedy: str
    fatal: bool = True

    @classmethod
    def at(cls, position: Position, message: str, remedy: str, *, fatal: bool = True) -> "Problem":
        """A problem at a place."""
        return cls(position.offset, position.line, position.column, message, remedy, fatal)

    def __str__(self) -> str:
        """`LINE:COLUMN: message; remedy`."""
        return f"{self.line}:{self.column}: {self.message}; {self.remedy}"
