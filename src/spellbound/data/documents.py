"""Documents: what readers give and annotators take, before anybody has said who is speaking."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

PARAGRAPH = "\n\n"
SCENE_BREAK = "* * *"

PartKind = Literal["speech", "stage", "head", "message"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One item of a play or a chat: a speech, a stage direction, a heading, or a chat message."""

    kind: PartKind
    text: str
    """Verse lines separated by a line break, paragraphs by a blank line."""
    speakers: tuple[str, ...] = ()
    """Ids of those who speak or act, keys of `Document.cast`; several where they speak together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody whom the source itself lists as speaking."""

    id: str
    name: str
    gender: Literal["female", "male", ""] = ""
    """Empty where the source does not say."""
    details: tuple[tuple[str, str], ...] = ()
    """Further (key, value) pairs for a character sheet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One story, novel, play or chat. Either `text` or `parts` is filled, never both."""

    id: str
    """Stable and unique within a dataset."""
    text: str = ""
    """Prose: paragraphs separated by a blank line, a scene break is the paragraph `* * *`."""
    parts: tuple[Part, ...] = ()
    cast: tuple[Person, ...] = ()
    language: str = ""
    """ISO 639-1; empty where unknown."""
    title: str = ""
    author: str = ""
    year: int | None = None
    source: str = ""
    """Where it is from: a repository or a file's name, never a path of this machine."""
    licence: str = ""
    attribution: str = ""
    """What has to stay with the text wherever it goes."""

    @property
    def plain(self) -> str:
        """The text to the character, that of the parts joined as paragraphs."""
        return self.text or PARAGRAPH.join(part.text for part in self.parts)


class Reader(Protocol):
    """From a file to its documents, one by one; InputError names the file, the place and the remedy."""

    def __call__(self, path: Path) -> Iterator[Document]:
        """Read a file."""
