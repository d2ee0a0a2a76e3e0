"""Quotation marks: which ones a text uses for speech, and where speech in them begins and ends."""

import re
from collections import Counter
from dataclasses import dataclass

from spellbound.data.annotators.rules.lexicon import Lexicon
from spellbound.data.annotators.rules.words import key

_MARK = re.compile("[\"“”„‟«»‘’‚'״]")
_BEFORE_OPENING = "([{—–―-…:;,¿¡\"“„«‘'/"
_AFTER_OPENING = re.compile(r"[\w¿¡\"“„‘'’(\[…—–.-]")
_WORD = re.compile(r"\w+")
_AHEAD = 12
"""Marks to look at before a single one is taken for an apostrophe."""
_SINGLES = "'‘’‚"


@dataclass(frozen=True, slots=True)
class Marked:
    """A stretch in quotation marks, marks included, within one paragraph."""

    start: int
    end: int
    closed: bool = True
    linked: bool = False
    """It goes on from the paragraph before."""


@dataclass(frozen=True, slots=True)
class Conventions:
    """For each opening mark that a text uses for speech, the marks that close it."""

    closers: dict[str, str]
    elided: frozenset[str]
    """Words that begin with an apostrophe."""


def conventions(text: str, paragraphs: list[tuple[int, int]], lexicon: Lexicon) -> Conventions:
    """Find out which marks a text uses: single or double ones, guillemets that point in or out."""
    heads = {start + len(text[start:end]) - len(text[start:end].lstrip()) for start, end in paragraphs}
    opening: Counter[str] = Counter()
    first: Counter[str] = Counter()
    for match in _MARK.finditer(text):
        if _may_open(text, match.start(), 0) and not _elided(text, match.start(), lexicon.elided):
            opening[match[0]] += 1
            first[match[0]] += match.start() in heads
    singles = sum(first[mark] for mark in "'‘‚")
    doubles = sum(first[mark] for mark in '"“„«»”״')
    closers = {'"': '"״', "״": '״"'}
    closers |= {"„": '“”"‟'} if opening["„"] else {}
    if opening["„"] <= opening["“"]:
        closers["“"] = '”"'
    closers |= {"»": "«"} if opening["»"] > opening["«"] else {"«": "»"}
    if opening["”"] > opening["“"] + opening["„"]:
        closers["”"] = "”"
    if singles > doubles or (not singles and not doubles and _mostly_single(opening)):
        closers |= {"'": "'’", "‘": "’'"} | ({"‚": "‘’"} if opening["‚"] else {})
    return Conventions(closers, lexicon.elided)


def _mostly_single(opening: Counter[str]) -> bool:
    return sum(opening[mark] for mark in "'‘") > sum(opening[mark] for mark in '"“„«»”״')


def marked(text: str, paragraphs: list[tuple[int, int]], used: Conventions) -> list[list[Marked]]:
    """All stretches in quotation marks, paragraph by paragraph.

    A stretch left open goes on in the next paragraph if that begins with the mark again, or closes it before
    it opens another; else it ends with its paragraph.
    """
    found: list[list[Marked]] = []
    carried = ""
    for start, end in paragraphs:
        stretches, carried = _paragraph(text, start, end, used, carried)
        found.append(stretches)
    return found


def _paragraph(text: str, start: int, end: int, used: Conventions, carried: str) -> tuple[list[Marked], str]:
    places = [match.start() for match in _MARK.finditer(text, start, end)]
    places = [at for at in places if not _inside_word(text, at)]
    stretches: list[Marked] = []
    begin, mark, linked = _carry_on(text, start, end, places, carried, used)
    index = 0
    while index < len(places):
        at = places[index]
        index += 1
        if begin < 0:
            if text[at] in used.closers and _opens(text, at, start, used):
                begin, mark = at, text[at]
        elif (
            at > begin
            and text[at] in used.closers[mark]
            and _closes(text, at, end, mark, places[index : index + _AHEAD], used)
        ):
            stretches.append(Marked(begin, at + 1, True, linked))
            begin, linked = -1, False
    if begin < 0:
        return stretches, ""
    stop = begin + len(text[begin:end].rstrip())
    stretches.append(Marked(begin, stop, False, linked))
    return stretches, mark


def _carry_on(
    text: str, start: int, end: int, places: list[int], carried: str, used: Conventions
) -> tuple[int, str, bool]:
    """Where a stretch from the paragraph before goes on: place, mark, and whether it does."""
    head = start + len(text[start:end]) - len(text[start:end].lstrip())
    if not carried:
        return -1, "", False
    repeated = text[head] == carried or (carried == "«" and text[head] == "»")
    if repeated:
        return head, carried, True
    for number, at in enumerate(places):
        if text[at] in used.closers[carried] and not _may_open(text, at, start):
            rest = places[number + 1 : number + 1 + _AHEAD]
            if carried in _SINGLES and not _closes(text, at, end, carried, rest, used):
                continue
            return head, carried, True
        if text[at] in used.closers:
            break
    return -1, "", False


def _may_open(text: str, at: int, start: int) -> bool:
    before = text[at - 1] if at > start else " "
    following = at + 1
    if text[at] == "«" and text[following : following + 1].isspace():
        following += 1
    return (before.isspace() or before in _BEFORE_OPENING) and bool(_AFTER_OPENING.match(text, following))


def _opens(text: str, at: int, start: int, used: Conventions) -> bool:
    if text[at] in _SINGLES and _elided(text, at, used.elided):
        return False
    return _may_open(text, at, start)


def _closes(text: str, at: int, end: int, mark: str, rest: list[int], used: Conventions) -> bool:
    """Whether a closing mark closes; a single one after a letter may be an apostrophe (`th' door`)."""
    after = text[at + 1] if at + 1 < end else " "
    if mark not in _SINGLES:
        return True
    if after.isalnum() or text[at - 1].isspace():
        return False
    if not text[at - 1].isalpha():
        return True
    for later in rest:
        if text[later] in "'‘" and _may_open(text, later, at) and not _elided(text, later, used.elided):
            return True
        if (
            text[later] in used.closers[mark]
            and not text[later - 1].isalnum()
            and not text[later - 1].isspace()
        ):
            return False
    return True


def _elided(text: str, at: int, elided: frozenset[str]) -> bool:
    """Whether a single mark is the apostrophe of a word such as `'tis`."""
    if text[at] not in _SINGLES:
        return False
    word = _WORD.match(text, at + 1)
    return word is not None and key(word[0]) in elided


def _inside_word(text: str, at: int) -> bool:
    return 0 < at < len(text) - 1 and text[at - 1].isalpha() and text[at + 1].isalpha()
