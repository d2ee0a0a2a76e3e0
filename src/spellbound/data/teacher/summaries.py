"""What has happened so far, in few words: a summary that is brought up to date passage by passage."""

from functools import partial

from spellbound.data.teacher.client import Teacher
from spellbound.data.teacher.overlap import longest_run
from spellbound.data.teacher.prompts import messages
from spellbound.data.teacher.questions import Form, Question

_NOTHING = "(The story begins.)"
_LONGEST_QUOTE = 12
"""Words in a row that a summary may take over."""


class Summary(Form):
    """The story so far."""

    summary: str


class Summaries:
    """Summaries of one story up to any of its paragraphs, each made from the one before."""

    def __init__(
        self, teacher: Teacher, language: str, paragraphs: list[str], words: int, step: int = 1500
    ) -> None:
        """`paragraphs`: plain text; `words`: longest summary; `step`: words read at once."""
        self._teacher, self._language, self._paragraphs = teacher, language, paragraphs
        self._words, self._step = words, step
        self._done: list[tuple[int, str]] = [(0, "")]

    def up_to(self, stop: int) -> str:
        """Return a summary of all paragraphs before `stop`, empty if the model gave none that can be used."""
        while (following := self._next(self._done[-1][0])) <= stop and self._done[-1][0] < stop:
            self._done.append((following, self._updated(self._done[-1][1], self._done[-1][0], following)))
        place, summary = max((each for each in self._done if each[0] <= stop), key=lambda each: each[0])
        return self._updated(summary, place, stop) if place < stop else summary

    def _next(self, start: int) -> int:
        """Where the passage from a paragraph on ends."""
        held = stop = 0
        for stop in range(start, len(self._paragraphs)):
            held += len(self._paragraphs[stop].split())
            if held >= self._step:
                return stop + 1
        return max(stop + 1, start + 1)

    def _updated(self, summary: str, start: int, stop: int) -> str:
        passage = "\n\n".join(self._paragraphs[start:stop])
        asked = messages(
            "summary",
            self._language,
            summary=summary or _NOTHING,
            passage=passage,
            words=str(self._words),
        )
        answer = self._teacher.ask(Question("summary", asked, Summary, partial(self._faults, passage)))
        if answer.value is None or answer.faults:
            return summary
        return " ".join(answer.value.summary.split())

    def _faults(self, passage: str, answer: Summary) -> list[str]:
        words = len(answer.summary.split())
        run = longest_run(answer.summary, passage, _LONGEST_QUOTE)
        faults = ["The summary is empty."] if not words else []
        # A little over is no reason to pay again.
        if words > self._words * 1.25:
            faults.append(f"The summary has {words} words, more than {self._words}; be briefer.")
        if run:
            faults.append(f"The words {run[:80]!r} are taken over from the passage; use your own.")
        return faults
