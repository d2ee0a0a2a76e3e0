"""How varied are the simulated stories? Counted, not claimed."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from spellbound.data.checks import Check
from spellbound.directives import Open, StoryPrompt, Text, parse

_SENTENCE = re.compile(r"[^.!?]+[.!?]+")
_WORD = re.compile(r"[\w'’]+")


class Measured(Protocol):
    """What is measured of an example, whatever else it has."""

    @property
    def prompt(self) -> StoryPrompt:
        """What is asked."""

    @property
    def completion(self) -> str:
        """What answers it."""

    @property
    def checks(self) -> tuple[Check, ...]:
        """What the answer keeps."""


@dataclass(frozen=True, slots=True)
class Report:
    """Figures over a sample of examples; shares are between 0 and 1."""

    examples: int
    distinct_completions: float
    distinct_sentences: float
    distinct_n: tuple[float, float, float, float]
    vocabulary: int
    words_per_sentence: float
    words_per_completion: float
    tags_per_completion: dict[str, float]
    without_tags: float
    without_past: float
    kinds: dict[str, int]

    def lines(self) -> list[str]:
        """Return the figures as lines to print."""
        grams = ", ".join(f"{n}: {share:.3f}" for n, share in enumerate(self.distinct_n, 1))
        tags = ", ".join(f"{kind} {count:.2f}" for kind, count in self.tags_per_completion.items())
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.kinds.items())
        return [
            f"examples                   {self.examples}",
            f"distinct completions       {self.distinct_completions:.4f}",
            f"distinct sentences         {self.distinct_sentences:.3f}",
            f"distinct n-grams           {grams}",
            f"vocabulary                 {self.vocabulary}",
            f"words per sentence         {self.words_per_sentence:.1f}",
            f"words per completion       {self.words_per_completion:.1f}",
            f"tags per tagged completion {tags}",
            f"without tags               {self.without_tags:.3f}",
            f"without past story         {self.without_past:.3f}",
            f"checks                     {kinds}",
        ]


def measure(sample: Iterable[Measured]) -> Report:
    """Measure a sample; sentences and n-grams are compared in lower case, without tags."""
    rows = list(sample)
    sentences: Counter[str] = Counter()
    grams: list[set[tuple[str, ...]]] = [set() for _ in range(4)]
    totals = [0, 0, 0, 0]
    tags: Counter[str] = Counter(quote=0, action=0, sound=0)
    words_total = 0
    for row in rows:
        events = parse(row.completion)
        tags.update(event.kind for event in events if isinstance(event, Open))
        text = "".join(event.text for event in events if isinstance(event, Text)).lower()
        sentences.update(sentence.strip(" \n“”") for sentence in _SENTENCE.findall(text))
        words = _WORD.findall(text)
        words_total += len(words)
        for n in range(4):
            found = list(zip(*(words[shift:] for shift in range(n + 1)), strict=False))
            grams[n].update(found)
            totals[n] += len(found)
    tagged = sum(row.prompt.tags for row in rows) or 1
    one, two, three, four = (len(grams[n]) / max(1, totals[n]) for n in range(4))
    return Report(
        examples=len(rows),
        distinct_completions=len({row.completion for row in rows}) / max(1, len(rows)),
        distinct_sentences=len(sentences) / max(1, sentences.total()),
        distinct_n=(one, two, three, four),
        vocabulary=len(grams[0]),
        words_per_sentence=words_total / max(1, sentences.total()),
        words_per_completion=words_total / max(1, len(rows)),
        tags_per_completion={kind: count / tagged for kind, count in tags.items()},
        without_tags=1 - sum(row.prompt.tags for row in rows) / max(1, len(rows)),
        without_past=sum(not row.prompt.past_story for row in rows) / max(1, len(rows)),
        kinds=dict(Counter(check.kind for row in rows for check in row.checks).most_common()),
    )
