"""A tagged story as its paragraphs: the smallest pieces that prompts and completions are made of."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from spellbound.data.checks.words import names as has_name
from spellbound.data.documents import SCENE_BREAK
from spellbound.data.instructions.marks import without_outer_marks
from spellbound.data.tagged import TaggedStory
from spellbound.directives import Character, Close, Event, Open, Text, parse, render

Marks = Literal["keep", "strip"]

_BLANK_LINE = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
_WORD = re.compile(r"\w+")
_LONGEST_TITLE = 8
_DIVISION = re.compile(
    r"\W*(?:(?:chapter|kapitel|chapitre|cap[ií]tulo|capitolo|hoofdstuk|part|teil|partie|parte|deel)\b"
    r"|(?:[\w.]+ )?(?:act|akt|aufzug|auftritt|szene|scene|acto|jornada|escena|bedrij[fv]|bedryf|too?neel"
    r"|acte|scène|atto|scena|ato|cena|kapitel|chapitre|hoofdstuk)\b|[ivxlcdm]+\.?$|\d+\.?$|الفصل|פרק)",
    re.IGNORECASE,
)
_ENDINGS = tuple(".!?…:;,”“»«\"'’)")


@dataclass(frozen=True, slots=True)
class Unit:
    """One paragraph, or several where a tag goes on over their ends."""

    markup: str
    words: int
    speakers: frozenset[str]
    named: frozenset[int]
    """Places in the cast of those whose names stand in it."""
    head: bool
    """A heading, a scene break or a title: it belongs to what follows."""
    division: bool
    """Whether a chapter, an act or a scene begins with it."""
    doubtful: bool


class Units:
    """The paragraphs of a story, with sums for windows to be found fast."""

    def __init__(self, story: TaggedStory, marks: Marks = "keep") -> None:
        """Read a story once; time and memory are linear in its length."""
        names = Names(story)
        spans = _merged(story.doubtful)
        self.units: list[Unit] = []
        at = 0
        for events in paragraphs(parse(story.text)):
            text = "".join(event.text for event in events if isinstance(event, Text))
            if text.strip():
                doubtful = _overlaps(spans, at, at + len(text))
                self.units.append(_unit(events, text, names, marks, doubtful=doubtful))
            at += len(text)
        self._words = [0, *accumulate(unit.words for unit in self.units)]
        self._doubtful = [0, *accumulate(unit.words * unit.doubtful for unit in self.units)]
        self._seen: dict[int, list[int]] = {}
        ids = {character.speaker_id: place for place, character in enumerate(story.cast)}
        for place, unit in enumerate(self.units):
            for who in unit.named | {ids[speaker] for speaker in unit.speakers if speaker in ids}:
                self._seen.setdefault(who, []).append(place)

    def words(self, first: int, stop: int) -> int:
        """Words of units first to stop - 1."""
        return self._words[stop] - self._words[first]

    def doubtful_share(self, first: int, stop: int) -> float:
        """Share of these words that stand in paragraphs with a doubtful speaker."""
        return (self._doubtful[stop] - self._doubtful[first]) / max(1, self.words(first, stop))

    def start_from(self, place: int) -> int:
        """The first unit from `place` on that does not stand right after a heading."""
        while 0 < place < len(self.units) and self.units[place - 1].head:
            place += 1
        return place

    def first_for(self, stop: int, words: int) -> int:
        """The first unit of the longest stretch before `stop` that has at most so many words."""
        return min(stop, bisect_left(self._words, self._words[stop] - words))

    def markup(self, first: int, stop: int) -> str:
        """These units as one text."""
        return "\n\n".join(unit.markup for unit in self.units[first:stop])

    def who_is_in(self, first: int, stop: int) -> list[int]:
        """Places in the cast of those who speak or are named in these units."""
        return [who for who, seen in self._seen.items() if _within(seen, first, stop)]


def paragraphs(events: list[Event]) -> Iterator[list[Event]]:
    """Events cut at blank lines outside of tags; every second piece is such a blank line."""
    piece: list[Event] = []
    depth = 0
    for event in events:
        if not isinstance(event, Text):
            depth += 1 if isinstance(event, Open) else -1
            piece.append(event)
            continue
        if depth:
            piece.append(event)
            continue
        done = 0
        for blank in _BLANK_LINE.finditer(event.text):
            if blank.start() > done:
                piece.append(Text(event.text[done : blank.start()]))
            yield piece
            yield [Text(blank[0])]
            piece, done = [], blank.end()
        if done < len(event.text):
            piece.append(Text(event.text[done:]))
    yield piece


def _unit(events: list[Event], text: str, names: "Names", marks: Marks, *, doubtful: bool) -> Unit:
    kept = without_outer_marks(events) if marks == "strip" else events
    speakers = {event.speaker for event in events if isinstance(event, Open) and event.speaker}
    tagged = any(isinstance(event, (Open, Close)) for event in events)
    return Unit(
        markup=render(kept, "tagged").strip("\n"),
        words=len(text.split()),
        speakers=frozenset(speakers),
        named=names.within(text),
        head=not tagged and (is_division(text) or _is_title(text)),
        division=not tagged and is_division(text),
        doubtful=doubtful,
    )


def is_division(text: str) -> bool:
    """Whether a paragraph says that a chapter, an act or a scene begins, or is a scene break."""
    bare = text.strip()
    if bare == SCENE_BREAK or not any(char.isalnum() for char in bare):
        return True
    return len(bare) < 60 and "\n" not in bare and _DIVISION.match(bare) is not None


def _is_title(text: str) -> bool:
    """Whether a paragraph is short, on one line, and no sentence; in scripts without capitals none is."""
    bare = text.strip()
    short = "\n" not in bare and len(bare.split()) <= _LONGEST_TITLE
    return short and not bare.endswith(_ENDINGS) and bare.lower() != bare.upper()


def aliases(character: Character) -> list[str]:
    """Other names on a character's sheet."""
    listed = dict(character.details).get("Aliases", "")
    return [alias for alias in re.split(r"[;,]\s*", listed) if alias]


