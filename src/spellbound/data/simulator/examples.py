"""Training examples: a story cut at one point into a prompt and what comes next."""

import json
from dataclasses import dataclass
from random import Random

from spellbound.data.checks import Check
from spellbound.data.simulator.instruct import Wish, joined, wishes
from spellbound.data.simulator.plot import Story, simulate
from spellbound.directives import StoryPrompt, parse, render

HELD_OUT_FROM = 10_000_000
"""Seeds from here on are never used in training; evaluate on them."""

_PLAIN_SHARE = 0.12
_WEIGHT = {"happens": 5.0, "mood": 3.0, "speech": 1.0, "end": 3.0, "thing": 2.0, "place": 2.0, "length": 1.0}
_KIND_WEIGHT = {"speaks": 0.3, "action_by": 0.5, "first_speaker": 0.7, "silent": 2.0}
"""What nearly every passage does is worth little as an instruction."""


@dataclass(frozen=True, slots=True)
class Example:
    """One training row: what is asked, what answers it, and the rules that say whether an answer does."""

    prompt: StoryPrompt
    completion: str
    checks: tuple[Check, ...]
    seed: int

    def to_json(self) -> str:
        """Return the example as one line of JSON, the prompt as its text."""
        row = {
            "prompt": self.prompt.render(),
            "completion": self.completion,
            "checks": [json.loads(check.to_json()) for check in self.checks],
            "seed": self.seed,
        }
        return json.dumps(row, ensure_ascii=False)


def examples(seed: int) -> list[Example]:
    """Return the examples of a seed's story: its opening and up to three later points."""
    story = simulate(seed)
    rng = Random(f"examples {seed}")
    later = range(1, len(story.details))
    starts = [0, *sorted(rng.sample(later, min(len(later), rng.choice((1, 2, 2, 3)))))]
    return [_example(story, start, rng) for start in starts]


def _example(story: Story, start: int, rng: Random) -> Example:
    tags = rng.random() >= _PLAIN_SHARE
    stop = min(start + rng.choices((1, 2), (85, 15))[0], len(story.details))
    first = 0 if rng.random() < 0.6 else max(0, start - rng.choice((1, 1, 2)))
    past = "\n\n".join(story.passages[first:start])
    completion = "\n\n".join(story.passages[start:stop])
    if not tags:
        past, completion = _plain(past), _plain(completion)
    possible = wishes(story, story.details[start:stop], parse(completion), rng, tags=tags)
    chosen = _choose(possible, rng)
    characters = tuple(rng.sample(story.characters, len(story.characters)))
    prompt = StoryPrompt(characters, past, _instructions(chosen, story, rng), tags)
    return Example(prompt, completion, tuple(wish.check for wish in chosen), story.seed)


def _plain(text: str) -> str:
    return render(parse(text), to="plain")


def _weight(wish: Wish) -> float:
    return _WEIGHT.get(wish.group, 1.0) * _KIND_WEIGHT.get(wish.check.kind, 1.0)


def _choose(possible: list[Wish], rng: Random) -> list[Wish]:
    """Draw up to four wishes, of different groups except for speech."""
    wanted = rng.choices((0, 1, 2, 3, 4), (0.5, 2, 4, 3, 2))[0]
    chosen: list[Wish] = []
    while possible and len(chosen) < wanted:
        wish = rng.choices(possible, [_weight(wish) for wish in possible])[0]
        chosen.append(wish)
        possible = [
            other
            for other in possible
            if other.group != wish.group and other.check.arguments != wish.check.arguments
        ]
    return chosen


def _instructions(chosen: list[Wish], story: Story, rng: Random) -> tuple[str, ...]:
    """Write the wishes as separate instructions, or now and then as one."""
    if len(chosen) > 1 and rng.random() < 0.4:
        return (joined(chosen, story),)
    return tuple(wish.text for wish in chosen)
