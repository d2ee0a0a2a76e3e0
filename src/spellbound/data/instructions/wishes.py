"""What could have been asked for a passage: every instruction that it fulfils, each with its check."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from spellbound.data.checks import PLAIN_KINDS, Check, Segment, segments
from spellbound.data.checks.narration import person, tense
from spellbound.data.checks.rules import paragraph_count
from spellbound.data.checks.words import has, has_word, names
from spellbound.data.instructions.phrasing import Phrases
from spellbound.data.instructions.salience import Salience
from spellbound.data.instructions.units import Names, aliases
from spellbound.data.instructions.windows import Window
from spellbound.directives import Character, Text, parse

_WORD = re.compile(r"\w+")
_LONGEST_NAME = 60
_EXACT_PARAGRAPHS = 4
_RECENT_PAST = 3000
"""Characters at the end of the past story from which words to avoid are taken."""

GROUPS = {
    "speaks": "speaker",
    "silent": "speaker",
    "asks": "speaker",
    "first_speaker": "order",
    "last_speaker": "order",
    "only_speaker": "order",
    "min_quotes": "dialogue",
    "no_quote": "dialogue",
    "action_by": "action",
    "has_action": "action",
    "has_sound": "sound",
    "no_sound": "sound",
    "ends_with": "end",
    "ends_with_words": "end",
    "ends_with_quote": "end",
    "mentions": "word",
    "avoids": "word",
    "place": "place",
    "mood_word": "mood",
    "person": "person",
    "tense": "tense",
    "min_words": "length",
    "max_words": "length",
    "paragraphs": "paragraphs",
}
"""The kinds that are derived; of each group at most one is asked for in an example."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One instruction in words, and its check."""

    text: str
    check: Check

    @property
    def group(self) -> str:
        """What it is about: no example asks for two of one group."""
        return GROUPS[self.check.kind]


def wishes(
    window: Window, phrases: Phrases, salience: Salience, calling: Names, language: str, rng: Random
) -> list[Wish]:
    """Return every instruction that the completion of a window fulfils, and no other.

    Where it is plain prose, only those that plain prose can show.
    """
    maker = _Maker(window, phrases, salience, calling, language, rng)
    return [
        wish
        for wish in maker.all()
        if (window.tags or wish.check.kind in PLAIN_KINDS) and maker.fulfils(wish)
    ]


