"""Plays: speeches become quotes, stage directions actions and sounds. Who speaks is what the play says."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any

from spellbound.data.documents import PARAGRAPH, Document, Part
from spellbound.data.fields import Provenance
from spellbound.data.tagged import AnnotationRefused, TaggedStory, require_lossless
from spellbound.data.versions import digest_of, program_version
from spellbound.directives import Character, Close, Event, Kind, Open, Text, new_speaker_id, render

_LEXICON = "drama.toml"
_PARAGRAPH_END = re.compile(r"(\n\s*\n)")
_SENTENCE_END = re.compile(r"(?<=[.!?;])(\s+)")
_WORDS = re.compile(r"\w+")
_NAMED_TOGETHER = 3
_LONGEST = 30
"""Words of a sentence that can be one action or one sound."""


class Drama:
    """Tags plays by their own speeches and stage directions; only what a direction tells of is a guess.

    Directions are told apart by word lists in German, Spanish, Dutch and English; in other languages they
    stay plain. A speech without a speaker stays plain and is doubtful.
    """

    name = "drama"

    def annotate(self, document: Document) -> TaggedStory:
        """Tag a play; AnnotationRefused for prose, for chats and for a play in which nobody speaks."""
        _require_play(document)
        cast = _Cast(document)
        writer = _Writer(cast, _directions(document.language), cast.words())
        for number, part in enumerate(document.parts):
            writer.part(part, first=number == 0)
        markup = render(writer.events, "tagged")
        require_lossless(document, markup)
        return TaggedStory(
            id=document.id,
            text=markup,
            cast=tuple(cast.characters),
            language=document.language,
            title=document.title,
            author=document.author,
            source=document.source,
            licence=document.licence,
            attribution=document.attribution,
            doubtful=tuple(writer.doubtful),
            provenance=Provenance(
                annotator=self.name,
                versions={"spellbound": program_version(), "drama": digest_of(__package__, _LEXICON)},
            ),
        )


def _require_play(document: Document) -> None:
    if not document.parts:
        raise AnnotationRefused(f"{document.id}: is prose, not a play; annotate it with rules or teacher")
    if any(part.kind == "message" for part in document.parts):
        raise AnnotationRefused(f"{document.id}: is a chat, not a play; annotate it with rules")
    if not any(part.kind == "speech" and part.speakers for part in document.parts):
        raise AnnotationRefused(f"{document.id}: nobody speaks in it; annotate it with rules or teacher")


@dataclass(frozen=True, slots=True)
class Directions:
    """What the words of stage directions in one language mean."""

    joining: str
    others: str
    null_subject: bool
    """Whether a verb alone says that somebody acts."""
    acts: re.Pattern[str]
    hushed: re.Pattern[str]
    people: re.Pattern[str]
    heard: re.Pattern[str]
    sounding: re.Pattern[str]
    alone: re.Pattern[str]

    def kind(self, sentence: str, names: frozenset[str], *, acting: bool) -> Kind | None:
        """Say what one sentence of a direction is; `acting`: it belongs to somebody's speech."""
        told = sentence.lower()
        if len(told.split()) > _LONGEST:
            return None  # a description of the stage
        if self.alone.fullmatch(told.strip(" .,;")):
            return "action"
        if self.heard.search(told):
            return "sound"
        if self.acts.search(told) and not self.hushed.search(told):
            named = not names.isdisjoint(_WORDS.findall(told))
            if acting or named or self.null_subject or self.people.search(told):
                return "action"
        elif self.sounding.search(told):
            return "sound"
        return None


@cache
def _directions(language: str) -> Directions:
    lexicons: dict[str, Any] = tomllib.loads((files(__package__) / _LEXICON).read_text(encoding="utf-8"))
    own = lexicons.get(language, {})
    patterns = {
        name: _any_of(own.get(name, ()))
        for name in ("acts", "hushed", "people", "heard", "sounding", "alone")
    }
    return Directions(
        own.get("and", ""), own.get("others", ""), bool(own.get("null_subject", False)), **patterns
    )


def _any_of(words: list[str]) -> re.Pattern[str]:
    """Match any of the words, or nothing at all if there are none."""
    return re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)" if words else r"(?!)")


