"""Speech that a narrator breaks: "— Oui, dit-il, je viens.", with dashes or with commas alone."""

import re

from spellbound.data.annotators.rules.phrases import Phrases, telling_after

Span = tuple[int, int]

DASH = re.compile(r"[—–―]{1,2}|--|(?<![\w-])-(?=\s|\w|¡|¿|«|\")|(?<=[\s\w.,!?…])-(?=[\s.,;:!?…])")
_COMMA = re.compile(r"[,?!…;.][»”\"]?\s+(?:[—–-]\s?)?(?=\w)")
_END = re.compile(r"[.!?…;:,](?=\s|$|[—–»”\"])|[—–―](?=\s|\S)|(?<=\s)-\s")
_ABBREVIATED = re.compile(r"(?:^|\W)(?:\w|mr|mrs|dr|st|sr|sra|mme|mlle|don|sig|d|v|m)$", re.IGNORECASE)


def speech_parts(phrases: Phrases, start: int, end: int, *, dashes: bool) -> list[Span]:
    """What of a stretch of speech is spoken: the stretch without the narrator's incises.

    With `dashes`, a dash may open and close an incise.
    """
    parts: list[Span] = []
    for begin, stop in _between_dashes(phrases, start, end) if dashes else [(start, end)]:
        parts += _between_commas(phrases, begin, stop)
    return [trimmed for part in parts if (trimmed := _trimmed(phrases.words.text, *part))]


def _between_dashes(phrases: Phrases, start: int, end: int) -> list[Span]:
    text = phrases.words.text
    lead = DASH.match(text, start)
    dashes = list(DASH.finditer(text, lead.end() if lead else start, end))
    parts: list[Span] = []
    begin, number = start, 0
    while number < len(dashes):
        dash = dashes[number]
        number += 1
        if not _begins_incise(phrases, dash.end(), end):
            continue
        parts.append((begin, dash.start()))
        if number == len(dashes):
            return parts
        begin = dashes[number].end()
        number += 1
    return [*parts, (begin, end)]


def _begins_incise(phrases: Phrases, place: int, end: int) -> bool:
    words = phrases.words
    index, stop = words.first_at(place), words.first_at(end)
    if index >= stop or (
        not words.written[index][0].islower() and index not in phrases.names and phrases.lexicon.cased
    ):
        return False
    telling = telling_after(phrases, index, min(stop, index + 7))
    return telling is not None and (
        telling.verb == index or telling.subject is not None or _light(phrases, index, telling.verb)
    )


def _light(phrases: Phrases, index: int, verb: int) -> bool:
    return all(phrases.words.keys[at] in phrases.lexicon.skipped for at in range(index, verb))


def _between_commas(phrases: Phrases, start: int, end: int) -> list[Span]:
    """Cut out what begins after a comma with a speech verb and its subject, up to the next comma or stop."""
    text, parts, begin, place = phrases.words.text, [], start, start
    while match := _COMMA.search(text, place, end):
        place = match.end()
        if not _is_incise(phrases, match.end(), end, after_stop=match[0][0] == "."):
            continue
        parts.append((begin, match.start() + len(match[0].rstrip(" \t\n\u00a0—–-"))))
        begin = place = _incise_end(phrases, match.end(), end)
    return [*parts, (begin, end)]


def _is_incise(phrases: Phrases, place: int, end: int, *, after_stop: bool) -> bool:
    words, known = phrases.words, phrases.lexicon
    index, stop = words.first_at(place), words.first_at(end)
    if index >= stop or not words.written[index][0].islower():
        return _names_then_tells(phrases, index, stop) and not after_stop
    telling = telling_after(phrases, index, min(stop, index + 8))
    if telling is None or telling.subject is None:
        return False
    if telling.subject.first > telling.verb or _light(phrases, index, telling.subject.first):
        inverted = telling.subject.first > index and telling.subject.kind != "noun"
        return inverted or telling.subject.first > telling.verb or not known.incise
    return False


def _names_then_tells(phrases: Phrases, index: int, stop: int) -> bool:
    """Whether "Stephen said" stands here, as in English texts with dashes."""
    if index >= stop or phrases.lexicon.incise or index not in phrases.names:
        return False
    last = phrases.names[index]
    return (
        "," not in phrases.words.gap(last - 1)
        and telling_after(phrases, index, min(stop, last + 2)) is not None
    )


def _incise_end(phrases: Phrases, place: int, end: int) -> int:
    """The place after an incise: behind its last comma or stop."""
    words, text = phrases.words, phrases.words.text
    while match := _END.search(text, place, end):
        place = match.end()
        if match[0] == "." and _ABBREVIATED.search(text, max(0, match.start() - 6), match.start()):
            continue
        following = words.first_at(place)
        goes_on = (
            following < len(words)
            and words.starts[following] < end
            and (words.keys[following] in phrases.lexicon.incise_goes_on)
        )
        if match[0] != "," or not goes_on:
            return place
    return end


def _trimmed(text: str, start: int, end: int) -> Span | None:
    """A part without the white space and stray stops round it; nothing where no word is left."""
    while start < end and (text[start].isspace() or text[start] in ".,;:"):
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return (start, end) if any(char.isalnum() for char in text[start:end]) else None
