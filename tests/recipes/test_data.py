"""What is learnt from: corpora and what of them is held out, exercises, stories and examples."""

import re
from argparse import Namespace
from datetime import timedelta
from itertools import cycle, islice
from pathlib import Path
from random import Random

import pytest
from tokenizers import Tokenizer

from recipes.nano import corpora as corpora_module
from recipes.nano import data, drills, rate
from recipes.nano.writers import Written
from spellbound.data.checks import Check
from spellbound.data.ratings import Ledger, Terms
from spellbound.data.simulator import HELD_OUT_FROM, generate, simulate
from spellbound.directives import Open, StoryPrompt, parse
from spellbound.errors import InputError
from spellbound.train.recipe_file import read_recipe
from tests.recipes.conftest import RECIPES


def test_a_play_is_text_with_its_speakers(corpora: Path) -> None:
    (play,) = corpora_module.read(corpora, "drama_de")
    assert play.text == "Erster Akt\n\n(Ein Wald.)\n\nAnna: Wer da?"


def test_about_a_twentieth_is_held_out_by_the_rule_of_the_trainer() -> None:
    assert 400 < sum(corpora_module.held_out(f"story/{n}") for n in range(10_000)) < 600
    for stage in ("language", "stories"):
        assert read_recipe(RECIPES / f"{stage}.toml").data.held_out == corpora_module.HELD_OUT


def test_damaged_and_missing_corpora_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        corpora_module.collections(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no \.parquet file"):
        corpora_module.collections(tmp_path)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="no whole Parquet file"):
        list(corpora_module.read(tmp_path, "bad"))


def test_everybody_of_an_exercise_speaks_under_their_id(bpe: Tokenizer) -> None:
    for text in islice(drills.exercises(bpe, 30, seed=1), 2, None, 3):
        sheets, _, lines = text.partition("\n\n")
        known = dict(re.findall(r"- Name: (\w+) \w+\n- Speaker ID: (\w{6})", sheets))
        assert len(known) >= 2
        quotes = [event for event in parse(lines) if isinstance(event, Open) and event.kind == "quote"]
        assert {quote.speaker for quote in quotes} <= set(known.values())
        for speaker, first in re.findall(r'speaker="(\w+)">[^<]*</quote> (?:said|asked) (\w+)', lines):
            assert known[first] == speaker


def test_repeated_pieces_come_back_after_their_period(bpe: Tokenizer) -> None:
    for number, text in enumerate(drills.exercises(bpe, 30, seed=2)):
        if number % 3 == 2:
            continue
        pieces = list(text) if number % 3 == 0 else text.split(" ")
        assert any(
            all(pieces[place] == pieces[place - period] for place in range(period, len(pieces)))
            for period in range(4, 25)
            if 2 * period <= len(pieces)
        )


def test_exercises_are_a_function_of_the_seed(bpe: Tokenizer) -> None:
    first, again, other = (list(drills.exercises(bpe, 9, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_story_told_whole_is_a_prompt_that_wants_nothing() -> None:
    for seed in range(20):
        document = data.told_whole(seed, invented_names=0.0)
        prompt = StoryPrompt.parse(document.text)
        passages = simulate(seed).passages
        assert document.id == f"simulator/{seed}"
        assert prompt.instructions == ()
        assert set(prompt.characters) == set(simulate(seed).characters)
        assert not prompt.tags or prompt.past_story in "\n\n".join(passages)


def test_unseen_examples_are_held_out_openings_and_later_points_with_names_of_both_kinds() -> None:
    made = list(data.unseen(24))
    assert [example.source for example in made] == [
        f"simulator/{HELD_OUT_FROM + number}" for number in range(24)
    ]
    assert 4 < sum(not example.prompt.past_story for example in made) < 20
    invented = [
        not {person.name for person in example.prompt.characters}
        & {person.name for person in simulate(HELD_OUT_FROM + number).characters}
        for number, example in enumerate(made)
    ]
    assert invented == [number % 4 > 1 for number in range(24)]


@pytest.mark.parametrize(
    ("option", "count"), [("stories", 1_000_001), ("stories", 0), ("examples", 4_000_001), ("examples", -1)]
)
def test_counts_whose_seeds_are_of_another_use_are_refused(option: str, count: int, tmp_path: Path) -> None:
    counts = {"stories": 1, "examples": 1, option: count}
    with pytest.raises(InputError, match=f"--{option} {count}: give 1 to"):
        data.main(Namespace(out=tmp_path, valid=1, invented_names=0.0, processes=1, **counts))
    assert not list(tmp_path.iterdir())


def test_any_number_of_processes_writes_the_same_files(tmp_path: Path) -> None:
    written = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        data.main(
            Namespace(out=out, stories=3, examples=12, valid=1, invented_names=0.5, processes=processes)
        )
        written.append({path.name: path.read_bytes() for path in sorted((out / "data").iterdir())})
    assert written[0] == written[1]
    assert list(written[0]) == ["sft.parquet", "sft_valid.parquet", "stories.parquet"]


def test_readers_are_milder_or_stricter_but_like_what_is_right() -> None:
    examples = [each for each in islice(generate(data.RATED_FROM), 150) if each.checks]
    draw = Random(1)

    def scores(number: int, *answers: Written) -> list[float]:
        asked = zip(examples, answers, cycle(range(rate.READERS)))
        return [rate.rating(each, number, answer, "m", who, draw).score for each, answer, who in asked]

    good = scores(0, *(Written(each.completion, 0, True) for each in examples))
    bad = scores(1, *(Written("Nothing.", 0, False) for _ in examples))
    assert sum(good) / len(good) > 0.85
    assert sum(bad) / len(bad) < 0.3
    assert len({*good}) > 1


def test_a_wrong_speaker_is_flagged() -> None:
    example = next(each for each in generate(data.RATED_FROM) if each.prompt.tags)
    one, other = example.prompt.characters[:2]
    text = f'<quote speaker="{one.speaker_id}">Go,</quote> said {other.name.split()[0]}.'
    draw = Random(1)
    made = rate.rating(example, 0, Written(text, 0, True), "m", 0, draw)
    assert [flag.kind for flag in made.flags] == ["wrong speaker"]


def test_some_readers_never_agreed_and_some_took_it_back() -> None:
    terms = Terms(versions=frozenset({rate.VERSION}), at=rate.BEGIN + timedelta(days=90))
    assert len(set(rate.readers())) == rate.READERS
    assert Ledger(rate.consents(), terms).live == rate.READERS - rate.WITHOUT_CONSENT - rate.WITHDRAWN


def test_the_checks_of_invented_people_name_them() -> None:
    renamed = [each for each in data.unseen(40) if any(check.kind == "action_by" for check in each.checks)]
    for example in renamed:
        asked: list[Check] = [check for check in example.checks if check.kind == "action_by"]
        firsts = {person.name.split()[0] for person in example.prompt.characters}
        assert all(check.arguments[0] in firsts for check in asked)