class _Cast:
    """The characters of a play: those it lists, those it forgets, and those who speak together."""

    def __init__(self, document: Document) -> None:
        self.characters: list[Character] = []
        self._rng = Random(f"speakers {document.id}")
        self._directions = _directions(document.language)
        self._names: dict[str, str] = {}
        self._speakers: dict[tuple[str, ...], str] = {}
        for person in document.cast:
            gender = (("Gender", person.gender),) if person.gender else ()
            self._add((person.id,), _readable(person.name or person.id), (*gender, *person.details))

    def speaker(self, people: tuple[str, ...]) -> str:
        """Return the speaker ID of one or several people, who enter the cast if they are not yet in it."""
        if people in self._speakers:
            return self._speakers[people]
        if len(people) == 1:
            return self._add(people, _readable(people[0]), ())
        for person in people:
            self.speaker((person,))
        names = [self._names[person] for person in people]
        return self._add(people, self._together(names), (("Members", ", ".join(names)),))

    def words(self) -> frozenset[str]:
        """Return the words of all names, in lower case."""
        return frozenset(
            word
            for character in self.characters
            for word in _WORDS.findall(character.name.lower())
            if len(word) > 2
        )

    def _together(self, names: list[str]) -> str:
        shown, hidden = names[:_NAMED_TOGETHER], len(names) - _NAMED_TOGETHER
        joining = f" {self._directions.joining} " if self._directions.joining else ", "
        if hidden > 0:
            return f"{', '.join(shown)}{joining}{hidden} {self._directions.others}".strip()
        return f"{', '.join(shown[:-1])}{joining}{shown[-1]}"

    def _add(self, people: tuple[str, ...], name: str, details: tuple[tuple[str, str], ...]) -> str:
        speaker_id = new_speaker_id(set(self._speakers.values()), self._rng)
        self._speakers[people] = speaker_id
        if len(people) == 1:
            self._names[people[0]] = name
        self.characters.append(Character(name, speaker_id, details))
        return speaker_id


def _readable(name: str) -> str:
    """Return a name as a page has it: no hyphens of an id, no capitals throughout."""
    spaced = name if " " in name else re.sub(r"[-_]+", " ", name)
    spaced = " ".join(spaced.split()) or "?"
    shouted = spaced.isupper() and len(spaced) > 3
    return spaced.title() if shouted or (spaced.islower() and spaced[0].isalpha()) else spaced


class _Writer:
    """Writes parts as events, and remembers where nobody is named as speaking."""

    def __init__(self, cast: _Cast, directions: Directions, names: frozenset[str]) -> None:
        self.events: list[Event] = []
        self.doubtful: list[tuple[int, int]] = []
        self._cast, self._directions, self._names = cast, directions, names
        self._at = 0

    def part(self, part: Part, *, first: bool) -> None:
        if not first:
            self._text(PARAGRAPH)
        if part.kind == "speech" and part.speakers:
            speaker = self._cast.speaker(part.speakers)
            for paragraph, end in _pieces(_PARAGRAPH_END, part.text):
                self._tagged("quote", paragraph, speaker)
                self._text(end)
        elif part.kind == "speech":
            self.doubtful.append((self._at, self._at + len(part.text)))
            self._text(part.text)
        elif part.kind == "stage":
            self._direction(part)
        else:
            self._text(part.text)

    def _direction(self, part: Part) -> None:
        acting = bool(part.speakers)
        for sentence, end in _pieces(_SENTENCE_END, part.text):
            kind = self._directions.kind(sentence, self._names, acting=acting)
            if kind is None:
                self._text(sentence)
            else:
                self._tagged(kind, sentence)
            self._text(end)

    def _tagged(self, kind: Kind, text: str, speaker: str | None = None) -> None:
        """White space at the ends stays outside of the tag."""
        bare = text.strip()
        if not bare:
            self._text(text)
            return
        start = text.index(bare)
        self._text(text[:start])
        self.events.append(Open(kind, speaker))
        self._text(bare)
        self.events.append(Close(kind))
        self._text(text[start + len(bare) :])

    def _text(self, text: str) -> None:
        if text:
            self.events.append(Text(text))
            self._at += len(text)


def _pieces(ends: re.Pattern[str], text: str) -> Iterator[tuple[str, str]]:
    """Yield each piece with what separates it from the next; `ends` has one group, the separator."""
    found = [*ends.split(text), ""]
    yield from zip(found[::2], found[1::2], strict=True)
