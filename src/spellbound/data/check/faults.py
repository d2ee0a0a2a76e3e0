"""One thing that is wrong with a row or a file."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

Code = Literal[
    "unreadable",
    "schema",
    "unknown-field",
    "prompt",
    "tags",
    "speaker",
    "empty",
    "overlong",
    "check",
    "leak",
    "span",
    "duplicate-id",
    "near-duplicate",
    "characters",
    "language",
    "licence",
    "mark",
    "no-rows",
]
CODES: tuple[Code, ...] = get_args(Code)
"""Every kind of fault, in the order of the table of counts."""
WARNINGS: frozenset[Code] = frozenset(
    {"near-duplicate", "characters", "language", "licence", "mark", "no-rows"}
)
"""Kinds that may be meant: they are reported, but the file still passes."""


class Finding(NamedTuple):
    """What is wrong with a field of a row, before anybody knows which row it is."""

    field: str
    code: Code
    what: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A finding and its place."""

    file: str
    row: int | None
    """From 1; None where the whole file is meant."""
    field: str
    """Dotted name of the field; empty where the whole row is meant."""
    code: Code
    what: str
    remedy: str

    @property
    def warning(self) -> bool:
        """Whether the file passes all the same."""
        return self.code in WARNINGS

    def to_row(self) -> dict[str, Any]:
        """Return the fault as a JSON object."""
        return {
            "file": self.file,
            "row": self.row,
            "field": self.field,
            "code": self.code,
            "warning": self.warning,
            "what": self.what,
            "remedy": self.remedy,
        }

    def __str__(self) -> str:
        """`FILE:ROW: field: what; remedy`."""
        place = self.file if self.row is None else f"{self.file}:{self.row}"
        named = f"{self.field}: " if self.field else ""
        return f"{place}: {'warning: ' if self.warning else ''}{named}{self.what}; {self.remedy}"
