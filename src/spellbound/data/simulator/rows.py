"""Simulated stories as training examples of the one schema."""

from collections.abc import Iterator
from itertools import count
from random import Random

from spellbound.data import examples as schema
from spellbound.data.fields import Provenance
from spellbound.data.simulator.examples import HELD_OUT_FROM, Example, examples
from spellbound.data.simulator.invented import with_invented_names
from spellbound.data.versions import program_version
from spellbound.errors import InputError

LICENCE = "Apache-2.0"


def to_examples(seed: int, *, invented_names: float = 0.0) -> list[schema.Example]:
    """Return the examples of a seed's story; `invented_names` is the share that gets names from no list.

    Raises InputError for a share outside of 0 to 1.
    """
    if not 0 <= invented_names <= 1:
        raise InputError(f"invented names {invented_names}: give a share from 0 to 1")
    rng = Random(f"names {seed}")
    return [
        _row(with_invented_names(row, rng) if rng.random() < invented_names else row, number)
        for number, row in enumerate(examples(seed))
    ]


def generate(seed: int, *, invented_names: float = 0.0) -> Iterator[schema.Example]:
    """Yield the examples of one seed after the other, from `seed` on, without end.

    Raises InputError for a negative seed, and where training seeds would reach the held-out ones.
    """
    if seed < 0:
        raise InputError(f"seed {seed}: give 0 or more")
    for number in count(seed):
        if seed < HELD_OUT_FROM <= number:
            raise InputError(f"seeds from {seed} reach the held-out ones at {HELD_OUT_FROM}; start lower")
        yield from to_examples(number, invented_names=invented_names)


def _row(row: Example, number: int) -> schema.Example:
    return schema.Example(
        id=f"simulator/{row.seed}/{number}",
        prompt=row.prompt,
        completion=row.completion,
        language="en",
        source=f"simulator/{row.seed}",
        licence=LICENCE,
        provenance=Provenance(annotator="simulator", versions={"spellbound": program_version()}),
        checks=row.checks,
    )
