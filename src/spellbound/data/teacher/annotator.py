"""The annotator `teacher`: a model reads a document passage by passage, says who is in it and who speaks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from spellbound.data.documents import Document
from spellbound.data.fields import Provenance
from spellbound.data.tagged import AnnotationRefused, TaggedStory, require_lossless
from spellbound.data.teacher.cast import (
    Groups,
    Member,
    Sheets,
    cast_of,
    entry_text,
    faults_of_groups,
    faults_of_sheets,
    fold,
    joined,
    known_members,
    member_of,
    regrouped,
    speakers_of,
)
from spellbound.data.teacher.client import Teacher
from spellbound.data.teacher.making import teacher_and_rest
from spellbound.data.teacher.passages import Passage, passages
from spellbound.data.teacher.placing import Marks, Placed, Span, place, tagged_events
from spellbound.data.teacher.prompts import messages, prompts_version
from spellbound.data.teacher.questions import Question
from spellbound.data.versions import program_version
from spellbound.directives import render
from spellbound.errors import InputError


@dataclass(frozen=True, kw_only=True)
class AnnotatorSettings:
    """How a document is shown to the model."""

    passage_words: int = 700
    """Longest passage, in words."""
    most_characters: int = 60
    """On the cast that a passage is shown; those in it come first, then those who are seen most."""
    most_doubtful: float = 0.5
    """Refuse a document of which a larger share of characters has no tags that can be trusted."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if not 20 <= self.passage_words <= 20_000:
            raise InputError(f"passage_words {self.passage_words}: give 20 to 20,000")
        if self.most_characters < 1:
            raise InputError(f"most_characters {self.most_characters}: give 1 or more")
        if not 0 <= self.most_doubtful <= 1:
            raise InputError(f"most_doubtful {self.most_doubtful}: give a share from 0 to 1")


