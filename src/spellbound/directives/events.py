"""What a tagged text says, as a flat list of events: something opens, some text, something closes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from spellbound.errors import DirectiveError

Kind = Literal["quote", "action", "sound"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MAX_SPEAKER_LENGTH = 200
"""Longest speaker a tag can carry, in code points; a tag with it still fits `MAX_TAG_LENGTH`."""

TAG_SPACE = " \t\r\n"
"""The white space a tag may contain; the same four characters as in XML."""


@dataclass(frozen=True, slots=True)
class Open:
    """A quote, an action or a sound begins; `speaker` is None unless a quote names one."""

    kind: Kind
    speaker: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no tag could carry, so that every event can be written."""
        if self.kind not in KINDS:
            raise DirectiveError(f"Open kind {self.kind!r} is unknown; use one of {', '.join(KINDS)}")
        if self.speaker is None:
            return
        if self.kind != "quote":
            raise DirectiveError(f"Open({self.kind!r}) has speaker {self.speaker!r}; only a quote has one")
        if reason := unwritable_speaker(self.speaker):
            raise DirectiveError(f"Open speaker {self.speaker[:40]!r} {reason}; use a speaker ID or None")


@dataclass(frozen=True, slots=True)
class Text:
    """Prose, with character references already decoded."""

    text: str


@dataclass(frozen=True, slots=True)
class Close:
    """The innermost open quote, action or sound ends; `kind` says which it is."""

    kind: Kind

    def __post_init__(self) -> None:
        """Refuse a kind that does not exist."""
        if self.kind not in KINDS:
            raise DirectiveError(f"Close kind {self.kind!r} is unknown; use one of {', '.join(KINDS)}")


Event = Open | Text | Close


def unwritable_speaker(speaker: str) -> str | None:
    """Why this speaker cannot stand in a tag, or None if it can."""
    if not speaker or speaker != speaker.strip(TAG_SPACE):
        return "is empty or begins or ends with white space"
    if len(speaker) > MAX_SPEAKER_LENGTH:
        return f"has {len(speaker)} characters, more than {MAX_SPEAKER_LENGTH}"
    if "<" in speaker or ">" in speaker or ('"' in speaker and "'" in speaker):
        return "contains < or > or both kinds of straight quotation marks"
    return None


def merge_text(events: Iterable[Event]) -> Iterator[Event]:
    """The same events with adjacent texts joined and empty ones left out."""
    pieces: list[str] = []
    for event in events:
        if isinstance(event, Text):
            pieces.append(event.text)
            continue
        if text := "".join(pieces):
            yield Text(text)
        pieces.clear()
        yield event
    if text := "".join(pieces):
        yield Text(text)
