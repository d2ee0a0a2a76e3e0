"""Where somebody speaks: stretches in quotation marks or after dashes that are speech, without incises."""

import re
from dataclasses import dataclass

from spellbound.data.annotators.rules.incises import speech_parts
from spellbound.data.annotators.rules.marks import Marked, conventions, marked
from spellbound.data.annotators.rules.phrases import Phrases, telling_after, telling_before

_DIALOGUE = re.compile(r"\s*(?:[«“\"]\s?)?(?:[—–―]{1,2}|--|-)[\s\u00a0]*(?=[\w¿¡«“\"'(…*.!?-])")
_AFTER_COLON = re.compile(r":\s+[—–-]\s?(?=[^\W\d_a-z]|[¿¡])")
_BESIDE = 80
"""How far to look for what stands beside a stretch, in code points."""
_STOPPED = "!?….,;:—–-"


@dataclass(frozen=True, slots=True)
class Quote:
    """A stretch of speech, its marks included."""

    start: int
    end: int
    paragraph: int
    linked: bool = False
    """It goes on from the last quote of the paragraph before, with the same speaker."""
    sure: bool = True
    """Its end is marked."""


def find_quotes(phrases: Phrases, paragraphs: list[tuple[int, int]]) -> list[Quote]:
    """All speech of a text, in order."""
    text = phrases.words.text
    used = conventions(text, paragraphs, phrases.lexicon)
    dashes = _uses_dashes(text, paragraphs, phrases)
    found: list[Quote] = []
    for number, stretches in enumerate(marked(text, paragraphs, used)):
        start, end = paragraphs[number]
        if dashes and _DIALOGUE.match(text, start, end) and not any(each.linked for each in stretches):
            found += _after_dash(phrases, number, start, end)
            continue
        for stretch in stretches:
            found += _in_marks(phrases, number, stretch, start, end)
        if dashes and not stretches and (colon := _AFTER_COLON.search(text, start, end)):
            found += _after_dash(phrases, number, _dash_of(text, colon), end)
    return found


def _dash_of(text: str, colon: re.Match[str]) -> int:
    return colon.end() - len(colon[0].lstrip(": \t\n\u00a0"))


def _uses_dashes(text: str, paragraphs: list[tuple[int, int]], phrases: Phrases) -> bool:
    count = sum(_DIALOGUE.match(text, start, end) is not None for start, end in paragraphs)
    return count > 0 if phrases.lexicon.incise else count > 1


def _after_dash(phrases: Phrases, number: int, start: int, end: int) -> list[Quote]:
    """Speech of a paragraph that begins with a dash; a closing mark that nothing opened ends it."""
    text = phrases.words.text
    start += len(text[start:end]) - len(text[start:end].lstrip())
    close = text.find("»", start, end)
    if close >= 0 and "«" not in text[start:close]:
        end = close + 1
    parts = speech_parts(phrases, start, end, dashes=True)
    return [Quote(begin, stop, number) for begin, stop in parts]


def _in_marks(phrases: Phrases, number: int, stretch: Marked, start: int, end: int) -> list[Quote]:
    if not stretch.linked and not is_speech(phrases, stretch, start, end):
        return []
    parts = [(stretch.start, stretch.end)]
    if phrases.lexicon.incise:
        parts = speech_parts(phrases, stretch.start, stretch.end, dashes=True) or parts
    return [
        Quote(begin, stop, number, stretch.linked and index == 0, stretch.closed)
        for index, (begin, stop) in enumerate(parts)
    ]


def is_speech(phrases: Phrases, stretch: Marked, start: int, end: int) -> bool:
    """Whether a stretch in marks is spoken, rather than a title, a nickname or a doubted word."""
    text, words = phrases.words.text, phrases.words
    inner = text[stretch.start + 1 : stretch.end - stretch.closed].strip()
    if not any(char.isalnum() for char in inner):
        return False
    before = text[max(start, stretch.start - _BESIDE) : stretch.start].rstrip()
    after = text[stretch.end : min(end, stretch.end + _BESIDE)].lstrip()
    spoken = words.written[words.first_at(stretch.start) : words.first_at(stretch.end)]
    if not before:
        return bool(after) or inner[-1] in _STOPPED or not _capitals(spoken)
    begins = spoken[0][0].isupper() or inner[0] in "'’" or not phrases.lexicon.cased
    if before[-1] == ":":
        return inner[-1] in _STOPPED or len(spoken) > 3 or _told(phrases, stretch, start, end)
    if before[-1] in ",;":
        return begins or len(spoken) > 2 or _told(phrases, stretch, start, end)
    if not before[-1].isalnum():
        return begins or len(spoken) > 3 or _told(phrases, stretch, start, end)
    if not begins or inner[-1] not in _STOPPED:
        return False
    return (inner[-1] != "," and len(spoken) > 3) or _told(phrases, stretch, start, end)


def _told(phrases: Phrases, stretch: Marked, start: int, end: int) -> bool:
    """Whether a speech verb stands beside a stretch."""
    words = phrases.words
    after, stop = words.first_at(stretch.end), words.first_at(end)
    if telling_after(phrases, after, min(stop, after + 6)) is not None:
        return True
    before = words.first_at(stretch.start)
    telling = telling_before(phrases, max(words.first_at(start), before - 4), before)
    return telling is not None


def _capitals(written: list[str]) -> bool:
    """Whether all words of some length have a capital, as in titles."""
    long = [word for word in written if len(word) > 3]
    return bool(long) and all(word[0].isupper() for word in long)
