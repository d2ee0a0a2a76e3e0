"""Spans of a text written as markup; the text between the tags stays as it is, to the character."""

from collections.abc import Iterable
from dataclasses import dataclass

from spellbound.data.documents import Document
from spellbound.data.tagged import AnnotationRefused, require_lossless
from spellbound.directives import Close, Event, Kind, Open, Text, render
from spellbound.errors import DirectiveError


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A quote, an action or a sound: where it is, and who speaks."""

    start: int
    end: int
    kind: Kind
    speaker: str | None = None


def tagged(document: Document, spans: Iterable[Span]) -> str:
    """The document's text with the spans as tags; of two that overlap, the first is kept.

    Raises AnnotationRefused for a text that no markup can hold.
    """
    text, events, place = document.plain, list[Event](), 0
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if span.start < place or span.start >= span.end:
            continue
        inside = Text(text[span.start : span.end])
        events += [Text(text[place : span.start]), Open(span.kind, span.speaker), inside, Close(span.kind)]
        place = span.end
    events.append(Text(text[place:]))
    try:
        markup = render(events, "tagged")
    except DirectiveError as error:
        raise AnnotationRefused(f"{document.id}: {error}; mend the file or leave it out") from error
    require_lossless(document, markup)
    return markup
