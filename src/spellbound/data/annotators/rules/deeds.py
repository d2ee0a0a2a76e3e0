"""Actions and sounds in narration: sentences whose subject and verb say so. Too few rather than too many."""

import re
from collections.abc import Collection, Iterator

from spellbound.data.annotators.rules.analysis import Analysis
from spellbound.data.annotators.rules.phrases import Subject

Span = tuple[int, int]

_STOP = re.compile(r"(?<![.!?…])[.!?…]++(?=[\s\"”»’)*]|$)")
_LONGEST_ACTION = 30
_LONGEST_SOUND = 22
_LONGEST_CRY = 6


def narration(found: Analysis) -> Iterator[Span]:
    """What stands between the quotes, paragraph by paragraph."""
    quotes = iter(found.quotes)
    quote = next(quotes, None)
    for number, (start, end) in enumerate(found.paragraphs):
        place = start
        while quote is not None and quote.paragraph == number:
            yield place, quote.start
            place, quote = quote.end, next(quotes, None)
        yield place, end


def sentences(text: str, start: int, end: int) -> Iterator[Span]:
    """Whole sentences of a stretch of narration; what a quote cuts off is none."""
    for match in _STOP.finditer(text, start, end):
        while start < match.start() and text[start].isspace():
            start += 1
        if start < match.start():
            yield start, match.end()
        start = match.end()


def actions(found: Analysis, figures: Collection[int]) -> list[Span]:
    """Sentences in which one of the figures does something that can be seen."""
    text = found.words.text
    return [
        span
        for stretch in narration(found)
        for span in sentences(text, *stretch)
        if _is_action(found, figures, *span)
    ]


def sounds(found: Analysis) -> list[Span]:
    """Sentences in which something is heard."""
    text = found.words.text
    return [
        span for stretch in narration(found) for span in sentences(text, *stretch) if _is_sound(found, *span)
    ]


def _is_action(found: Analysis, figures: Collection[int], start: int, end: int) -> bool:
    words, known = found.words, found.phrases.lexicon
    first, last = words.first_at(start), words.first_at(end)
    if not 2 <= last - first <= _LONGEST_ACTION or not text_begins(found, start):
        return False
    spelled = words.keys[first:last]
    if any(word in known.verbs and word not in known.actions for word in spelled):
        return False
    if spelled[0] in known.actions:
        subject = found.phrases.at(first + 1, last)
        return subject is not None and subject.kind == "name" and _is_figure(found, subject, figures)
    subject = found.phrases.at(first, last)
    if subject is None or not _is_figure(found, subject, figures):
        return False
    if words.text[words.ends[subject.last - 1] :][:2] in ("'s", "’s"):
        return False
    for at in range(subject.last, min(subject.last + 3, last)):
        if words.before(at).strip():
            return False
        if words.keys[at] in known.actions:
            return True
        if words.keys[at] not in known.skipped and not known.is_adverb(words.keys[at]):
            return False
    return False


def text_begins(found: Analysis, start: int) -> bool:
    """Whether a sentence begins with a capital letter, where the language has them."""
    return not found.phrases.lexicon.cased or found.words.text[start].isupper()


def _is_figure(found: Analysis, subject: Subject, figures: Collection[int]) -> bool:
    people = found.people
    if subject.kind == "name":
        return people.at.get(subject.first) in figures
    if subject.kind == "noun":
        return any(subject.head in people.figures[number].heads for number in figures)
    if subject.who == "first":
        return any(people.figures[number].narrator for number in figures)
    return bool(subject.gender) and any(people.figures[number].gender == subject.gender for number in figures)


def _is_sound(found: Analysis, start: int, end: int) -> bool:
    words, known = found.words, found.phrases.lexicon
    first, last = words.first_at(start), words.first_at(end)
    spelled = words.keys[first:last]
    if not spelled or len(spelled) > _LONGEST_SOUND:
        return False
    if len(spelled) <= _LONGEST_CRY and all(word in known.onomatopoeia for word in spelled):
        return len(spelled) > 1 or words.text[end - 1] in "!…"
    if any(word in known.verbs and word not in known.sound_verbs for word in spelled):
        return False
    places = [at for at, word in enumerate(spelled) if word in known.sound_verbs]
    if not places or not text_begins(found, start):
        return False
    before = spelled[max(0, places[0] - 4) : places[0]]
    after = spelled[places[0] + 1 : places[0] + 4] if places[0] < 3 and not known.head_last else []
    nouns = [word for word in (*before, *after) if found.phrases.bare(word) in known.sound_nouns]
    return bool(nouns) and places[0] <= 6
