"""Noun phrases: names, pronouns and descriptions such as "the old man", read at one word."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from spellbound.data.annotators.rules.lexicon import Gender, Lexicon
from spellbound.data.annotators.rules.words import Words

_LONGEST = 5
_BREAKS = re.compile(r"[^\s'’.-]|\.\s|--|\s-|-\s")
_STOP = re.compile(r"[.!?…;:,—–―()\"“”«»„]|--|\s-\s")


@dataclass(frozen=True, slots=True)
class Subject:
    """Who does something: words `first` to `last`, without the word at `last`."""

    kind: Literal["name", "pronoun", "noun"]
    first: int
    last: int
    who: str = ""
    """The name as written, the kind of pronoun, or the description without its article."""
    gender: Gender = ""
    head: str = ""
    """The noun of a description."""


class Phrases:
    """Reads noun phrases of one text."""

    def __init__(self, words: Words, lexicon: Lexicon, names: Mapping[int, int]) -> None:
        """`names` maps the first word of each name in the text to the word after its last."""
        self.words = words
        self.lexicon = lexicon
        self.names = names

    def at(self, index: int, end: int) -> Subject | None:
        """The phrase that begins at a word, before the word at `end`."""
        if index >= end:
            return None
        known, spelled = self.lexicon, self.words.keys[index]
        if index in self.names:
            return self._name(index)
        kind = known.pronouns.get(spelled)
        if kind == "other" and spelled in known.determiners and (noun := self._noun(index + 1, end)):
            return noun
        if kind:
            gender: Gender = "female" if kind == "female" else "male" if kind == "male" else ""
            return Subject("pronoun", index, index + 1, kind, gender)
        if spelled in known.determiners:
            if index + 1 < end and index + 1 in self.names:
                return self._name(index + 1)
            return self._noun(index + 1, end)
        if known.prefixes and spelled.startswith(known.prefixes):
            return self._noun(index, end)
        if spelled in known.nouns:
            return self._noun(index, end)
        return None

    def _name(self, index: int) -> Subject:
        last = self.names[index]
        name = self.words.text[self.words.starts[index] : self.words.ends[last - 1]]
        return Subject("name", index, last, name)

    def _noun(self, index: int, end: int) -> Subject | None:
        """Words up to a stop; the noun is a word for persons, or else by its place."""
        known, words = self.lexicon, self.words
        last = index
        while last < min(end, index + _LONGEST) and self._goes_on(last):
            last += 1
            if last < end and _STOP.search(words.gap(last - 1)) and not self._adjectives(index, last, end):
                break
        if last == index:
            return None
        chosen = range(index, last)
        persons = [at for at in chosen if self.bare(words.keys[at]) in known.nouns]
        if persons:
            head = persons[-1] if known.head_last else _together(persons)
        else:
            head = last - 1 if known.head_last else index
        last = head + 1
        noun = self.bare(words.keys[head])
        phrase = words.text[words.starts[index] : words.ends[last - 1]]
        return Subject("noun", index, last, phrase, known.nouns.get(noun, ""), noun)

    def _adjectives(self, index: int, last: int, end: int) -> bool:
        """Whether a comma stands between adjectives: "a thin, elderly gentleman"."""
        words, nouns = self.words, self.lexicon.nouns
        if not self.lexicon.head_last or words.gap(last - 1) != ", ":
            return False
        found = any(words.keys[at] in nouns for at in range(index, last))
        coming = range(last, min(end, last + 2))
        return not found and any(words.keys[at] in nouns for at in coming) and all(map(self._goes_on, coming))

    def _goes_on(self, index: int) -> bool:
        spelled, known = self.words.keys[index], self.lexicon
        if spelled in known.stops or spelled in known.verbs or spelled in known.determiners:
            return False
        return not known.is_adverb(spelled)

    def bare(self, spelled: str) -> str:
        """A word without an article that is written as one with it."""
        if spelled in self.lexicon.nouns:
            return spelled
        for prefix in self.lexicon.prefixes:
            if spelled.startswith(prefix) and len(spelled) > len(prefix) + 1:
                return spelled[len(prefix) :]
        return spelled


def _together(places: list[int]) -> int:
    """The last of the first nouns that follow one another: `jeune homme`."""
    head = places[0]
    for place in places[1:]:
        if place != head + 1:
            break
        head = place
    return head


@dataclass(frozen=True, slots=True)
class Telling:
    """A speech verb and who speaks, if the clause says so."""

    verb: int
    subject: Subject | None
    gender: Gender = ""
    """Gender that the verb itself shows."""


_REACH = 9
_HARD = re.compile(r"[.!?…;:—–―()\"“”«»„]|--|\s-\s|\n")


def telling_after(phrases: Phrases, index: int, end: int) -> Telling | None:
    """Read "said Mr. Bennet" or "Elizabeth softly replied" from a word on, up to the word at `end`."""
    words, known = phrases.words, phrases.lexicon
    subject, at, limit = None, index, min(end, index + _REACH)
    while at < limit:
        spelled = words.keys[at]
        if spelled in known.verbs and not (at == index and at in phrases.names):
            after = (
                _following(phrases, _past_particle(phrases, at, end), min(end, at + _REACH))
                if subject is None
                else None
            )
            return Telling(at, subject or after, known.verb_genders.get(spelled, ""))
        if subject is None and (subject := phrases.at(at, limit)) is not None:
            at = subject.last
        elif spelled in known.skipped or (subject is not None and known.is_adverb(spelled)):
            at += 1
        elif subject is None:
            return None
        else:
            at += 1
        if at < limit and at > index and _HARD.search(words.gap(at - 1)):
            return None
        if subject is None and at > index and at < limit and "," in words.gap(at - 1):
            return None
    return None


def telling_before(phrases: Phrases, index: int, end: int) -> Telling | None:
    """Read the clause, words `index` to `end`, that leads to a quote: "Mr. Bennet turned to her and said"."""
    words, known = phrases.words, phrases.lexicon
    verbs = [at for at in range(index, end) if words.keys[at] in known.verbs and at not in phrases.names]
    if not verbs:
        return None
    verb = verbs[-1]
    subject = first_subject(phrases, index, verb) if known.cased else _following(phrases, verb + 1, end)
    if subject is None:
        subject = _following(phrases, verb + 1, end) if known.cased else first_subject(phrases, index, verb)
    return Telling(verb, subject, known.verb_genders.get(words.keys[verb], ""))


def first_subject(phrases: Phrases, index: int, end: int) -> Subject | None:
    """The first phrase of a clause that no preposition governs and that owns nothing."""
    words, known = phrases.words, phrases.lexicon
    at = index
    while at < end:
        found = phrases.at(at, end)
        if found is None or (found.kind == "pronoun" and found.who == "other"):
            at += 1
            continue
        owner = words.text[words.ends[found.last - 1] :][:2] in ("'s", "’s")
        before = words.keys[at - 1] if at > index else ""
        governed = before in known.stops and before not in known.conjunctions
        if not owner and not governed and (found.kind != "noun" or found.head in known.nouns):
            return found
        at = max(found.last, at + 1)
    return None


def _following(phrases: Phrases, index: int, end: int) -> Subject | None:
    words, known = phrases.words, phrases.lexicon
    for at in range(index, min(end, index + 3)):
        if re.search(r"[.!?…;:,—–―\"“”«»„]", words.before(at)):
            return None
        if (found := phrases.at(at, end)) is not None:
            return found
        if words.keys[at] not in known.skipped and not known.is_adverb(words.keys[at]):
            return None
    return None


def _past_particle(phrases: Phrases, verb: int, end: int) -> int:
    words, known = phrases.words, phrases.lexicon
    if words.keys[verb] in known.phrasal and verb + 1 < end and words.keys[verb + 1] in known.particles_after:
        return verb + 2
    return verb + 1
