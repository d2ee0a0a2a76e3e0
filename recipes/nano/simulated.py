"""Stories of the simulator for this recipe: which seeds are trained on and which are kept for measuring."""

from collections.abc import Iterator

from spellbound.data.simulator import HELD_OUT_FROM, Example, examples
from spellbound.errors import InputError

__all__ = ["LICENSE", "Example", "training", "unseen"]

LICENSE = "Apache-2.0"


def training(stories: int, first: int = 0) -> Iterator[Example]:
    """Examples of the stories with the seeds first, first + 1, …; a story gives several."""
    if first + stories > HELD_OUT_FROM:
        raise InputError(
            f"{stories} stories from {first} on reach the held-out seeds, {HELD_OUT_FROM}; ask for fewer"
        )
    for seed in range(first, first + stories):
        yield from examples(seed)


def unseen(stories: int) -> Iterator[Example]:
    """One example of each of so many stories that no training has seen: openings and later points in turn."""
    for number in range(stories):
        found = examples(HELD_OUT_FROM + number)
        yield found[number % len(found)]
