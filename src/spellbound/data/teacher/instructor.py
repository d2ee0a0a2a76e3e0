"""The instructor `teacher`: a model writes what a writer could have been asked for, quoting nothing."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from spellbound.data.documents import SCENE_BREAK
from spellbound.data.examples import Example
from spellbound.data.fields import Provenance
from spellbound.data.instructions.units import Units
from spellbound.data.instructions.windows import Window, WindowSettings, windows
from spellbound.data.tagged import TaggedStory
from spellbound.data.teacher.client import Teacher
from spellbound.data.teacher.making import teacher_and_rest
from spellbound.data.teacher.overlap import longest_run
from spellbound.data.teacher.prompts import messages, prompts_version
from spellbound.data.teacher.questions import Answer, Form, Question
from spellbound.data.teacher.summaries import Summaries
from spellbound.data.versions import program_version
from spellbound.directives import StoryPrompt, Text, parse, render
from spellbound.errors import InputError

_LONGEST_INSTRUCTION = 80
"""Words."""


@dataclass(frozen=True, kw_only=True)
class InstructorSettings:
    """What instructions a teacher is to write. How stories are cut: `WindowSettings`."""

    constraints: tuple[int, int] = (1, 6)
    """Fewest and most wishes after the main instruction; how many is drawn for each example."""
    longest_run: int = 5
    """Words in a row that an instruction may share with the continuation."""
    past_shown: int = 400
    """Words of the past story, from its end, that the model sees."""
    keep_score: int = 0
    """Keep what the model itself gives at least this score from 1 to 5; 0: do not ask."""
    summaries: float = 0.0
    """Share of the windows with a cut-off past that get a summary of what was cut off."""
    summary_words: int = 250
    """Longest summary."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        low, high = self.constraints
        if not 1 <= low <= high <= 20:
            raise InputError(
                f"constraints {low}, {high}: give two numbers from 1 to 20, the smaller one first"
            )
        if self.longest_run < 1 or self.past_shown < 0 or self.summary_words < 20:
            raise InputError(
                f"longest_run {self.longest_run}, past_shown {self.past_shown}, summary_words "
                f"{self.summary_words}: give at least 1, 0 and 20"
            )
        if not 0 <= self.keep_score <= 5:
            raise InputError(f"keep_score {self.keep_score}: give 1 to 5, or 0 not to ask")
        if not 0 <= self.summaries <= 1:
            raise InputError(f"summaries {self.summaries} is no share; give a number from 0 to 1")


class Instructions(Form):
    """A main instruction, and wishes in order of importance."""

    instruction: str
    constraints: list[str]


class Score(Form):
    """How well a text answers its instructions."""

    reason: str
    score: int