class Names:
    """Finds a cast in text by the words of their names that only one of them has.

    Words that the story mostly writes small, as articles, are none; those who speak together have none.
    """

    def __init__(self, story: TaggedStory) -> None:
        """Read the cast of a story."""
        told = Counter(_WORD.findall(story.text))
        owners: dict[str, set[int]] = {}
        for place, character in enumerate(story.cast):
            names = " ".join([character.name, character.name.title(), *aliases(character)])
            for word in set(_WORD.findall(names)) if "Members" not in dict(character.details) else ():
                if len(word) > 2 and word[0].upper() == word[0] and told[word.lower()] <= told[word]:
                    owners.setdefault(word, set()).add(place)
        self._owners = {word: next(iter(places)) for word, places in owners.items() if len(places) == 1}
        self._cast = [character.name for character in story.cast]

    def own(self, name: str) -> list[str]:
        """The words that mean the one of this name and nobody else, in the order of the name."""
        mine = {word for word, place in self._owners.items() if self._cast[place] == name}
        return [word for word in dict.fromkeys(_WORD.findall(name)) if word in mine]

    def without_others(self, name: str, text: str) -> str:
        """The text without the longer names that this one is a part of: no `Mrs. Hale` for `Hale`."""
        longer = {other for other in self._cast if len(other) > len(name) and has_name(name, other)}
        for other in sorted(longer, key=lambda each: (-len(each), each)):
            text = text.replace(other, "")
        return text

    def within(self, text: str) -> frozenset[int]:
        """Places in the cast of those whose names are words of the text."""
        return frozenset(self._owners[word] for word in _WORD.findall(text) if word in self._owners)


def _merged(spans: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    made: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if made and start <= made[-1][1]:
            made[-1] = (made[-1][0], max(end, made[-1][1]))
        else:
            made.append((start, end))
    return made


def _overlaps(spans: list[tuple[int, int]], start: int, end: int) -> bool:
    """Whether one of the sorted, disjoint spans has a character in [start, end)."""
    at = bisect_left(spans, (end, -1)) - 1
    return at >= 0 and spans[at][1] > start


def _within(places: list[int], first: int, stop: int) -> bool:
    at = bisect_left(places, first)
    return at < len(places) and places[at] < stop
