"""What the stream parser mended, and where."""

from dataclasses import dataclass
from typing import Literal

RepairCode = Literal[
    "spelling",
    "attribute",
    "self-closing",
    "speaker-missing",
    "speaker-outside-cast",
    "nested",
    "unclosed",
    "unopened",
]

_MESSAGES: dict[RepairCode, str] = {
    "spelling": "{tag} is not the canonical spelling; write lower case, one space, double quotation marks",
    "attribute": "{tag} has an attribute that is ignored; only a quote has one, speaker",
    "self-closing": "{tag} closes itself and so holds no text; write an opening and a closing tag",
    "speaker-missing": '{tag} names no speaker; write <quote speaker="ID"> with an ID of the cast',
    "speaker-outside-cast": "{tag} names a speaker outside the cast; add a sheet for it or mend the ID",
    "nested": "{tag} opens inside another of its kind, which is closed first; close that one before it",
    "unclosed": "{tag} is never closed and was closed for it; write its closing tag",
    "unopened": "{tag} closes what is not open and was left out; remove it or open it before",
}


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing that was mended: the tag as it was written, and the place where that tag begins."""

    code: RepairCode
    tag: str
    offset: int
    line: int
    column: int

    @property
    def message(self) -> str:
        """One line that names the tag and the remedy."""
        return _MESSAGES[self.code].format(tag=" ".join(self.tag.split()))
