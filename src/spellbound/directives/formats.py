"""What a format of rendering is, and the two simplest ones: tagged text and JSON."""

import json
from abc import abstractmethod
from typing import Protocol

from spellbound.directives.events import Close, Event, Open, Text
from spellbound.directives.references import REFERENCE_PREFIX, encode
from spellbound.directives.tags import closing_tag, opening_tag


class Format(Protocol):
    """Writes events, one at a time, for one text. The events it gets nest as the stream parser's do."""

    def write(self, event: Event) -> str:
        """What can be written now that this event is known."""
        ...

    def end(self) -> str:
        """What is left to write."""
        ...


class Tagged:
    """Canonical tagged text, which the stream parser reads as the same events."""

    def __init__(self) -> None:
        """Start a text."""
        self._held = ""

    def write(self, event: Event) -> str:
        """The event's markup; an `&` waits until what follows shows whether it needs to be a reference."""
        if isinstance(event, Text):
            text = self._held + event.text
            last = text.rfind("&", max(0, len(text) - 10))
            end = last if last >= 0 and REFERENCE_PREFIX.match(text, last) else len(text)
            self._held = text[end:]
            return encode(text[:end])
        tag = opening_tag(event) if isinstance(event, Open) else closing_tag(event.kind)
        return self.end() + tag

    def end(self) -> str:
        """What was held back; nothing followed that could make it a reference."""
        held, self._held = self._held, ""
        return held


class Json:
    """An array of objects of type `open` (kind, and a quote's speaker), `text` (text) and `close` (kind)."""

    def __init__(self) -> None:
        """Start an array."""
        self._before = "[\n"
        self._texts: list[str] = []

    def write(self, event: Event) -> str:
        """The objects that are complete; text waits for what ends it, so that adjacent texts are one."""
        if isinstance(event, Text):
            self._texts.append(event.text)
            return ""
        return self._pending() + self._object(as_object(event))

    def end(self) -> str:
        """The end of the array."""
        rest = self._pending()
        return rest + ("[]\n" if self._before == "[\n" else "\n]\n")

    def _pending(self) -> str:
        text = "".join(self._texts)
        self._texts.clear()
        return self._object(as_object(Text(text))) if text else ""

    def _object(self, value: dict[str, str | None]) -> str:
        before, self._before = self._before, ",\n"
        return before + json.dumps(value, ensure_ascii=False)


def as_object(event: Event) -> dict[str, str | None]:
    """An event as JSON has it; `speaker` is there for a quote only."""
    match event:
        case Open("quote", speaker):
            return {"type": "open", "kind": "quote", "speaker": speaker}
        case Open(kind):
            return {"type": "open", "kind": kind}
        case Close(kind):
            return {"type": "close", "kind": kind}
        case Text(text):
            return {"type": "text", "text": text}


class ByQuote:
    """Base of the formats that must know the whole of what is said before they can write its beginning."""

    def __init__(self) -> None:
        """Start outside any quote."""
        self._quote: Open | None = None
        self._inside: list[Event] = []

    def write(self, event: Event) -> str:
        """Collect a quote until it ends; pass on everything else."""
        if isinstance(event, Open) and event.kind == "quote":
            self._quote, self._inside = event, []
            return ""
        if self._quote is None:
            return self.outside(event)
        if isinstance(event, Close) and event.kind == "quote":
            quote, self._quote = self._quote, None
            return self.quote(quote.speaker, self._inside)
        self._inside.append(event)
        return ""

    @abstractmethod
    def outside(self, event: Event) -> str:
        """Write an event that belongs to no quote."""

    @abstractmethod
    def quote(self, speaker: str | None, inside: list[Event]) -> str:
        """Write a whole quote."""


def spoken(inside: list[Event]) -> str:
    """The text of a quote, that of actions and sounds in it included."""
    return "".join(event.text for event in inside if isinstance(event, Text))
