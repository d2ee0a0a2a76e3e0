"""The stream parser: tagged text in, in chunks of any size; events out. It never raises and does no I/O."""

import re
from collections.abc import Iterable

from spellbound.directives.characters import Character, speaker_ids
from spellbound.directives.events import Event, Open, Text, merge_text
from spellbound.directives.nesting import Nesting
from spellbound.directives.positions import Position
from spellbound.directives.references import REFERENCE_PATTERN, REFERENCE_PREFIX, referenced
from spellbound.directives.repairs import Repair
from spellbound.directives.tags import MAX_TAG_LENGTH, TAG_PATTERN, Tag, may_become_tag, read_tag

_CONSTRUCT = re.compile(f"{TAG_PATTERN}|{REFERENCE_PATTERN}")


class StreamParser:
    """Turns tagged text into events, chunk by chunk; the same events for every way of cutting it.

    With a cast, a quote by anybody else is kept and put on record in `repairs`.
    """

    def __init__(self, cast: Iterable[Character | str] | None = None) -> None:
        """Start at the beginning of a text. `cast`: characters or their speaker IDs; None: do not check."""
        self._cast = None if cast is None else frozenset(speaker_ids(cast))
        self._nesting = Nesting()
        self._held = ""
        self._at = Position(0, 1, 1)

    @property
    def repairs(self) -> list[Repair]:
        """What has been mended so far, in the order in which it was found."""
        return self._nesting.repairs

    def feed(self, chunk: str) -> list[Event]:
        """Take some more text; give the events it completes. Holds back what may still become a tag."""
        text = self._held + chunk
        end = _certain_end(text)
        self._held = text[end:]
        return self._read(text[:end])

    def close(self) -> list[Event]:
        """End of text: give what was held back as text, and close whatever is still open."""
        text, self._held = self._held, ""
        return [*self._read(text), *self._nesting.finish()]

    def _read(self, text: str) -> list[Event]:
        """Events of a text in which no tag and no reference is cut off."""
        events: list[Event] = []
        pieces: list[str] = []
        done = advanced = 0
        for match in _CONSTRUCT.finditer(text):
            start = match.start()
            pieces.append(text[done:start])
            done = match.end()
            if match[0][0] == "&":
                pieces.append(referenced(match[0]) or match[0])
                continue
            self._advance(text, advanced, start)
            advanced = start
            if joined := "".join(pieces):
                events.append(Text(joined))
            pieces.clear()
            events.extend(self._tag(read_tag(match), match[0]))
        if joined := "".join([*pieces, text[done:]]):
            events.append(Text(joined))
        self._advance(text, advanced, len(text))
        return events

    def _tag(self, tag: Tag, raw: str) -> list[Event]:
        self._inspect(tag, raw)
        if tag.closing:
            return self._nesting.close(tag.kind, raw, self._at)
        events = self._nesting.open(Open(tag.kind, tag.speaker), raw, self._at)
        return [*events, *self._nesting.close(tag.kind, raw, self._at)] if tag.self_closing else events

    def _inspect(self, tag: Tag, raw: str) -> None:
        if tag.flaw is not None:
            self._nesting.mend(tag.flaw, raw, self._at)
        if tag.kind != "quote" or tag.closing:
            return
        if tag.speaker is None:
            self._nesting.mend("speaker-missing", raw, self._at)
        elif self._cast is not None and tag.speaker not in self._cast:
            self._nesting.mend("speaker-outside-cast", raw, self._at)

    def _advance(self, text: str, start: int, end: int) -> None:
        """Move the position from text[start] to text[end]."""
        at = self._at
        newlines = text.count("\n", start, end)
        column = end - text.rfind("\n", start, end) if newlines else at.column + end - start
        self._at = Position(at.offset + end - start, at.line + newlines, column)


def parse(text: str, cast: Iterable[Character | str] | None = None) -> list[Event]:
    """All events of a whole text, adjacent text merged."""
    parser = StreamParser(cast)
    return list(merge_text([*parser.feed(text), *parser.close()]))


def _certain_end(text: str) -> int:
    """Where the longest suffix begins that may still become a tag or a reference.

    Neither contains a `<` after its first character, nor a reference an `&`: only the last of each counts.
    """
    tag = text.rfind("<", max(0, len(text) - MAX_TAG_LENGTH + 1))
    if tag >= 0 and may_become_tag(text, tag):
        return tag
    reference = text.rfind("&", max(tag + 1, len(text) - 10))
    if reference >= 0 and REFERENCE_PREFIX.match(text, reference):
        return reference
    return len(text)
