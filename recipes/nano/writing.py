"""What nano writes, measured: is it well-formed, does it do as told, does it end by itself.

Everything here takes a plain callable, so that any generator can be measured and the measuring can be tested.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from recipes.nano.simulated import Example
from spellbound.directives import Open, StoryPrompt, StreamParser, parse, render


@dataclass(frozen=True)
class Written:
    """A passage and what was wrong with it as it came from the model."""

    text: str
    mended: int
    """Flaws of the markup that the generator mended in `text`."""
    ended: bool
    """The model ended it by itself, before the limit."""


Generate = Callable[[StoryPrompt, int, bool], Written]
"""(prompt, seed, constrained) -> what was written."""


def well_formed(written: Written, prompt: StoryPrompt) -> bool:
    """Whether nothing had to be mended and every quote is by a speaker of the cast."""
    parser = StreamParser(prompt.characters)
    parser.feed(written.text)
    parser.close()
    return not written.mended and not parser.repairs


@dataclass
class Tally:
    """Counts over passages."""

    passages: int = 0
    well_formed: int = 0
    ended: int = 0
    tagged: int = 0
    """Passages with at least one quote, where tags were asked for."""
    tags_asked: int = 0
    words: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    followed: Counter[str] = field(default_factory=Counter)

    def add(self, example: Example, written: Written) -> None:
        """Counts one passage."""
        events = parse(written.text)
        self.passages += 1
        self.well_formed += well_formed(written, example.prompt)
        self.ended += written.ended
        self.tags_asked += example.prompt.tags
        self.tagged += example.prompt.tags and any(isinstance(e, Open) and e.kind == "quote" for e in events)
        self.words += len(render(events, to="plain").split())
        for check in example.checks:
            self.asked[check.kind] += 1
            self.followed[check.kind] += check.holds(events)

    def report(self) -> dict[str, Any]:
        """Counts and shares as plain values."""
        kinds = {
            kind: {"asked": n, "followed": self.followed[kind]} for kind, n in sorted(self.asked.items())
        }
        return {
            "passages": self.passages,
            "well_formed": self.well_formed,
            "ended": self.ended,
            "tags_asked": self.tags_asked,
            "tagged": self.tagged,
            "words": self.words,
            "instructions": {"asked": self.asked.total(), "followed": self.followed.total(), "kinds": kinds},
        }
