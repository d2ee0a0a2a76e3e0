"""Stretches of a completion: what stands inside one tag, or outside of all."""

from collections.abc import Iterable
from dataclasses import dataclass

from spellbound.directives import Close, Event, Open, Text


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a completion: inside one quote, action or sound, or outside all of them ("text")."""

    kind: str
    speaker: str | None
    text: str


def segments(events: Iterable[Event]) -> list[Segment]:
    """Return the innermost stretches of text in order; blank ones outside tags are left out."""
    found: list[Segment] = []
    opened: list[Open] = []
    for event in events:
        if isinstance(event, Open):
            opened.append(event)
        elif isinstance(event, Close) and opened:
            opened.pop()
        elif isinstance(event, Text) and (opened or event.text.strip()):
            inner = opened[-1] if opened else None
            found.append(
                Segment(inner.kind if inner else "text", inner.speaker if inner else None, event.text)
            )
    return found
