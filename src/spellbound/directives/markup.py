"""Formats for machines: HTML for a page, SSML for a voice. Both are paragraphs with elements in them."""

import html
import re
from abc import abstractmethod
from collections.abc import Mapping

from spellbound.directives.events import Event, Kind, Open, Text
from spellbound.directives.formats import ByQuote, spoken
from spellbound.directives.languages import MARKS
from spellbound.directives.speech import brings_marks

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ud800-\udfff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 excludes, but for lone surrogates, which `render` refuses with their place."""

_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_SSML = "http://www.w3.org/2001/10/synthesis"


class Paragraphs(ByQuote):
    """Paragraphs end at blank lines; elements open at the end of one go on in the next."""

    paragraph = "<p>"
    line_break = "\n"

    def __init__(self) -> None:
        """Start before the first paragraph."""
        super().__init__()
        self._elements: list[tuple[str, str]] = []
        self._space: list[str] = []
        self._begun = self._in_paragraph = False

    def outside(self, event: Event) -> str:
        """Write text and the elements of actions and sounds."""
        if isinstance(event, Text):
            return self._text(event.text)
        return self._enter(self.element(event.kind)) if isinstance(event, Open) else self._leave()

    def quote(self, speaker: str | None, inside: list[Event]) -> str:
        """Write a quote's element with everything in it."""
        before, element = self.quote_element(speaker, spoken(inside))
        begin = self._enter(element, before)
        return begin + "".join(self.outside(event) for event in inside) + self._leave()

    def end(self) -> str:
        """The end of the last paragraph and of the whole."""
        begin = "" if self._begun else self.head()
        return begin + ("</p>\n" if self._in_paragraph else "") + self.foot()

    @abstractmethod
    def head(self) -> str:
        """What stands before the first paragraph."""

    @abstractmethod
    def foot(self) -> str:
        """What stands after the last paragraph."""

    @abstractmethod
    def element(self, kind: Kind) -> tuple[str, str]:
        """Opening and closing tag of an action or a sound."""

    @abstractmethod
    def quote_element(self, speaker: str | None, speech: str) -> tuple[str, tuple[str, str]]:
        """What stands before a quote, and its opening and closing tag."""

    def _enter(self, element: tuple[str, str], before: str = "") -> str:
        begin = self._flush_space() + self._ensure_paragraph()
        self._elements.append(element)
        return begin + before + element[0]

    def _leave(self) -> str:
        return self._elements.pop()[1]

    def _text(self, text: str) -> str:
        """Text without the white space at its end, which waits: it may grow to a blank line."""
        words = text.strip()
        if not words:
            self._space.append(text)
            return ""
        self._space.append(text[: len(text) - len(text.lstrip())])
        written = [self._flush_space()]
        for number, part in enumerate(_BLANK_LINE.split(_normal(words))):
            written.append(self._end_paragraph() if number else "")
            written.append(self._ensure_paragraph() + self._escaped(part.rstrip()))
        self._space.append(text[len(text.rstrip()) :])
        return "".join(written)

    def _flush_space(self) -> str:
        space = _normal("".join(self._space))
        self._space.clear()
        if _BLANK_LINE.search(space):
            return self._end_paragraph()
        return self._escaped(space) if self._in_paragraph else ""

    def _escaped(self, text: str) -> str:
        return html.escape(_NOT_XML.sub("", text), quote=False).replace("\n", self.line_break)

    def _ensure_paragraph(self) -> str:
        if self._in_paragraph:
            return ""
        begin = "" if self._begun else self.head()
        self._begun = self._in_paragraph = True
        return begin + self.paragraph + "".join(opening for opening, _ in self._elements)

    def _end_paragraph(self) -> str:
        if not self._in_paragraph:
            return ""
        self._in_paragraph = False
        return "".join(closing for _, closing in reversed(self._elements)) + "</p>\n"


class Html(Paragraphs):
    """An `<article>` for a page: `<q data-speaker>`, `<span class="action">`, `<span class="sound">`.

    A quote that brings its own quotation marks has class `marked`: style it with `quotes: none`.
    """

    paragraph = '<p dir="auto">'
    line_break = "<br>\n"

    def __init__(self, language: str) -> None:
        """Start an article in any language."""
        super().__init__()
        self._language = language
        self._marks = MARKS.get(language.replace("_", "-").split("-")[0].lower(), MARKS["en"])

    def head(self) -> str:
        """The article's opening tag."""
        return f'<article lang="{_attribute(self._language)}" dir="auto">\n'

    def foot(self) -> str:
        """The article's closing tag."""
        return "</article>\n"

    def element(self, kind: Kind) -> tuple[str, str]:
        """A span with the kind as its class."""
        return f'<span class="{kind}">', "</span>"

    def quote_element(self, speaker: str | None, speech: str) -> tuple[str, tuple[str, str]]:
        """A `<q>` with the speaker's ID, empty for a missing one."""
        marked = ' class="marked"' if brings_marks(speech, self._marks) else ""
        return "", (f'<q{marked} data-speaker="{_attribute(speaker or "")}" dir="auto">', "</q>")


class Ssml(Paragraphs):
    """SSML 1.1: a `<mark>` with the speaker's ID before each quote, a `<voice>` round it if one is given."""

    def __init__(self, language: str, voices: Mapping[str, str]) -> None:
        """Start a text in any language; `voices` maps speaker IDs to names of voices."""
        super().__init__()
        self._language = language
        self._voices = voices

    def head(self) -> str:
        """The opening tag of the whole."""
        return f'<speak version="1.1" xmlns="{_SSML}" xml:lang="{_attribute(self._language)}">\n'

    def foot(self) -> str:
        """The closing tag of the whole."""
        return "</speak>\n"

    def element(self, kind: Kind) -> tuple[str, str]:
        """No element: actions and sounds are read as narration."""
        return "", ""

    def quote_element(self, speaker: str | None, speech: str) -> tuple[str, tuple[str, str]]:
        """The speaker's mark, and the speaker's voice."""
        if speaker is None:
            return "", ("", "")
        voice = self._voices.get(speaker)
        element = (f'<voice name="{_attribute(voice)}">', "</voice>") if voice else ("", "")
        return f'<mark name="{_attribute(speaker)}"/>', element


def _attribute(value: str) -> str:
    return html.escape(_NOT_XML.sub("", value))


def _normal(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
