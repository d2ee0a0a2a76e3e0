"""What the text around each quote says about who speaks: turns with their evidence."""

import re
from dataclasses import dataclass, field
from itertools import pairwise

from spellbound.data.annotators.rules.lexicon import Gender
from spellbound.data.annotators.rules.names import vocatives
from spellbound.data.annotators.rules.people import People
from spellbound.data.annotators.rules.phrases import (
    Phrases,
    Subject,
    first_subject,
    telling_after,
    telling_before,
)
from spellbound.data.annotators.rules.quotes import Quote

_CLAUSE = re.compile(r"[.!?…][\"”»’)]*\s+")
_LEADS = (":", ",", ";", "—", "–", "-")


@dataclass(slots=True)
class Turn:
    """Quotes of one paragraph that one figure speaks, and what is known of the speaker."""

    paragraph: int
    quotes: list[int]
    linked: bool = False
    """Goes on from the turn before."""
    known: int | None = None
    """The figure that a speech verb names."""
    kin: int | None = None
    """The figure described by "his mother", who may be one with a name."""
    wed: bool = False
    """Described as somebody's wife, husband or parent."""
    kind: str = ""
    """How the text says who speaks: name, noun, pronoun, or nothing."""
    gender: Gender = ""
    beats: list[int] = field(default_factory=list)
    """Figures who do something in the narration beside the quotes, the nearest first."""
    beat_gender: Gender = ""
    led: bool = False
    """The narration before ends with a colon."""
    called: set[int] = field(default_factory=set)
    """Figures who are addressed in the quotes."""
    named: set[int] = field(default_factory=set)
    """Figures who are named in the quotes."""


