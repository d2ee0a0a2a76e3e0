"""Marks a model gave, found in the text itself: kind, speaker, and the words a stretch begins and ends with.

The text never comes from the model, so tags cannot change it. What a mark says is looked up in its paragraph
(curly and straight marks, dashes and kinds of space taken as equal); what cannot be placed is a fault that
the model can be told.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from spellbound.data.teacher.passages import Passage
from spellbound.data.teacher.questions import Form
from spellbound.directives import Close, Event, Kind, Open, Text

UNKNOWN = "unknown"
"""The speaker of speech that nobody can be given."""


class Mark(Form):
    """One stretch of a paragraph, as the model names it."""

    paragraph: int
    kind: Literal["quote", "action", "sound", "other"]
    speaker: str
    begins: str
    ends: str


class Marks(Form):
    """All stretches of a passage."""

    marks: list[Mark]


@dataclass(frozen=True, slots=True)
class Span:
    """A placed mark: [start, end) of the whole text; the speaker is an ID, None if there is none to say."""

    start: int
    end: int
    kind: Literal["quote", "action", "sound", "other"]
    speaker: str | None = None


@dataclass(slots=True)
class Placed:
    """What of an answer can be used, and what is wrong with the rest."""

    spans: list[Span] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)
    """Number of the paragraph and a sentence for the model."""


_FOLDED = str.maketrans(
    {
        **dict.fromkeys("“”„‟«»″", '"'),
        **dict.fromkeys("‘’‚‛‹›′ʼ", "'"),
        **dict.fromkeys("–—―‒‑", "-"),
        **dict.fromkeys("\u00a0\u202f\u2009\n\t\r", " "),
    }
)
_CLOSERS = {"“": "”", "„": "“”", "«": "»", "»": "«", '"': '"', "‘": "’", "‚": "‘’", "‹": "›", "›": "‹"}
_DOUBLE = '“”„«»"'
_QUOTED = re.compile(rf"[{_DOUBLE}][^\w{_DOUBLE}]*\w[^{_DOUBLE}]*[{_DOUBLE}]")
_SPACE = " \u00a0\u202f"
_AFTER = re.compile(rf"[{_SPACE}]?[,.;:!?…—–-]{{0,3}}[{_SPACE}]?([”“»«\"’‘›‹'])")


def place(passage: Passage, answer: Marks, speakers: Mapping[str, str]) -> Placed:
    """Find the marks of an answer. `speakers`: IDs by every name in the cast, names folded by `casefold`."""
    placed = Placed()
    last: dict[int, tuple[int, int]] = {}
    for mark in answer.marks:
        if not 1 <= mark.paragraph <= len(passage.paragraphs):
            count = len(passage.paragraphs)
            placed.faults.append((0, f"There is no paragraph {mark.paragraph}; they go from 1 to {count}."))
            continue
        found = _find(passage, mark, last.get(mark.paragraph))
        fault = found if isinstance(found, str) else _fault(passage, mark, found, placed.spans, speakers)
        if fault:
            placed.faults.append((mark.paragraph, f"Paragraph {mark.paragraph}: {fault}"))
        elif not isinstance(found, str):
            last[mark.paragraph] = found
            named = speakers.get(_name(mark.speaker)) if mark.kind == "quote" else None
            placed.spans.append(Span(*found, mark.kind, named))
    placed.spans.sort(key=lambda span: (span.start, -span.end))
    placed.faults += _unmarked(passage, placed.spans)
    return placed


def _name(speaker: str) -> str:
    return " ".join(speaker.split()).casefold()


def _find(passage: Passage, mark: Mark, last: tuple[int, int] | None) -> tuple[int, int] | str:
    """Return the place that a mark means, or what is wrong with its words."""
    first, stop = passage.paragraphs[mark.paragraph - 1]
    text = passage.text[first:stop].translate(_FOLDED)
    begins, ends = mark.begins.strip().translate(_FOLDED), mark.ends.strip().translate(_FOLDED)
    if not begins:
        return "a mark does not say with which words it begins."
    # First after the mark before, then within it, then anywhere: marks come in order, mostly.
    starts = [text.find(begins, at - first) for at in (last[1], last[0] + 1)] if last else []
    start = next((at for at in (*starts, text.find(begins)) if at >= 0), -1)
    if start < 0:
        return f"the words {mark.begins[:80]!r} do not stand there; copy them exactly."
    end = start + len(begins)
    if ends and not begins.endswith(ends):
        at = text.find(ends, start)
        if at < 0:
            return f"the words {mark.ends[:80]!r} do not stand after {mark.begins[:40]!r}; copy them exactly."
        end = max(end, at + len(ends))
    return _with_marks(passage.text, first + start, first + end, (first, stop), mark.kind)


def _with_marks(text: str, start: int, end: int, within: tuple[int, int], kind: str) -> tuple[int, int]:
    """Take in the quotation marks round a stretch of speech that the model left outside."""
    if kind not in ("quote", "other"):
        return start, end
    opener = text[start]
    before = text[max(within[0], start - 2) : start].rstrip(_SPACE)[-1:]
    if opener not in _CLOSERS and before in _CLOSERS:
        opener, start = before, text.rindex(before, 0, start)
    closers = _CLOSERS.get(opener, "")
    after = _AFTER.match(text, end, within[1])
    if closers and text[end - 1] not in closers and after and after[1] in closers:
        end = after.end()
    return start, end


def _fault(
    passage: Passage,
    mark: Mark,
    found: tuple[int, int],
    spans: list[Span],
    speakers: Mapping[str, str],
) -> str:
    """Return what is wrong with a mark that was found; empty if nothing."""
    start, end = found
    told = passage.text[start:end]
    for span in spans:
        apart = end <= span.start or span.end <= start
        nested = (span.start <= start and end <= span.end) or (start <= span.start and span.end <= end)
        if not apart and (not nested or span.kind == mark.kind):
            return (
                f"the mark {told[:40]!r} overlaps another; only different kinds may nest, one wholly inside."
            )
    if mark.kind != "quote":
        return ""
    if told[0] in _DOUBLE and any(closer in told[1:-1] for closer in _CLOSERS.get(told[0], "")):
        return f"the speech {told[:40]!r} is interrupted by narration; mark each part of it by itself."
    name = _name(mark.speaker)
    if name != UNKNOWN and name not in speakers:
        return f"the speaker {mark.speaker[:60]!r} is not in the cast; use a name from it, or {UNKNOWN!r}."
    return ""


def _unmarked(passage: Passage, spans: list[Span]) -> list[tuple[int, str]]:
    """Find text in double quotation marks that no mark touches."""
    faults: list[tuple[int, str]] = []
    for number, (start, stop) in enumerate(passage.paragraphs, 1):
        taken = [span for span in spans if span.kind in ("quote", "other") and start <= span.start < stop]
        for quoted in _QUOTED.finditer(passage.text, start, stop):
            if all(span.end <= quoted.start() or quoted.end() <= span.start for span in taken):
                told = f"Paragraph {number}: {quoted[0][:60]!r} has no mark; mark it as quote, or as other."
                faults.append((number, told))
    return faults


def tagged_events(text: str, spans: list[Span]) -> list[Event]:
    """Return the text with its tags; spans nest, and stand in order of their start, longer ones first."""
    events: list[Event] = []
    opened: list[tuple[int, Kind]] = []
    at = 0

    def go_to(place: int) -> None:
        nonlocal at
        if place > at:
            events.append(Text(text[at:place]))
            at = place

    for span in spans:
        if span.kind == "other" or (span.kind == "quote" and span.speaker is None):
            continue
        while opened and opened[-1][0] <= span.start:
            go_to(opened[-1][0])
            events.append(Close(opened.pop()[1]))
        go_to(span.start)
        events.append(Open(span.kind, span.speaker))
        opened.append((span.end, span.kind))
    while opened:
        go_to(opened[-1][0])
        events.append(Close(opened.pop()[1]))
    go_to(len(text))
    return events
