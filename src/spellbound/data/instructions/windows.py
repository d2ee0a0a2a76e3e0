"""Windows: a long tagged story as many pairs of what has happened so far and how it goes on.

Cuts are at ends of paragraphs outside of tags, never between a heading and its text, and completions keep
away from doubtful speakers.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import get_args

from spellbound.data.instructions.marks import unwrapped
from spellbound.data.instructions.units import Marks, Units
from spellbound.data.tagged import TaggedStory
from spellbound.directives import MARKS, Character, Text, new_speaker_id, parse, render
from spellbound.errors import InputError

_SPEAKER = re.compile(r'(?<=<quote speaker=")[^"]*')


@dataclass(frozen=True, kw_only=True)
class WindowSettings:
    """How stories are cut. Lengths are words, as separated by white space; shares are between 0 and 1."""

    completion_words: tuple[int, int] = (60, 400)
    """Shortest and longest completion; what is aimed at is drawn log-uniformly between them."""
    past_words: tuple[int, int] = (30, 20_000)
    """Shortest and longest past story, drawn log-uniformly; the beginning of a story has what there is."""
    without_past: float = 0.05
    """Share that is asked to begin in the middle, without any past story."""
    overlap: float = 0.0
    """Share of a completion that the next one may have again; 0: every paragraph is learnt once."""
    most: int | None = None
    """At most so many windows of one story, spread by chance over it; None: all."""
    doubtful_past: float = 0.25
    """Share of a past story's words that may stand in paragraphs with a doubtful speaker."""
    distractors: int = 2
    """At most so many characters on the sheets who do not appear; how many is drawn for each window."""
    redraw_ids: bool = True
    """Draw new speaker IDs for every window, so that they can only be copied from the sheets."""
    marks: Marks = "keep"
    """What becomes of quotation marks at the ends of tagged speech: they stay, or they are taken off."""
    plain: float = 0.1
    """Share that asks for prose without tags; half of these have a past story without tags too."""
    seed: int = 0
    """What everything is drawn from, with the story's id."""

    def __post_init__(self) -> None:
        """Refuse what no story could be cut by."""
        for name in ("completion_words", "past_words"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # a file gives a list
            if len(getattr(self, name)) != 2:
                raise InputError(f"{name} {getattr(self, name)}: give two numbers, the smaller one first")
            low, high = getattr(self, name)
            if not 1 <= low <= high:
                raise InputError(f"{name} {low}, {high}: give two numbers from 1 on, the smaller one first")
        for name, limit in (("without_past", 1.0), ("overlap", 0.9), ("doubtful_past", 1.0), ("plain", 1.0)):
            if not 0 <= getattr(self, name) <= limit:
                raise InputError(
                    f"{name} {getattr(self, name)} is no share; give a number from 0 to {limit:g}"
                )
        if self.most is not None and self.most < 1:
            raise InputError(f"most {self.most}: give 1 or more, or leave it out for all windows")
        if self.distractors < 0:
            raise InputError(f"distractors {self.distractors}: give 0 or more")
        if self.marks not in get_args(Marks):
            raise InputError(f"marks {self.marks!r} is unknown; use keep or strip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One cut of a story. `first`, `start` and `stop` count its paragraphs: the past is [first, start)."""

    first: int
    start: int
    stop: int
    past: str
    """Markup; without tags in half of the windows that ask for plain prose."""
    completion: str
    """Markup; plain prose, in which only `<` and `>` are escaped, where `tags` is False."""
    characters: tuple[Character, ...]
    """Those who speak or are named in the past or in the completion, and distractors; in any order."""
    tags: bool
    opening: bool
    """Whether the completion begins the story or one of its chapters."""


def windows(story: TaggedStory, settings: WindowSettings | None = None) -> Iterator[Window]:
    """Cut a story into windows, in its order; the same story and settings give the same windows.

    Paragraphs longer than the longest completion, and those that nothing of enough words surrounds, are in no
    completion, only in past stories.
    """
    settings = settings or WindowSettings()
    units = Units(story, settings.marks)
    places = list(_completions(units, story.id, settings))
    if settings.most is not None and len(places) > settings.most:
        places = sorted(Random(f"{settings.seed} {story.id} most").sample(places, settings.most))
    for start, stop in places:
        rng = Random(f"{settings.seed} {story.id} {start} {stop}")
        first = _past(units, start, settings, rng)
        if first is not None:
            yield _window(story, units, (first, start, stop), settings, rng)


def _completions(units: Units, story: str, settings: WindowSettings) -> Iterator[tuple[int, int]]:
    """Paragraphs [start, stop) of one completion after the other."""
    least, most = settings.completion_words
    rng = Random(f"{settings.seed} {story}")
    start = 0
    while (start := units.start_from(start)) < len(units.units):
        wanted = _log_uniform(rng, least, most)
        stop, blocked = _grow(units, start, wanted, least, most)
        if units.words(start, stop) < least:
            start = max(start, blocked) + 1
            continue
        yield start, stop
        start = _next_start(units, start, stop, settings.overlap)


def _grow(units: Units, start: int, wanted: int, least: int, most: int) -> tuple[int, int]:
    """Where a completion from `start` on ends, and the paragraph that did not let it go on (-1: none)."""
    stop, blocked = start, -1
    while stop < len(units.units) and units.words(start, stop) < wanted:
        unit = units.units[stop]
        if unit.doubtful or units.words(start, stop) + unit.words > most:
            blocked = stop
            break
        if unit.division and stop > start:
            if units.words(start, stop) >= least:
                break
            if not units.units[start].division:  # a few last words of a chapter: begin with the next
                blocked = stop - 1
                break
        stop += 1
    while stop > start and units.units[stop - 1].head:
        stop -= 1
    return stop, blocked


def _next_start(units: Units, start: int, stop: int, overlap: float) -> int:
    """Where the next completion may begin: always later than this one."""
    wanted = units.words(start, stop) * (1 - overlap)
    following = start + 1
    while following < stop and units.words(start, following) < wanted:
        following += 1
    return following


def _past(units: Units, start: int, settings: WindowSettings, rng: Random) -> int | None:
    """The first paragraph of the past story; None if all there is has too many doubtful speakers."""
    wanted = _log_uniform(rng, *settings.past_words)
    if start == 0 or rng.random() < settings.without_past:
        return start
    while True:
        first = units.first_for(start, wanted)
        if first == start and units.words(start - 1, start) <= settings.past_words[1]:
            first = start - 1
        if units.doubtful_share(first, start) <= settings.doubtful_past:
            return first
        if start - first <= 1:
            return None
        wanted = units.words(first, start) // 2


def _window(
    story: TaggedStory, units: Units, cut: tuple[int, int, int], settings: WindowSettings, rng: Random
) -> Window:
    first, start, stop = cut
    present = sorted(units.who_is_in(first, stop))
    absent = sorted(set(range(len(story.cast))) - set(present))
    others = rng.sample(absent, min(len(absent), rng.randint(0, settings.distractors)))
    cast = [story.cast[place] for place in (*present, *others)]
    rng.shuffle(cast)
    past, completion = units.markup(first, start), units.markup(start, stop)
    if settings.redraw_ids:
        new = _new_ids(cast, rng)
        cast = [replace(character, speaker_id=new[character.speaker_id]) for character in cast]
        past, completion = _with_ids(past, new), _with_ids(completion, new)
    tags = rng.random() >= settings.plain
    if not tags:
        completion = as_plain(completion, story.language)
        past = as_plain(past, story.language) if rng.random() < 0.5 else past
    return Window(
        first=first,
        start=start,
        stop=stop,
        past=past,
        completion=completion,
        characters=tuple(cast),
        tags=tags,
        opening=start == 0 or units.units[start].division,
    )


def as_plain(markup: str, language: str) -> str:
    """Markup without tags; speech that has no quotation marks gets those of the language."""
    prose = render(unwrapped(parse(markup)), "plain", language=language if language in MARKS else "en")
    return render([Text(prose)], "tagged")


def _new_ids(cast: list[Character], rng: Random) -> dict[str, str]:
    new: dict[str, str] = {}
    for character in cast:
        new[character.speaker_id] = new_speaker_id(set(new.values()), rng)
    return new


def _with_ids(markup: str, new: dict[str, str]) -> str:
    return _SPEAKER.sub(lambda found: new.get(found[0], found[0]), markup)


def _log_uniform(rng: Random, low: int, high: int) -> int:
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))