class TeacherInstructor:
    """Cuts stories into windows and lets a teacher write the instructions of each."""

    name = "teacher"

    def __init__(
        self, teacher: Teacher | None = None, *, settings: Path | None = None, **values: Any
    ) -> None:
        """Take a teacher, or the settings of one: by name, or from a TOML file whose values they change.

        Fields of `InstructorSettings` and `WindowSettings` go by name too, `seed` to all.
        """
        self.teacher, both = teacher_and_rest(
            teacher, settings, "instruct", values, InstructorSettings, WindowSettings
        )
        self.settings: InstructorSettings = both[0]
        self.windows: WindowSettings = both[1]

    def instruct(self, story: TaggedStory) -> Iterator[Example]:
        """Yield the examples of a story, in its order; what the teacher did not manage is left out.

        Raises TeacherStopped at a limit.
        """
        past = _Past(self.teacher, story, self.settings, self.windows)
        cut = windows(story, self.windows)
        while batch := list(islice(cut, 4 * self.teacher.settings.concurrency)):
            answers = self.teacher.ask_all([self._question(story, window) for window in batch])
            written = [
                (window, texts)
                for window, answer in zip(batch, answers, strict=True)
                if (texts := _texts(answer)) is not None
            ]
            for window, texts in self._good(story, written):
                yield self._example(story, window, texts, past.of(window))

    def report(self) -> str:
        """Return what was asked and what it cost, in lines for people."""
        return self.teacher.usage.report()

    def _question(self, story: TaggedStory, window: Window) -> Question[Instructions]:
        count = self._random(story, window, "count").randint(*self.settings.constraints)
        told = _told(window.completion)
        asked = messages(
            "instruct",
            story.language,
            count=str(count),
            run=str(self.settings.longest_run),
            cast="\n".join(f"- {character.name}" for character in window.characters) or "(nobody)",
            past=_end_of(_told(window.past), self.settings.past_shown) or "(none)",
            continuation=told,
        )
        return Question("instructions", asked, Instructions, partial(self._faults, told, count))

    def _faults(self, told: str, count: int, answer: Instructions) -> list[str]:
        texts = [answer.instruction, *answer.constraints]
        faults = ["An instruction is empty."] if not all(text.strip() for text in texts) else []
        if not 1 <= len(answer.constraints) <= count:
            faults.append(f"There are {len(answer.constraints)} constraints; give {count}.")
        for text in texts:
            if run := longest_run(text, told, self.settings.longest_run):
                faults.append(
                    f"The words {run[:80]!r} are taken over from the continuation; do not quote it."
                )
            if (words := len(text.split())) > _LONGEST_INSTRUCTION:
                faults.append(f"The text that begins {text[:40]!r} has {words} words; be briefer.")
        if len({text.strip().casefold() for text in texts}) < len(texts):
            faults.append("Two of the texts are the same.")
        return faults

    def _good(
        self, story: TaggedStory, written: list[tuple[Window, list[str]]]
    ) -> list[tuple[Window, list[str]]]:
        """Leave out what the teacher itself gives too low a score."""
        if not self.settings.keep_score:
            return written
        questions = [
            Question(
                "score",
                messages(
                    "score",
                    story.language,
                    instructions="\n".join(f"- {text}" for text in texts),
                    continuation=_told(window.completion),
                ),
                Score,
                _faults_of_score,
            )
            for window, texts in written
        ]
        answers = self.teacher.ask_all(questions)
        return [
            each
            for each, answer in zip(written, answers, strict=True)
            if answer.value and not answer.faults and answer.value.score >= self.settings.keep_score
        ]

    def _example(self, story: TaggedStory, window: Window, texts: list[str], past: str) -> Example:
        made_with = {
            "spellbound": program_version(),
            "teacher prompts": prompts_version(),
            **({"annotator model": story.provenance.model} if story.provenance.model else {}),
        }
        return Example(
            id=self._id(story, window),
            prompt=StoryPrompt(window.characters, past, tuple(texts), window.tags),
            completion=window.completion,
            language=story.language,
            source=story.id,
            licence=story.licence,
            provenance=Provenance(
                annotator=f"{story.provenance.annotator}+{self.name}",
                model=self.teacher.settings.model,
                versions={**story.provenance.versions, **made_with},
            ),
        )

    def _id(self, story: TaggedStory, window: Window) -> str:
        """The same in every build, another one for other settings, prompts or models."""
        made_of = [
            story.id,
            [window.first, window.start, window.stop],
            asdict(self.settings),
            asdict(self.windows),
            [self.name, self.teacher.settings.model, prompts_version()],
        ]
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:20]

    def _random(self, story: TaggedStory, window: Window, what: str) -> Random:
        return Random(f"{self.windows.seed} {story.id} {window.start} {window.stop} {what}")


class _Past:
    """The past story of a window: what it shows, and for some a summary of what is cut off before it."""

    def __init__(
        self, teacher: Teacher, story: TaggedStory, settings: InstructorSettings, cut: WindowSettings
    ) -> None:
        self._seed = f"{cut.seed} {story.id}"
        self._share = settings.summaries
        self._summaries: Summaries | None = None
        if self._share:
            paragraphs = [_told(unit.markup) for unit in Units(story, cut.marks).units]
            self._summaries = Summaries(teacher, story.language, paragraphs, settings.summary_words)

    def of(self, window: Window) -> str:
        """Return the markup of a window's past story."""
        chosen = Random(f"{self._seed} {window.start} {window.stop} summary").random() < self._share
        if self._summaries is None or not chosen or window.first == 0 or not window.past:
            return window.past
        summary = self._summaries.up_to(window.first)
        if not summary:
            return window.past
        return f"{render([Text(summary)], 'tagged')}\n\n{SCENE_BREAK}\n\n{window.past}"


def _faults_of_score(answer: Score) -> list[str]:
    return [] if 1 <= answer.score <= 5 else [f"The score is {answer.score}; give 1 to 5."]


def _texts(answer: Answer[Instructions]) -> list[str] | None:
    """Return instruction and constraints, each on one line; None if the answer cannot be used."""
    if answer.value is None or answer.faults:
        return None
    return [" ".join(text.split()) for text in (answer.value.instruction, *answer.value.constraints)]


def _told(markup: str) -> str:
    return "".join(event.text for event in parse(markup) if isinstance(event, Text))


def _end_of(text: str, words: int) -> str:
    """Return the end of a text, from a paragraph's beginning, of about so many words."""
    kept: list[str] = []
    held = 0
    for paragraph in reversed(text.split("\n\n")):
        held += len(paragraph.split())
        if kept and held > words:
            break
        kept.append(paragraph)
    return "\n\n".join(reversed(kept)) if words else ""
