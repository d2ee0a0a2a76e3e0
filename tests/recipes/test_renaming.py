"""Invented names: everywhere in an example, and nowhere a trace of the old ones."""

import random
import re

from recipes.nano import renaming
from spellbound.data.simulator import examples
from spellbound.directives import StreamParser


def test_every_name_is_another_one_everywhere() -> None:
    for seed in range(20):
        for example in examples(seed):
            made = renaming.with_new_names(example, random.Random(seed))
            old = {word for person in example.prompt.characters for word in person.name.split()}
            text = made.prompt.render() + made.completion
            assert not old & set(re.findall(r"\w+", text))
            assert [p.speaker_id for p in made.prompt.characters] == [
                p.speaker_id for p in example.prompt.characters
            ]
            parser = StreamParser(made.prompt.characters)
            parser.feed(made.completion)
            parser.close()
            assert not parser.repairs


def test_a_share_of_the_examples_is_renamed() -> None:
    given = [example for seed in range(60) for example in examples(seed)]
    made = list(renaming.renamed(given, 0.5, seed=1))
    changed = sum(a.completion != b.completion for a, b in zip(given, made, strict=True))
    assert 0.3 < changed / len(given) < 0.7
    assert made == list(renaming.renamed(given, 0.5, seed=1))
    assert given == list(renaming.renamed(given, 0.0, seed=1))