class TeacherAnnotator:
    """Asks a teacher for cast and tags; the text itself never comes from the model."""

    name = "teacher"

    def __init__(
        self, teacher: Teacher | None = None, *, settings: Path | None = None, **values: Any
    ) -> None:
        """Take a teacher, or the settings of one: by name, or from a TOML file whose values they change.

        Fields of `AnnotatorSettings` go by name too. InputError for names that neither has.
        """
        self.teacher, (self.settings,) = teacher_and_rest(
            teacher, settings, "annotate", values, AnnotatorSettings
        )

    def annotate(self, document: Document) -> TaggedStory:
        """Tag a document. What could not be tagged stands in `doubtful`.

        Raises AnnotationRefused if that is too much of it or nothing is there, TeacherStopped at a limit.
        """
        text = _readable(document)
        cut = passages(text, self.settings.passage_words)
        members = self._members(document, cut)
        cast = cast_of(document.id, members)
        spans, doubtful = self._tags(document, cut, members, speakers_of(members, cast))
        lost = sum(end - start for start, end in doubtful)
        if lost > self.settings.most_doubtful * len(text):
            raise AnnotationRefused(
                f"{document.id}: its tags cannot be trusted in {lost:,} of {len(text):,} characters; "
                "the document is left out; try another model, or allow more with most_doubtful"
            )
        markup = render(tagged_events(text, spans), "tagged")
        require_lossless(document, markup)
        return TaggedStory(
            id=document.id,
            text=markup,
            cast=cast,
            language=document.language,
            title=document.title,
            author=document.author,
            source=document.source,
            licence=document.licence,
            attribution=document.attribution,
            doubtful=tuple(doubtful),
            provenance=Provenance(
                annotator=self.name,
                model=self.teacher.settings.model,
                versions={"spellbound": program_version(), "teacher prompts": prompts_version()},
            ),
        )

    def report(self) -> str:
        """Return what was asked and what it cost, in lines for people."""
        return self.teacher.usage.report()

    def _members(self, document: Document, cut: Sequence[Passage]) -> list[Member]:
        """Everybody in the document, those first who are seen most."""
        known = known_members(document)
        listed = ", ".join(member.name for member in known)
        said = f"The source lists these characters; use their names: {listed}\n" if known else ""
        answers = self.teacher.ask_all(
            [
                Question(
                    "sheets",
                    messages("sheets", document.language, known=said, passage=passage.plain),
                    Sheets,
                    partial(_faults_of_sheets, passage, frozenset(fold(member.name) for member in known)),
                )
                for passage in cut
            ]
        )
        sheets = [sheet for answer in answers if answer.value for sheet in answer.value.characters]
        members = joined([*known, *(member_of(sheet) for sheet in sheets if fold(sheet.name))])
        members.sort(key=lambda member: -member.seen)
        return self._put_together(document, members) if len(cut) > 1 else members

    def _put_together(self, document: Document, members: list[Member]) -> list[Member]:
        """Let the model say which entries mean one person; as they are if its answer cannot be used."""
        shown, rest = members[:_MOST_ENTRIES], members[_MOST_ENTRIES:]
        if len(shown) < 2:
            return members
        entries = "\n".join(entry_text(number, member) for number, member in enumerate(shown, 1))
        answer = self.teacher.ask(
            Question(
                "groups",
                messages("merge", document.language, entries=entries),
                Groups,
                partial(faults_of_groups, shown),
            )
        )
        if answer.value is None or answer.faults:
            return members
        made = joined([*regrouped(shown, answer.value), *rest])
        return sorted(made, key=lambda member: -member.seen)

    def _tags(
        self,
        document: Document,
        cut: Sequence[Passage],
        members: Sequence[Member],
        speakers: dict[str, str],
    ) -> tuple[list[Span], list[tuple[int, int]]]:
        """All placed marks, and where none could be placed or nobody could be named."""
        answers = self.teacher.ask_all(
            [
                Question(
                    "marks",
                    messages(
                        "tags",
                        document.language,
                        cast=self._shown(passage, members),
                        passage=passage.numbered,
                    ),
                    Marks,
                    partial(_faults_of_marks, passage, speakers),
                )
                for passage in cut
            ]
        )
        spans: list[Span] = []
        doubtful: list[tuple[int, int]] = []
        for passage, answer in zip(cut, answers, strict=True):
            if answer.value is None:
                doubtful.append((passage.paragraphs[0][0], passage.paragraphs[-1][1]))
                continue
            placed = place(passage, answer.value, speakers)
            spans += placed.spans
            doubtful += _doubts(passage, placed)
        return spans, doubtful

    def _shown(self, passage: Passage, members: Sequence[Member]) -> str:
        """The cast as a passage is shown it."""
        text = fold(passage.plain)
        here = [member for member in members if any(fold(name) in text for name in member.names)]
        named = {id(member) for member in here}
        others = [member for member in members if id(member) not in named]
        shown = [*here, *others][: self.settings.most_characters]
        lines = (
            f"- {member.name}" + (f" (also: {', '.join(member.names[1:6])})" if member.names[1:] else "")
            for member in shown
        )
        return "\n".join(lines) or "(nobody)"


_MOST_ENTRIES = 150
"""Shown to the model at once when entries are put together; rarer ones stay by themselves."""


def _readable(document: Document) -> str:
    text = document.plain
    if not text.strip():
        raise AnnotationRefused(f"{document.id}: has no text; the document is left out")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise AnnotationRefused(
            f"{document.id}: holds half a character at {error.start}, so the document is left out; "
            "read it again with its right encoding"
        ) from None
    return text


def _faults_of_sheets(passage: Passage, known: frozenset[str], answer: Sheets) -> list[str]:
    unlisted = [sheet for sheet in answer.characters if fold(sheet.name) not in known]
    return faults_of_sheets(passage, Sheets(characters=unlisted))


def _faults_of_marks(passage: Passage, speakers: dict[str, str], answer: Marks) -> list[str]:
    return [fault for _, fault in place(passage, answer, speakers).faults][:_MOST_FAULTS]


_MOST_FAULTS = 12
"""Told at once; a model that gets more wrong starts anew anyway."""


def _doubts(passage: Passage, placed: Placed) -> list[tuple[int, int]]:
    """Paragraphs with a fault, and speech whose speaker is unknown."""
    numbers = {number for number, _ in placed.faults if number}
    found = {passage.paragraphs[number - 1] for number in numbers}
    found |= {
        (span.start, span.end) for span in placed.spans if span.kind == "quote" and span.speaker is None
    }
    return sorted(found)