class _Maker:
    """Proposes wishes; not all of them hold."""

    def __init__(
        self,
        window: Window,
        phrases: Phrases,
        salience: Salience,
        calling: Names,
        language: str,
        rng: Random,
    ) -> None:
        events = parse(window.completion)
        self._window, self._phrases, self._salience, self._calling = window, phrases, salience, calling
        self._language, self._rng = language, rng
        self._parts: list[Segment] = segments(events)
        self._whole = "".join(event.text for event in events if isinstance(event, Text))
        self._cast = [(_shown(one), one) for one in window.characters if _shown(one)]

    def fulfils(self, wish: Wish) -> bool:
        return wish.check.holds_for(self._parts, self._whole)

    def all(self) -> Iterator[Wish]:
        yield from self._speech()
        yield from self._actions_and_sounds()
        yield from self._ends()
        yield from self._words()
        yield from self._places_and_moods()
        yield from self._telling()
        yield from self._lengths()

    def _wish(self, phrase: str, kind: str, *arguments: str, a: str = "", x: str = "") -> Wish:
        text = self._rng.choice(self._phrases.ask[phrase])
        # Not str.format: names may hold braces.
        return Wish(text.replace("{x}", x).replace("{a}", a), Check(kind, arguments))

    def _speech(self) -> Iterator[Wish]:
        said = [part.speaker for part in self._parts if part.kind == "quote" and part.speaker]
        for name, character in self._cast:
            who = character.speaker_id
            if who in said:
                for kind in ("speaks", "asks", "first_speaker", "last_speaker"):
                    yield self._wish(kind, kind, who, a=name)
                if len(said) > 1:
                    yield self._wish("only_speaker", "only_speaker", who, a=name)
            elif said:
                yield self._wish("silent", "silent", who, a=name)
        if len(said) >= 3:
            least = str(self._rng.randint(2, len(said)))
            yield self._wish("min_quotes", "min_quotes", least, x=least)
        yield self._wish("no_quote", "no_quote")

    def _actions_and_sounds(self) -> Iterator[Wish]:
        yield self._wish("has_action", "has_action")
        yield self._wish("has_sound", "has_sound")
        yield self._wish("no_sound", "no_sound")
        acted = [part.text for part in self._parts if part.kind == "action"]
        for name, _ in self._cast:
            told = [self._calling.without_others(name, text) for text in acted]
            forms = [name, *self._calling.own(name)]
            called = [form for form in forms if any(names(form, text) for text in told)]
            if called:
                yield self._wish("action_by", "action_by", called[0], a=name)

    def _ends(self) -> Iterator[Wish]:
        for kind in ("quote", "action", "sound"):
            yield self._wish(f"ends_{kind}", "ends_with", kind)
        if not self._window.tags:
            yield self._wish("ends_quote", "ends_with_quote")
        last = self._whole.rstrip().rsplit("\n\n", 1)[-1]
        if telling := self._salience.words(last, most=4):
            word = self._rng.choice(telling)
            yield self._wish("ends_with_words", "ends_with_words", word, x=word)

    def _words(self) -> Iterator[Wish]:
        for word in self._salience.words(self._whole):
            yield self._wish("mentions", "mentions", word, x=word)
        for word in self._salience.words(_recent(self._window.past)):
            if not has(word, self._whole):
                yield self._wish("avoids", "avoids", word, x=word)
        for name, character in self._cast:
            # Not even by a word that others have too; but such a word breaks no promise later.
            absent = not has("|".join([*_forms(name), *aliases(character)]), self._whole)
            if absent and ("Role", "narrator") not in character.details:
                called = dict.fromkeys([name, *self._calling.own(name), *aliases(character)])
                yield self._wish("avoids_name", "avoids", "|".join(called), a=name)

    def _places_and_moods(self) -> Iterator[Wish]:
        for phrase, kind, entries in (
            ("place", "place", self._phrases.places),
            ("mood", "mood_word", self._phrases.moods),
        ):
            for words in entries:
                if has_word(words, self._whole):
                    yield self._wish(phrase, kind, words, x=words.split("|")[0])

    def _telling(self) -> Iterator[Wish]:
        told_by, told_in = person(self._parts, self._language), tense(self._parts, self._language)
        if told_by != "unknown":
            yield self._wish(f"person_{told_by}", "person", told_by, self._language)
        if told_in != "unknown":
            yield self._wish(f"tense_{told_in}", "tense", told_in, self._language)

    def _lengths(self) -> Iterator[Wish]:
        words = len(self._whole.split())
        least = str(max(10, int(words * self._rng.uniform(0.7, 1.0)) // 10 * 10))
        most = str(-int(-words * self._rng.uniform(1.0, 1.3)) // 10 * 10 + 10)
        yield self._wish("min_words", "min_words", least, x=least)
        yield self._wish("max_words", "max_words", most, x=most)
        count = paragraph_count(self._whole)
        if count == 1:
            yield self._wish("paragraphs_one", "paragraphs", "1", "1")
        elif count <= _EXACT_PARAGRAPHS:
            yield self._wish("paragraphs_exact", "paragraphs", str(count), str(count), x=str(count))
        else:
            limit = str(count + self._rng.randint(0, 2))
            yield self._wish("paragraphs_most", "paragraphs", "1", limit, x=limit)


def _shown(character: Character) -> str:
    """The name as an instruction can have it; empty if it cannot."""
    name = " ".join(character.name.split())
    return name if len(name) <= _LONGEST_NAME and any(char.isalpha() for char in name) else ""


def _forms(name: str) -> list[str]:
    """The whole name, and those of its words that can stand for it."""
    words = [word for word in _WORD.findall(name) if len(word) > 2 and word[0].isupper()]
    return list(dict.fromkeys([name, *words]))


def _recent(past: str) -> str:
    """The last whole paragraphs of a past story, without tags."""
    end = past if len(past) <= _RECENT_PAST else past[-_RECENT_PAST:].partition("\n\n")[2]
    return "".join(event.text for event in parse(end) if isinstance(event, Text))
