"""The annotator `rules`: prose and chats to tagged stories, offline and always alike."""

import random
from collections.abc import Iterable
from dataclasses import dataclass

from spellbound.data.annotators.rules.analysis import Analysis, analyse
from spellbound.data.annotators.rules.chats import chat_spans
from spellbound.data.annotators.rules.deeds import actions, sounds
from spellbound.data.annotators.rules.lexicon import Lexicon, lexicon
from spellbound.data.annotators.rules.people import Figure
from spellbound.data.annotators.rules.tagging import Span, tagged
from spellbound.data.documents import Document, Person
from spellbound.data.fields import Provenance
from spellbound.data.readers.language import guess_language
from spellbound.data.tagged import AnnotationRefused, TaggedStory
from spellbound.data.versions import program_version
from spellbound.directives import Character, new_speaker_id
from spellbound.errors import InputError

SURE = 5.0
"""Least margin of a speaker who is no guess: right in five cases of six in books held out."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Says who speaks by quotation marks, speech verbs, names, pronouns and turns. Implements `Annotator`."""

    language: str = ""
    """Instead of the document's own; where both are empty, it is guessed, or the document refused."""
    actions: bool = True
    """Whether to tag actions."""
    sounds: bool = True
    """Whether to tag sounds."""
    cast: tuple[Person, ...] = ()
    """Who may speak; empty to find the characters in the text, or take those the document lists."""

    def __post_init__(self) -> None:
        """Refuse a language without a lexicon, and two persons of one id."""
        if self.language:
            lexicon(self.language)
        ids = [person.id for person in self.cast]
        for number in ids:
            if ids.count(number) > 1:
                raise InputError(
                    f"cast: id {number!r} stands there twice; give every person an id of its own"
                )

    @property
    def name(self) -> str:
        """What `Provenance.annotator` says."""
        return "rules"

    def annotate(self, document: Document) -> TaggedStory:
        """Tag prose or a chat; AnnotationRefused for a play, for an unknown language, and for broken text."""
        if any(part.kind in ("speech", "stage") for part in document.parts):
            raise AnnotationRefused(
                f"{document.id}: is a play, which says itself who speaks; annotate it with drama instead"
            )
        if document.parts:
            return self._chat(document)
        known = self._lexicon(document)
        found = analyse(document.text, known, self.cast or document.cast)
        speakers = _speakers(found)
        cast = _cast(document, [found.figures[number] for number in speakers], self.cast or document.cast)
        ids = {number: character.speaker_id for number, character in zip(speakers, cast, strict=False)}
        spans, doubtful = _quotes(found, ids)
        if self.actions:
            spans += [Span(*span, "action") for span in actions(found, ids.keys())]
        if self.sounds:
            spans += [Span(*span, "sound") for span in sounds(found)]
        return _story(document, tagged(document, spans), cast, doubtful, known)

    def _lexicon(self, document: Document) -> Lexicon:
        language = self.language or document.language or guess_language(document.text)
        if not language:
            raise AnnotationRefused(
                f"{document.id}: its language is not known; say it with --language when the text is read,"
                " or with the setting language"
            )
        try:
            return lexicon(language)
        except InputError as error:
            raise AnnotationRefused(f"{document.id}: {error}") from error

    def _chat(self, document: Document) -> TaggedStory:
        names = {person.id: person for person in (*self.cast, *document.cast)}
        speakers = dict.fromkeys(part.speakers[0] for part in document.parts if part.speakers)
        persons = [names.get(speaker) or Person(id=speaker, name=speaker) for speaker in speakers]
        cast = _characters(document, [(person.name, _details(person)) for person in persons])
        ids = {person.id: character.speaker_id for person, character in zip(persons, cast, strict=True)}
        spans = [span for span in chat_spans(document, ids) if self.actions or span.kind != "action"]
        return _story(document, tagged(document, spans), cast, [], None)


def _speakers(found: Analysis) -> list[int]:
    """Figures who speak, in the order in which they first do."""
    chosen = (choice.figure for choice in found.choices)
    return list(
        dict.fromkeys(
            number for number in chosen if number is not None and not found.figures[number].outsider
        )
    )


def _quotes(found: Analysis, ids: dict[int, str]) -> tuple[list[Span], list[tuple[int, int]]]:
    """Quotes with a speaker of the cast, and the places of all whose speaker is a guess."""
    spans: list[Span] = []
    doubtful: list[tuple[int, int]] = []
    for turn, choice in zip(found.turns, found.choices, strict=True):
        speaker = ids.get(choice.figure) if choice.figure is not None else None
        for quote in (found.quotes[number] for number in turn.quotes):
            if speaker is None or choice.margin < SURE or not quote.sure:
                doubtful.append((quote.start, quote.end))
            if speaker is not None:
                spans.append(Span(quote.start, quote.end, "quote", speaker))
    return spans, doubtful


def _cast(document: Document, figures: list[Figure], given: Iterable[Person]) -> tuple[Character, ...]:
    """Sheets of all who speak, and of those of a given cast who do not."""
    persons = {person.id: person for person in given}
    rows = [_sheet(figure, persons.get(figure.person)) for figure in figures]
    silent = persons.keys() - {figure.person for figure in figures}
    rows += [(person.name, _details(person)) for person in persons.values() if person.id in silent]
    return _characters(document, rows)


def _sheet(figure: Figure, person: Person | None) -> tuple[str, list[tuple[str, str]]]:
    name = person.name if person else figure.name[:1].upper() + figure.name[1:]
    details = _details(person) if person else []
    keys = {pair[0].lower() for pair in details}
    if figure.gender and "gender" not in keys:
        details.append(("Gender", figure.gender))
    aliases = sorted(written for written in figure.written if written != name)
    if aliases and "aliases" not in keys:
        details.append(("Aliases", "; ".join(aliases)))
    if figure.narrator and "role" not in keys:
        details.append(("Role", "narrator"))
    return name, details


def _details(person: Person) -> list[tuple[str, str]]:
    gender = [("Gender", person.gender)] if person.gender else []
    return [*person.details, *(pair for pair in gender if pair[0] not in dict(person.details))]


def _characters(document: Document, rows: list[tuple[str, list[tuple[str, str]]]]) -> tuple[Character, ...]:
    """Characters with speaker IDs that are the same for a document and a name in every run."""
    taken: dict[str, Character] = {}
    for name, details in rows:
        chosen = new_speaker_id(taken, random.Random(f"{document.id}\n{name}"))
        taken[chosen] = Character(name, chosen, tuple(details))
    return tuple(taken.values())


def _story(
    document: Document,
    text: str,
    cast: tuple[Character, ...],
    doubtful: list[tuple[int, int]],
    known: Lexicon | None,
) -> TaggedStory:
    versions = {"spellbound": program_version()} | (
        {"lexicon": f"{known.language}-{known.digest}"} if known else {}
    )
    return TaggedStory(
        id=document.id,
        text=text,
        cast=cast,
        language=known.language if known else document.language,
        title=document.title,
        author=document.author,
        source=document.source,
        licence=document.licence,
        attribution=document.attribution,
        doubtful=tuple(sorted(doubtful)),
        provenance=Provenance(annotator="rules", versions=versions),
    )
