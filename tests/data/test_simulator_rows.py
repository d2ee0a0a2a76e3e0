"""Simulated stories as rows of the schema: held-out seeds stay out, and names can be ones nobody knows."""

import re
from dataclasses import replace
from itertools import islice, pairwise
from random import Random

import pytest

from spellbound.data.simulator import (
    HELD_OUT_FROM,
    Example,
    bank,
    examples,
    generate,
    invented_name,
    to_examples,
    with_invented_names,
)
from spellbound.directives import Character, StreamParser, is_speaker_id, parse
from spellbound.errors import InputError


def test_rows_are_the_examples_with_an_origin() -> None:
    rows = to_examples(3)
    assert [(row.prompt, row.completion, row.checks) for row in rows] == [
        (one.prompt, one.completion, one.checks) for one in examples(3)
    ]
    assert {(row.source, row.language, row.licence, row.provenance.annotator) for row in rows} == {
        ("simulator/3", "en", "Apache-2.0", "simulator")
    }
    assert [row.id for row in rows] == [f"simulator/3/{number}" for number in range(len(rows))]
    assert rows == to_examples(3)


def test_generating_goes_from_seed_to_seed() -> None:
    first = to_examples(5)
    assert list(islice(generate(5), len(first) + 1)) == [*first, to_examples(6)[0]]


def test_generating_stops_before_the_held_out_seeds() -> None:
    below = len(to_examples(HELD_OUT_FROM - 1))
    rows = generate(HELD_OUT_FROM - 1)
    assert len(list(islice(rows, below))) == below
    with pytest.raises(InputError, match=str(HELD_OUT_FROM)):
        next(rows)
    assert next(generate(HELD_OUT_FROM)).source == f"simulator/{HELD_OUT_FROM}"


@pytest.mark.parametrize(("seed", "share"), [(-1, 0.0), (0, 1.5), (0, -0.1)])
def test_nonsense_is_refused(seed: int, share: float) -> None:
    with pytest.raises(InputError, match="give"):
        next(generate(seed, invented_names=share))


def renamed(seed: int) -> list[tuple[Example, Example]]:
    return [(one, with_invented_names(one, Random(seed))) for one in examples(seed)]


@pytest.mark.parametrize("seed", range(25))
def test_every_name_is_another_one_everywhere(seed: int) -> None:
    for before, after in renamed(seed):
        old = {word for person in before.prompt.characters for word in person.name.split()}
        text = after.prompt.render() + after.completion + " ".join(check.to_json() for check in after.checks)
        assert not old & set(re.findall(r"\w+", text))
        assert [one.speaker_id for one in after.prompt.characters] == [
            one.speaker_id for one in before.prompt.characters
        ]
        parser = StreamParser(after.prompt.characters)
        parser.feed(after.completion)
        parser.close()
        assert not parser.repairs


def test_checks_hold_after_renaming() -> None:
    for row in (row for seed in range(120) for row in to_examples(seed, invented_names=1.0)):
        assert all(check.holds(parse(row.completion)) for check in row.checks), (row.id, row.checks)


def test_a_share_is_renamed() -> None:
    given = [row for seed in range(60) for row in to_examples(seed)]
    made = [row for seed in range(60) for row in to_examples(seed, invented_names=0.5)]
    changed = sum(one.completion != other.completion for one, other in zip(given, made, strict=True))
    assert 0.3 < changed / len(given) < 0.7
    assert [row.id for row in given] == [row.id for row in made]


def test_invented_names_are_many_and_look_like_names() -> None:
    rng = Random(0)
    names = [invented_name(rng) for _ in range(3000)]
    assert len(set(names)) > 2700
    assert all(re.fullmatch(r"[A-Z][a-z]{2,9}", name) for name in names)


def test_invented_names_are_no_words_of_the_stories() -> None:
    rng = Random(0)
    names = {invented_name(rng).lower() for _ in range(20_000)}
    told = {
        word for seed in range(40) for row in to_examples(seed) for word in row.completion.lower().split()
    }
    assert {"she", "her", "ten", "man"} <= bank.words()
    assert not names & told
    assert not names & bank.words()


def test_speaker_ids_are_those_of_the_language() -> None:
    ids = [one.speaker_id for seed in range(50) for one in to_examples(seed)[0].prompt.characters]
    assert all(map(is_speaker_id, ids))
    assert len(set(ids)) == len(ids)


def test_no_invented_name_is_the_beginning_of_another() -> None:
    row = examples(3)[0]
    crowd = tuple(Character(f"Person{number}", f"{number:06d}") for number in range(150))
    named = with_invented_names(replace(row, prompt=replace(row.prompt, characters=crowd)), Random(0))
    names = sorted(one.name for one in named.prompt.characters)
    assert len(names) == len(crowd)
    assert not [one for one, other in pairwise(names) if other.startswith(one)]
