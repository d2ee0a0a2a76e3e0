"""Instructions by rule: from a passage to what could have asked for it, with checks for any other answer."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from random import Random
from typing import Any, ClassVar, Self

from spellbound.data.examples import Example
from spellbound.data.fields import Provenance
from spellbound.data.instructions.phrasing import FILES, phrases
from spellbound.data.instructions.salience import Salience
from spellbound.data.instructions.units import Names
from spellbound.data.instructions.windows import Window, WindowSettings, windows
from spellbound.data.instructions.wishes import GROUPS, Wish, wishes
from spellbound.data.named import typed
from spellbound.data.tagged import TaggedStory
from spellbound.data.versions import digest_of, program_version
from spellbound.directives import StoryPrompt
from spellbound.errors import InputError

WEIGHTS: Mapping[str, float] = {
    "speaks": 0.4,
    "silent": 1.0,
    "asks": 0.8,
    "min_quotes": 0.7,
    "has_action": 0.6,
    "has_sound": 1.5,
    "no_sound": 0.3,
    "no_quote": 0.8,
    "mentions": 2.0,
    "avoids": 0.8,
    "place": 2.0,
    "mood_word": 2.0,
    "person": 0.7,
    "tense": 0.7,
    "ends_with_words": 1.5,
    "min_words": 0.5,
    "max_words": 0.5,
}
"""How often a kind is drawn where it is possible; 1 for others. What nearly all passages do weighs little."""

_WINDOW_FIELDS = {each.name for each in fields(WindowSettings)}
_COUNTS = (0.5, 2.0, 3.5, 3.0, 1.5, 0.7)
"""Weights of 0 to 5 instructions."""
_JOINED = 0.3
"""Share in which several instructions are written as one."""


@dataclass(frozen=True, kw_only=True)
class Derive:
    """Cuts stories into windows and asks for what their completions do, in the language of the story.

    Deterministic: the same story and settings give the same examples with the same ids.
    """

    name: ClassVar[str] = "derive"

    windows: WindowSettings = field(default_factory=WindowSettings)
    instructions: int = 5
    """At most so many instructions in an example, from 0 to 5; how many is drawn."""
    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)
    """Weight of each kind of check, 0 or more; 1 for those not named."""

    def __post_init__(self) -> None:
        """Refuse kinds that are not derived, and numbers out of range."""
        if not 0 <= self.instructions < len(_COUNTS):
            raise InputError(f"instructions {self.instructions}: give 0 to {len(_COUNTS) - 1}")
        for kind, weight in self.weights.items():
            if kind not in GROUPS:
                raise InputError(
                    f"weight of {kind!r}: no such kind is derived; use {', '.join(sorted(GROUPS))}"
                )
            if not 0 <= weight < float("inf"):
                raise InputError(f"weight {weight} of {kind}: give a number from 0 on")

    @classmethod
    def settings(cls) -> list[str]:
        """The names that `of` takes."""
        return [each.name for kind in (WindowSettings, cls) for each in fields(kind)]

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Make one from values by name, fields of `WindowSettings` among them.

        Raises TypeError for other names, and InputError for values of another kind.
        """
        values = typed(values, cls, WindowSettings)
        if cut := {name: values.pop(name) for name in _WINDOW_FIELDS & values.keys()}:
            values["windows"] = WindowSettings(**cut)
        return cls(**values)

    def instruct(self, story: TaggedStory) -> Iterator[Example]:
        """Yield one example for each window of the story, in its order."""
        salience, calling = Salience(story), Names(story)
        for window in windows(story, self.windows):
            place = f"{window.first}-{window.start}-{window.stop}"
            rng = Random(f"{self.windows.seed} {story.id} {place} instructions")
            possible = wishes(window, phrases(story.language), salience, calling, story.language, rng)
            chosen = self._choose(possible, rng)
            yield self._example(story, window, _texts(chosen, rng), chosen, place)

    def _choose(self, possible: list[Wish], rng: Random) -> list[Wish]:
        """Draw kinds by weight, then one wish of each, so that a large cast does not crowd out the rest."""
        wanted = rng.choices(range(self.instructions + 1), _COUNTS[: self.instructions + 1])[0]
        chosen: list[Wish] = []
        while possible and len(chosen) < wanted:
            kinds = sorted({wish.check.kind for wish in possible})
            weights = [self.weights.get(kind, 1.0) for kind in kinds]
            if not any(weights):
                break
            kind = rng.choices(kinds, weights)[0]
            wish = rng.choice([wish for wish in possible if wish.check.kind == kind])
            chosen.append(wish)
            possible = [other for other in possible if other.group != wish.group]
        return chosen

    def _example(
        self, story: TaggedStory, window: Window, texts: tuple[str, ...], chosen: list[Wish], place: str
    ) -> Example:
        return Example(
            id=self._id(story, place),
            prompt=StoryPrompt(window.characters, window.past, texts, window.tags),
            completion=window.completion,
            language=story.language,
            source=story.id,
            licence=story.licence,
            provenance=Provenance(
                annotator=f"{story.provenance.annotator}+{self.name}",
                model=story.provenance.model,
                versions={
                    **story.provenance.versions,
                    "spellbound": program_version(),
                    "derive": digest_of("spellbound.data.instructions", *FILES),
                },
            ),
            checks=tuple(wish.check for wish in chosen),
        )

    def _id(self, story: TaggedStory, place: str) -> str:
        settings = {**asdict(self), "weights": dict(self.weights)}
        key = json.dumps(
            [story.id, story.provenance.annotator, place, settings], sort_keys=True, ensure_ascii=True
        )
        return hashlib.sha256(key.encode("ascii")).hexdigest()[:24]


def _texts(chosen: list[Wish], rng: Random) -> tuple[str, ...]:
    texts = tuple(wish.text for wish in chosen)
    return (" ".join(texts),) if len(texts) > 1 and rng.random() < _JOINED else texts
