"""The same story with people nobody has heard of: invented names, so that only the sheets say who is who.

The simulator's few hundred names come often enough to be learnt by heart, and a model that knows names need
not look.
"""

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from recipes.nano import drills
from spellbound.data.simulator import Example


def renamed(examples: Iterable[Example], share: float, seed: int) -> Iterator[Example]:
    """The examples, this share of them with another name for everybody in the cast."""
    draw = random.Random(f"names {seed}")
    for example in examples:
        yield with_new_names(example, draw) if draw.random() < share else example


def with_new_names(example: Example, draw: random.Random) -> Example:
    """One example in which every name of the cast is an invented one, sheets and instructions included."""
    prompt = example.prompt
    words = sorted({word for character in prompt.characters for word in character.name.split()})
    new = {word: drills.name(draw) for word in words}
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b")

    def changed(text: str) -> str:
        return pattern.sub(lambda found: new[found[0]], text)

    cast = tuple(
        replace(
            person,
            name=changed(person.name),
            details=tuple((key, changed(value)) for key, value in person.details),
        )
        for person in prompt.characters
    )
    told = replace(
        prompt,
        characters=cast,
        past_story=changed(prompt.past_story),
        instructions=tuple(map(changed, prompt.instructions)),
    )
    return replace(example, prompt=told, completion=changed(example.completion))
