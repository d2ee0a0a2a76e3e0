"""Writing instructions that a given passage is known to fulfil, each with the check that decides it."""

import re
from dataclasses import dataclass
from functools import cache
from random import Random

from spellbound.data.checks import PLAIN_KINDS, Check, segments
from spellbound.data.simulator import bank
from spellbound.data.simulator.expand import tidy
from spellbound.data.simulator.plot import Passage, Story
from spellbound.data.simulator.world import PRONOUNS
from spellbound.directives import Event

SHORT_WORDS = 90
"""A passage of at most so many words counts as short."""
LONG_WORDS = 140
"""A passage of at least so many words counts as long."""


_AS_SUBJECT = re.compile(r"(?:Tell|Show|Write|Now|Next|In this|What happens|The |Include an action)")
_SPEECH_KINDS = ("speaks", "silent", "first_speaker", "last_speaker", "asks")


@dataclass(frozen=True, slots=True)
class Wish:
    """One instruction in words, the group it belongs to, and its check."""

    group: str
    text: str
    check: Check


def joined(chosen: list[Wish], story: Story) -> str:
    """Write wishes as one text; a name that the sentence before has, and no other, becomes a pronoun."""
    pronouns = dict(zip(story.first_names, story.pronouns, strict=True))
    texts, before = [], ""
    for wish in chosen:
        names = [name for name in pronouns if re.search(rf"\b{name}\b", wish.text)]
        text = wish.text
        if len(names) == 1 and names[0] == before:
            text = _with_pronoun(text, names[0], pronouns[names[0]])
        texts.append(text)
        before = names[0] if len(names) == 1 else ""
    return " ".join(texts)


def _with_pronoun(text: str, name: str, pronoun: str) -> str:
    """Put pronouns for a name, which must be the only one in the text."""
    subject, object_, possessive = PRONOUNS[pronoun][:3]
    if text.startswith(f"{name} "):
        return text if pronoun == "they" else f"{subject.capitalize()}{text.removeprefix(name)}"
    if _AS_SUBJECT.match(text):
        return text
    return text.replace(f"{name}'s", possessive, 1).replace(name, object_, 1)


def wishes(
    story: Story, passages: tuple[Passage, ...], events: list[Event], rng: Random, *, tags: bool
) -> list[Wish]:
    """Return every instruction these events fulfil; with `tags` False only those plain prose can show."""
    maker = _Maker(story, rng)
    found = [
        *maker.happenings(passages),
        *maker.moods(passages),
        *maker.mentions(passages),
        *maker.length(events),
        *(maker.tagged(events) if tags else maker.plain_end()),
    ]
    return [wish for wish in found if (tags or wish.check.kind in PLAIN_KINDS) and wish.check.holds(events)]


class _Maker:
    def __init__(self, story: Story, rng: Random) -> None:
        self.rng = rng
        self.firsts = story.first_names
        self.ids = [character.speaker_id for character in story.characters]
        self.thing = story.thing

    def _wish(
        self, group: str, wording: str, kind: str, arguments: tuple[str, ...], *, a: str = "", x: str = ""
    ) -> Wish:
        text = self.rng.choice(bank.load("instructions")[wording]) if wording else a
        return Wish(group, tidy(text.replace("{a}", a).replace("{x}", x)), Check(kind, arguments))

    def happenings(self, passages: tuple[Passage, ...]) -> list[Wish]:
        found = []
        for passage in passages:
            for happening in passage.happenings:
                if happening.sayings and len(happening.words) > 1:
                    groups = tuple("|".join(group) for group in happening.words)
                    saying = self.rng.choice(happening.sayings)
                    found.append(self._wish("happens", "happens", "happens", groups, x=saying))
        return found

    def moods(self, passages: tuple[Passage, ...]) -> list[Wish]:
        found = []
        for who, mood in dict.fromkeys(pair for passage in passages for pair in passage.moods):
            name = self.firsts["abcd".index(who)]
            entry = bank.load("moods")[mood]
            text = self.rng.choice(entry["ask"])
            if "{a." not in text:
                words = (name, "|".join(entry["words"]))
                found.append(Wish("mood", text.replace("{a}", name), Check("mood", words)))
        return found

    def mentions(self, passages: tuple[Passage, ...]) -> list[Wish]:
        found = [self._wish("thing", "thing", "mentions", (self.thing,), x=self.thing)]
        for passage in passages[:1]:
            bare = passage.place.name.removeprefix("the ")
            found.append(self._wish("place", "place", "mentions", (bare,), x=passage.place.at))
        return found

    def length(self, events: list[Event]) -> list[Wish]:
        return [
            self._wish("length", "short", "max_words", (str(SHORT_WORDS),), x=str(SHORT_WORDS)),
            self._wish("length", "long", "min_words", (str(LONG_WORDS),), x=str(LONG_WORDS)),
        ]

    def plain_end(self) -> list[Wish]:
        return [self._wish("end", "ends_quote", "ends_with_quote", ())]

    def tagged(self, events: list[Event]) -> list[Wish]:
        parts = segments(events)
        found = [self._wish("sound", "no_sound", "no_sound", ())]
        for first, speaker_id in zip(self.firsts, self.ids, strict=True):
            found += [self._wish("speech", kind, kind, (speaker_id,), a=first) for kind in _SPEECH_KINDS]
            found.append(self._wish("action", "action_by", "action_by", (first,), a=first))
        quotes = sum(part.kind == "quote" for part in parts)
        if quotes >= 4:
            found.append(
                self._wish("quotes", "min_quotes", "min_quotes", (str(quotes - 1),), x=str(quotes - 1))
            )
        return found + self._ends() + self._sounds([part.text for part in parts if part.kind == "sound"])

    def _ends(self) -> list[Wish]:
        return [
            self._wish("end", f"ends_{kind}", "ends_with", (kind,)) for kind in ("sound", "quote", "action")
        ]

    def _sounds(self, sounds: list[str]) -> list[Wish]:
        heard = [f" {re.sub(r'[^a-z]+', ' ', text.lower())} " for text in sounds]
        nouns = [noun for noun in _sound_nouns() if any(f" {noun} " in text for text in heard)]
        return [
            *(self._wish("sound", "sound_of", "sound_of", (noun,), x=noun) for noun in nouns),
            *(self._wish("end", "ends_sound_of", "ends_with", ("sound", noun), x=noun) for noun in nouns),
        ]


@cache
def _sound_nouns() -> list[str]:
    settings = bank.load("places")["setting"]
    places = [place for setting in settings for place in setting["place"]]
    return sorted(
        {sound.split("|")[0] for place in places for sound in place["sound"]} | {"thunder", "rain", "wind"}
    )
