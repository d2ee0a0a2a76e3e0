"""Formats for people: plain prose, and a script with a name before each line."""

import re
from collections.abc import Iterable

from spellbound.directives.characters import Character
from spellbound.directives.events import Close, Event, Open, Text
from spellbound.directives.formats import ByQuote, spoken
from spellbound.directives.languages import quotation_marks
from spellbound.directives.speech import with_marks, without_marks

_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_BRACKETS = {"action": "()", "sound": "[]"}


class Plain(ByQuote):
    """Prose without tags; speech in the quotation marks of the language, one quote at a time."""

    def __init__(self, language: str) -> None:
        """Start a text in a language of `languages.MARKS`."""
        super().__init__()
        self._marks = quotation_marks(language)

    def outside(self, event: Event) -> str:
        """Text as it is; nothing for actions and sounds."""
        return event.text if isinstance(event, Text) else ""

    def quote(self, speaker: str | None, inside: list[Event]) -> str:
        """Speech with its marks."""
        return with_marks(spoken(inside), self._marks)

    def end(self) -> str:
        """Nothing is left."""
        return ""


class Script(ByQuote):
    """One line each: `NAME: speech`, `(action)`, `[sound]` and narration."""

    def __init__(self, language: str, cast: Iterable[Character]) -> None:
        """Start a script; a speaker outside the cast is named by the ID, a missing one by `?`."""
        super().__init__()
        self._marks = quotation_marks(language)
        self._names = {member.speaker_id: " ".join(member.name.split()).upper() for member in cast}
        self._pieces: list[str] = []
        self._open: list[str] = []
        self._begun = False

    def outside(self, event: Event) -> str:
        """Narration is collected; an action or a sound ends the line before it and is one of its own."""
        match event:
            case Text(text):
                self._pieces.append(text)
                return ""
            case Open(kind):
                lines = self._finish_lines()
                self._open.append(_BRACKETS[kind])
                return lines
            case Close():
                lines = self._finish_lines()
                self._open.pop()
                return lines

    def quote(self, speaker: str | None, inside: list[Event]) -> str:
        """The lines before it, then the speaker's."""
        before = self._finish_lines()
        speech = "".join(_bracketed(event) for event in inside)
        words = _one_line(without_marks(speech, self._marks))
        name = self._names.get(speaker or "") or speaker or "?"
        return before + self._line(f"{name}: {words}")

    def end(self) -> str:
        """The last line, and its end."""
        rest = self._finish_lines()
        return rest + ("\n" if self._begun else "")

    def _finish_lines(self) -> str:
        text = "".join(self._pieces)
        self._pieces.clear()
        if not any(char.isalnum() for char in text) and not self._open:
            return "".join(text.split()) if self._begun else self._line(text)
        return "".join(
            self._line(self._in_brackets(part)) for part in _BLANK_LINE.split(text) if part.strip()
        )

    def _in_brackets(self, part: str) -> str:
        opening = "".join(pair[0] for pair in self._open)
        closing = "".join(pair[1] for pair in reversed(self._open))
        return f"{opening}{part}{closing}"

    def _line(self, text: str) -> str:
        """One more line, if it says anything; its line feed is written with the next."""
        line = _one_line(text)
        if not line:
            return ""
        before = "\n" if self._begun else ""
        self._begun = True
        return before + line


def _bracketed(event: Event) -> str:
    match event:
        case Text(text):
            return text
        case Open(kind):
            return _BRACKETS[kind][0]
        case Close(kind):
            return _BRACKETS[kind][1]


def _one_line(text: str) -> str:
    """White space collapsed, and none just inside of brackets."""
    line = " ".join(text.split())
    return re.sub(r"([(\[]) | ([)\]])", r"\1\2", line)