class TurnReader:
    """Reads the turns of one text."""

    def __init__(
        self, phrases: Phrases, people: People, quotes: list[Quote], paragraphs: list[tuple[int, int]]
    ) -> None:
        """Take a text whose quotes and names are found."""
        self.phrases = phrases
        self.words = phrases.words
        self.people = people
        self.quotes = quotes
        self.paragraphs = paragraphs
        self.called: dict[int, set[int]] = {}
        self._find_called()

    def turns(self) -> list[Turn]:
        """All turns in order."""
        found: list[Turn] = []
        for number, quote in enumerate(self.quotes):
            subject = self._explicit(number)
            last = found[-1] if found and found[-1].paragraph == quote.paragraph else None
            if last is None or self._other(last, subject):
                last = Turn(quote.paragraph, [], linked=quote.linked and last is None)
                found.append(last)
            last.quotes.append(number)
            last.called |= self.called.get(number, set())
            last.named |= self._named(number)
            if subject is not None:
                self._tell(last, subject)
        for turn in found:
            self._beats(turn)
        return found

    def _tell(self, turn: Turn, subject: Subject | Gender) -> None:
        """Put down who speaks, unless the turn knows better already."""
        if isinstance(subject, str):
            turn.gender = turn.gender or subject
            turn.kind = turn.kind or "verb"
            return
        if subject.kind == "noun" and subject.head in self.phrases.lexicon.kin and subject.gender:
            turn.kind, turn.gender = turn.kind or "noun", turn.gender or subject.gender
            turn.kin = self.figure(subject) if turn.kin is None else turn.kin
            turn.wed = turn.wed or subject.head in self.phrases.lexicon.wed
            return
        figure = self.figure(subject)
        if figure is not None and self.people.figures[figure].outsider:
            turn.kind, turn.gender = (
                turn.kind or subject.kind,
                turn.gender or self.people.figures[figure].gender,
            )
            turn.kin = figure if turn.kin is None else turn.kin
        elif figure is not None and turn.known is None:
            turn.known, turn.kind = figure, subject.kind
        elif turn.known is None and subject.gender:
            turn.kind = "noun" if subject.kind == "noun" else "pronoun"
            turn.gender = turn.gender or subject.gender
        elif not turn.kind:
            turn.kind = "other"

    def figure(self, subject: Subject) -> int | None:
        """The figure that a name, a description or "I" means."""
        if subject.kind == "name":
            return self.people.at.get(subject.first)
        if subject.kind == "noun":
            return self.people.described(subject)
        return self.people.narrator() if subject.who == "first" else None

    def _other(self, turn: Turn, subject: Subject | Gender | None) -> bool:
        """Whether somebody else than the turn's speaker is meant."""
        if subject is None or isinstance(subject, str):
            return False
        figure = self.figure(subject)
        if subject.kind == "pronoun" and turn.kind == "pronoun" and subject.gender and turn.known is not None:
            return True
        if figure is not None and turn.known is not None:
            return figure != turn.known and not (subject.kind == "noun" or turn.kind == "noun")
        gender = self.people.figures[figure].gender if figure is not None else subject.gender
        before = self.people.figures[turn.known].gender if turn.known is not None else turn.gender
        return bool(gender and before and gender != before)

    def _explicit(self, number: int) -> Subject | Gender | None:
        """Who speaks, by the verb after or before a quote; "female" or "male" where the verb alone tells."""
        quote, words, text = self.quotes[number], self.words, self.words.text
        start, end = self.paragraphs[quote.paragraph]
        if number + 1 < len(self.quotes) and self.quotes[number + 1].paragraph == quote.paragraph:
            end = min(end, self.quotes[number + 1].start)
        first = words.first_at(quote.end)
        stopped = text[quote.start : quote.end].rstrip("\"”»’'“«").rstrip()[-1:] == "."
        fresh = (
            stopped
            and first < len(words)
            and words.written[first][0].isupper()
            and self.phrases.lexicon.cased
        )
        leads = not self.phrases.lexicon.cased and text[quote.end : end].rstrip().endswith(":")
        if not fresh and not leads and not text[quote.end : quote.end + 1].isalnum():
            told = telling_after(self.phrases, first, words.first_at(end))
            if told is not None and (told.subject or told.gender):
                return told.subject or told.gender
        lead = self._lead(number, start)
        if lead is not None:
            told = telling_before(self.phrases, *lead)
            if told is not None and (told.subject or told.gender):
                return told.subject or told.gender
        return None

    def _lead(self, number: int, start: int) -> tuple[int, int] | None:
        """Words of the clause that leads to a quote, which may end the paragraph before."""
        quote, text = self.quotes[number], self.words.text
        before = self.quotes[number - 1] if number else None
        begin = start
        if before is not None and before.paragraph == quote.paragraph:
            begin = before.end
        stop = quote.start
        if not text[begin:stop].strip():
            if begin != start or quote.linked or not quote.paragraph:
                return None
            begin, stop = self.paragraphs[quote.paragraph - 1]
            if before is not None and before.paragraph == quote.paragraph - 1:
                begin = before.end
            if not text[begin:stop].rstrip().endswith((":", ":--", ":—", ":–")):
                return None
        tail = text[begin:stop].rstrip()
        if not tail.endswith(_LEADS) and tail[-1:] in ".!?…":
            return None
        clause = [match.end() for match in _CLAUSE.finditer(tail)]
        begin += clause[-1] if clause else 0
        first, last = self.words.first_at(begin), self.words.first_at(stop)
        return (first, last) if first < last else None

    def _find_called(self) -> None:
        places = iter(vocatives(self.words, self.people.ends, self.quotes))
        number = 0
        for place in places:
            start = self.words.starts[place]
            while number + 1 < len(self.quotes) and self.quotes[number + 1].start <= start:
                number += 1
            self.called.setdefault(number, set()).add(self.people.at[place])

    def _named(self, number: int) -> set[int]:
        quote = self.quotes[number]
        places = range(self.words.first_at(quote.start), self.words.first_at(quote.end))
        return {self.people.at[place] for place in places if place in self.people.at}

    def _beats(self, turn: Turn) -> None:
        """Find who acts in the sentence before the first quote and in the one after the last."""
        start, end = self.paragraphs[turn.paragraph]
        first, last = self.quotes[turn.quotes[0]], self.quotes[turn.quotes[-1]]
        begin, stop = start, end
        if turn.quotes[0] and self.quotes[turn.quotes[0] - 1].paragraph == turn.paragraph:
            begin = self.quotes[turn.quotes[0] - 1].end
        if (
            turn.quotes[-1] + 1 < len(self.quotes)
            and self.quotes[turn.quotes[-1] + 1].paragraph == turn.paragraph
        ):
            stop = self.quotes[turn.quotes[-1] + 1].start
        spans = [(begin, first.start), (last.end, stop)]
        for one, two in pairwise(turn.quotes):
            spans.append((self.quotes[one].end, self.quotes[two].start))
        text = self.words.text
        if not text[begin : first.start].strip() and turn.paragraph and begin == start:
            above = self.paragraphs[turn.paragraph - 1]
            if text[slice(*above)].rstrip().endswith((":", ":--", ":—")):
                turn.led = True
                spans.insert(0, above)
        for number, (begin, stop) in enumerate(spans):
            self._beat(turn, begin, stop, from_end=number == 0)

    def _beat(self, turn: Turn, begin: int, stop: int, *, from_end: bool) -> None:
        if not any(char.isalpha() for char in self.words.text[begin:stop]):
            return
        clauses = [
            begin,
            *(match.end() + begin for match in _CLAUSE.finditer(self.words.text[begin:stop])),
            stop,
        ]
        pairs = [(one, two) for one, two in pairwise(clauses) if self.words.text[one:two].strip()]
        if not pairs:
            return
        one, two = pairs[-1] if from_end else pairs[0]
        subject = first_subject(self.phrases, self.words.first_at(one), self.words.first_at(two))
        if subject is None:
            return
        if (figure := self.figure(subject)) is not None:
            turn.beats.append(figure)
        elif subject.gender and not turn.beat_gender:
            turn.beat_gender = subject.gender
